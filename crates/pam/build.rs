//! Lets the linker find PAM without its development package.
//!
//! `-lpam` looks for `libpam.so`, a link that only `libpam0g-dev` brings; the library itself
//! (`libpam.so.0`) is on every host. So a link to it is made where only this build looks.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libpam.so.0";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=THEORIS_LIBPAM");
    let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let given = env::var_os("THEORIS_LIBPAM").map(PathBuf::from);
    let Some(library) = given.or_else(find) else {
        println!("cargo:warning={LIBRARY} not found: install PAM, or name it in THEORIS_LIBPAM");
        return;
    };
    let link = directory.join("libpam.so");
    let _ = std::fs::remove_file(&link);
    match symlink(&library, &link) {
        Ok(()) => println!("cargo:rustc-link-search=native={}", directory.display()),
        Err(error) => println!("cargo:warning=cannot make {}: {error}", link.display()),
    }
}

/// Debian keeps libraries in a directory per architecture, Red Hat in lib64.
fn find() -> Option<PathBuf> {
    let machine = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let multiarch = match machine.as_str() {
        "x86" => "i386-linux-gnu".to_owned(),
        "arm" => "arm-linux-gnueabihf".to_owned(),
        other => format!("{other}-linux-gnu"),
    };
    ["/usr/lib", "/lib"]
        .iter()
        .flat_map(|root| {
            [Path::new(root).join(&multiarch), format!("{root}64").into(), root.into()]
        })
        .map(|directory| directory.join(LIBRARY))
        .find(|path| path.exists())
}
