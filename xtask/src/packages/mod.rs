//! `cargo xtask packages`: a .deb for each daemon and one for the command, made by dpkg-deb from trees that are laid out
//! here; with `--rpm` an .rpm for each.

mod check;
mod contents;
mod deb;
mod needs;
mod papers;
mod rpm;
#[cfg(test)]
mod scripts;
mod tree;

use std::path::{Path, PathBuf};

use crate::run::{Done, cargo, must, release_directory, target_directory};

/// What was asked for.
struct Asked {
    /// Where the programs are; built first when nothing is said.
    from: Option<PathBuf>,
    /// The part of the version behind the program's own.
    revision: String,
    rpm: bool,
}

/// Builds and checks the packages.
pub fn run(words: &[&str]) -> Done {
    if let ["--check-rpm", files @ ..] = words {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        return rpm::check(&files);
    }
    let asked = parse(words)?;
    let made = match (asked.rpm, &asked.from) {
        (true, Some(from)) => rpms(from, &asked.revision)?,
        (true, None) => rpms(&rpm::programs()?, &asked.revision)?,
        (false, Some(from)) => debs(from, &asked.revision)?,
        (false, None) => {
            must(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
            debs(&release_directory(), &asked.revision)?
        }
    };
    made.iter().for_each(|path| println!("{}", path.display()));
    Ok(())
}

/// The step of `cargo xtask ci`: from the programs that the tests ran.
pub fn ci() -> Done {
    if !Path::new("/usr/bin/dpkg-deb").exists() {
        println!("dpkg-deb is not on this machine: no package is made");
        return Ok(());
    }
    debs(&release_directory(), "1").map(|made| println!("{} packages", made.len()))
}

fn parse(words: &[&str]) -> Result<Asked, String> {
    let mut asked = Asked { from: None, revision: "1".into(), rpm: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match *word {
            "--rpm" => asked.rpm = true,
            "--from" => asked.from = Some(PathBuf::from(value()?)),
            "--revision" => asked.revision = (*value()?).to_owned(),
            _ => return Err(format!("packages: unknown word {word}")),
        }
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '+' || c == '~';
    if asked.revision.is_empty() || !asked.revision.chars().all(fits) {
        return Err(format!("--revision {}: letters, digits and . + ~", asked.revision));
    }
    Ok(asked)
}

/// Makes `target/debian/*.deb` and looks at what was made.
fn debs(from: &Path, revision: &str) -> Result<Vec<PathBuf>, String> {
    let directory = target_directory().join("debian");
    tree::fresh(&directory)?;
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    let mut made = Vec::new();
    for package in contents::packages(from) {
        made.push(deb::build(&package, &directory, &version)?);
    }
    check::debs(&made)?;
    Ok(made)
}

/// Makes `target/rpm/*.rpm` and refuses what would not start on the oldest system that is meant.
fn rpms(from: &Path, revision: &str) -> Result<Vec<PathBuf>, String> {
    if !Path::new("/usr/bin/rpmbuild").exists() {
        return Err("rpmbuild is not on this machine: install the packages rpm and cpio".into());
    }
    let directory = target_directory().join("rpm");
    tree::fresh(&directory)?;
    let mut made = Vec::new();
    for package in contents::packages(from) {
        made.push(rpm::build(&package, &directory, revision)?);
    }
    rpm::check(&made)?;
    Ok(made)
}
