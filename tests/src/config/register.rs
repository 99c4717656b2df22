//! The register tells the truth: what it calls obeyed is read by code.

use std::path::{Path, PathBuf};

use ::config::{docs, usage};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `docs/settings.md` is what the register says today; `THEORIS_BLESS=1` writes it.
#[test]
fn the_page_of_settings_is_up_to_date() {
    let path = root().join("docs/settings.md");
    if std::env::var_os("THEORIS_BLESS").is_some() {
        std::fs::write(&path, docs::page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == docs::page(), "docs/settings.md is old: run this test with THEORIS_BLESS=1");
}

#[test]
fn every_row_is_explained() {
    assert_eq!(usage::unexplained(), Vec::<String>::new());
}

#[test]
fn every_obeyed_setting_is_read_by_code() {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap().flatten() {
        rust_files(&entry.path().join("src"), &mut files);
    }
    let sources: Vec<String> =
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let unread = usage::unread(sources.iter().map(String::as_str));
    assert_eq!(unread, Vec::<String>::new(), "mark these unsupported, or read them");
}
