//! The register tells the truth: what it calls obeyed is read by code, and the tests that it names exist.

use std::path::{Path, PathBuf};

use ::config::usage;

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

#[test]
fn every_obeyed_setting_names_a_test() {
    let facts = usage::PRODUCTS.iter().flat_map(|product| product.facts);
    let named = facts.map(|fact| fact.test.to_owned()).filter(|name| !name.is_empty()).collect();
    assert_eq!(usage::unproved(&named), Vec::<String>::new());
}

/// `smtpd::session::tests::name`, or `compliance::smtpd::name` for the tests that cross daemons.
#[test]
fn every_test_that_the_register_names_exists() {
    let mut missing = Vec::new();
    for product in usage::PRODUCTS {
        for fact in product.facts.iter().filter(|fact| !fact.test.is_empty()) {
            let (first, _) = fact.test.split_once("::").unwrap_or((fact.test, ""));
            let own = root().join("crates").join(first.replace('_', "-")).join("src");
            let directory = if own.is_dir() { own } else { root().join("tests/src") };
            let mut files = Vec::new();
            rust_files(&directory, &mut files);
            let name = fact.test.rsplit("::").next().unwrap_or_default();
            let declared = format!("fn {name}(");
            if !files.iter().any(|path| std::fs::read_to_string(path).unwrap().contains(&declared))
            {
                missing.push(format!("{} {}: {}", product.module, fact.name, fact.test));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
