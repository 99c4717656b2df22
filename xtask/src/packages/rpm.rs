//! An .rpm, made by rpmbuild from the same tree; its programs may need no newer glibc than that of Rocky Linux 8.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::contents::Package;
use super::needs::Needs;
use super::{deb, tree};
use crate::run::{Done, cargo, command, failed, must, root, target_directory};

/// The oldest glibc on which a program of ours has to start: that of Rocky Linux 8 and its kin.
const GLIBC: &[u32] = &[2, 28];

/// What builds against an older glibc than the machine's own: zig has the symbols of all of them.
const TOOLS: [&str; 2] = ["ziglang==0.15.2", "cargo-zigbuild==0.24.0"];

/// Builds all programs against that glibc; gives their directory.
pub fn programs() -> Result<PathBuf, String> {
    let tools = target_directory().join("tools/rpm");
    let zigbuild = tools.join("bin/cargo-zigbuild");
    if !zigbuild.exists() {
        must(command("python3").args(["-m", "venv"]).arg(&tools))?;
        must(command(tools.join("bin/pip").as_path()).args(["install", "--quiet"]).args(TOOLS))?;
    }
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let old = target_directory().join("glibc-2.28");
    let version = GLIBC.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    let mut build = cargo(&["zigbuild", "--release", "--workspace", "--exclude", "xtask"]);
    build.args(["--bins", "--target"]).arg(format!("{target}.{version}"));
    build.env("CARGO_TARGET_DIR", &old);
    let path = std::env::var("PATH").unwrap_or_default();
    build.env("PATH", format!("{}:{path}", tools.join("bin").display()));
    must(&mut build)?;
    Ok(old.join(target).join("release"))
}

/// Makes `directory/NAME-VERSION-REVISION.ARCHITECTURE.rpm`.
pub fn build(package: &Package, directory: &Path, revision: &str) -> Result<PathBuf, String> {
    let top = directory.join("build");
    let staged = top.join(&package.name);
    tree::lay(&staged, &package.files)?;
    deb::documents(package, &staged)?;
    must(command("chmod").args(["-R", "u=rwX,go=rX"]).arg(&staged))?;
    let spec = top.join(format!("{}.spec", package.name));
    let text = spec_of(package, &staged, revision)?;
    fs::write(&spec, text).map_err(tree::text(&spec))?;
    let mut rpmbuild = command("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--define", &format!("_topdir {}", top.display())]);
    // The tree is as it has to be: nothing is stripped or compressed again.
    for (name, value) in [
        ("__os_install_post", "%{nil}"),
        ("debug_package", "%{nil}"),
        ("_build_id_links", "none"),
        ("_buildhost", "localhost"),
        ("_rpmdir", &directory.display().to_string()),
        ("_rpmfilename", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"),
    ] {
        rpmbuild.args(["--define", &format!("{name} {value}")]);
    }
    rpmbuild.args(["--target", std::env::consts::ARCH]).arg(&spec);
    must(rpmbuild.stdout(Stdio::null()))?;
    let version = env!("CARGO_PKG_VERSION");
    let made = format!("{}-{version}-{revision}.{}.rpm", package.name, std::env::consts::ARCH);
    Ok(directory.join(made))
}

