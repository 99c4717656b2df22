//! What a package says of its rights: ours, and those of the crates that are linked into it.

use std::collections::BTreeMap;

use crate::run::{cargo, failed};

/// A Debian copyright file.
///
/// # Errors
///
/// What cargo said instead of the crates.
pub fn copyright(crate_name: &str) -> Result<String, String> {
    let mut text = String::from(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Theoris\n\n\
         Files: *\nCopyright: the Theoris authors\nLicense: MIT or Apache-2.0\n\n\
         License: MIT or Apache-2.0\n The texts of both licences are beside this file.\n",
    );
    text.push_str("Comment:\n These crates are linked into the programs of this package, under licences of their own:\n .\n");
    for (name, licence) in linked(crate_name)? {
        text.push_str(&format!(" {name}: {licence}\n"));
    }
    Ok(text)
}

/// Name and version of each foreign crate, and its licence.
fn linked(crate_name: &str) -> Result<BTreeMap<String, String>, String> {
    let mut tree = cargo(&["tree", "--package", crate_name, "--edges", "normal,no-proc-macro"]);
    tree.args(["--prefix", "none", "--format", "{p}|{l}", "--locked"]);
    let output = tree.output().map_err(|error| failed(&tree, error))?;
    if !output.status.success() {
        return Err(failed(&tree, String::from_utf8_lossy(&output.stderr)));
    }
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((crate_name, licence)) = line.split_once('|') else { continue };
        // Ours stand with their directory.
        if crate_name.contains('(') {
            continue;
        }
        let licence = licence.trim_end_matches("(*)").trim();
        found.insert(crate_name.trim().to_owned(), licence.to_owned());
    }
    Ok(found)
}
