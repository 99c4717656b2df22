//! Where our own programs are.

use std::path::PathBuf;

/// The path of one of our binaries: in `THEORIS_BIN_DIR`, or beside the test that runs.
#[track_caller]
pub fn path(name: &str) -> PathBuf {
    let directory = std::env::var_os("THEORIS_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let me = std::env::current_exe().unwrap();
        let directory = me.parent().unwrap();
        if directory.ends_with("deps") {
            directory.parent().unwrap().to_owned()
        } else {
            directory.to_owned()
        }
    });
    let path = directory.join(name);
    assert!(path.exists(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}