fn spec_of(package: &Package, staged: &Path, revision: &str) -> Result<String, String> {
    let mut listed = BTreeSet::new();
    for path in tree::files(staged)? {
        // Directories of ours go with the package; those of the system do not.
        let own = Path::new(&path).ancestors().skip(1).map(|above| above.display().to_string());
        listed.extend(
            own.filter(|above| above.contains("/theoris")).map(|above| format!("%dir {above}")),
        );
        listed.insert(path);
    }
    let files = listed.into_iter().collect::<Vec<_>>().join("\n");
    let requires = match package.daemon {
        Some(_) => "Requires: theoris = %{version}-%{release}\n".to_owned(),
        None => "Requires: systemd\n".to_owned(),
    };
    let script = |name: &str| deb::script(package, name);
    let mut text = format!(
        "Name: {}\nVersion: {}\nRelease: {revision}\nSummary: {}\nLicense: MIT OR Apache-2.0\n{requires}\
         %description\n{}\n\n%install\nmkdir -p %{{buildroot}}\ncp -a {}/. %{{buildroot}}\n\n%files\n{files}\n",
        package.name,
        env!("CARGO_PKG_VERSION"),
        package.summary,
        package.description,
        staged.display(),
    );
    // The scripts are Debian's; rpm tells by a number whether another version stays.
    let configure =
        "if [ \"$1\" -gt 1 ]; then set -- configure before; else set -- configure \"\"; fi";
    let remove = "if [ \"$1\" -gt 0 ]; then set -- upgrade; else set -- remove; fi";
    for (section, means, name) in
        [("post", configure, "postinst"), ("preun", remove, "prerm"), ("postun", remove, "postrm")]
    {
        text.push_str(&format!("%{section}\n{means}\n{}\n", quoted(&script(name)?)));
    }
    if package.daemon.is_none() {
        let place = format!("set -- triggered\n{}", quoted(&script("postinst")?));
        text.push_str(&format!("%triggerin -- fail2ban-server\n{place}\n"));
    }
    Ok(text)
}

/// A script as a spec file has it.
fn quoted(script: &str) -> String {
    script.replace('%', "%%")
}

/// Refuses packages whose programs need a newer glibc.
pub fn check(made: &[PathBuf]) -> Done {
    let scratch = harness::Scratch::new();
    let mut problems = Vec::new();
    for (index, path) in made.iter().enumerate() {
        let opened = scratch.directory(&index.to_string());
        let mut open = command("sh");
        open.current_dir(&opened)
            .args(["-c", "rpm2cpio \"$0\" | cpio -idm --quiet"])
            .arg(root().join(path));
        must(&mut open)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for file in tree::files(&opened)? {
            let program = opened.join(file.trim_start_matches('/'));
            if is_program(&program) {
                problems.extend(
                    too_new(&Needs::of(&program)?).map(|why| format!("{name}: {file}: {why}")),
                );
            }
        }
        problems.extend(required(path)?.into_iter().map(|why| format!("{name}: {why}")));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn is_program(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

fn too_new(needs: &Needs) -> Option<String> {
    let newest = needs.newest.get("GLIBC").filter(|newest| newest.as_slice() > GLIBC)?;
    let shown = newest.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    Some(format!("needs glibc {shown}, and Rocky Linux 8 has 2.28"))
}

/// What the package itself says that it needs.
fn required(path: &Path) -> Result<Vec<String>, String> {
    let mut rpm = command("rpm");
    rpm.args(["--query", "--package", "--requires"]).arg(path);
    let output = rpm.output().map_err(|error| failed(&rpm, error))?;
    if !output.status.success() {
        return Err(failed(&rpm, String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let newer = |line: &&str| {
        let version = line.split("(GLIBC_").nth(1).and_then(|rest| rest.split(')').next());
        let numbers = version.map(|version| version.split('.').map(str::parse).collect());
        matches!(numbers, Some(Ok::<Vec<u32>, _>(numbers)) if numbers.as_slice() > GLIBC)
    };
    Ok(text.lines().filter(newer).map(|line| format!("requires {line}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_a_newer_glibc_is_refused() {
        let needs = |version: &[u32]| {
            let mut needs = Needs::default();
            needs.newest.insert("GLIBC".into(), version.to_vec());
            too_new(&needs)
        };
        assert_eq!(needs(&[2, 28]), None);
        assert_eq!(needs(&[2, 9]), None);
        assert!(needs(&[2, 29]).unwrap().contains("needs glibc 2.29"));
        assert!(needs(&[2, 34]).is_some() && needs(&[2, 28, 1]).is_some());
    }
}
