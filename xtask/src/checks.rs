//! Small checks of the tree that no other tool makes.

use std::fs;

use crate::run::{Done, command, failed, root};

const LONGEST: usize = 800;

/// A source file above 800 lines must say in its header why (`Longer than 800 lines because …`).
pub fn file_lengths() -> Done {
    let mut problems = Vec::new();
    for path in tracked("*.rs")? {
        let text =
            fs::read_to_string(root().join(&path)).map_err(|error| format!("{path}: {error}"))?;
        let excused =
            text.lines().take(20).any(|line| line.contains("Longer than 800 lines because"));
        if text.lines().count() > LONGEST && !excused {
            problems.push(format!(
                "{path}: {} lines, and its header does not say why",
                text.lines().count()
            ));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Every crate root forbids `unsafe`.
pub fn unsafe_is_forbidden() -> Done {
    let mut problems = Vec::new();
    for path in tracked("*.rs")? {
        if !is_crate_root(&path) {
            continue;
        }
        let text =
            fs::read_to_string(root().join(&path)).map_err(|error| format!("{path}: {error}"))?;
        if !text.contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{path}: no #![forbid(unsafe_code)]"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn is_crate_root(path: &str) -> bool {
    let program = path.contains("/src/bin/") && path.matches('/').count() <= 4;
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs") || program
}

/// The files of the repository that match a pattern.
fn tracked(pattern: &str) -> Result<Vec<String>, String> {
    let mut command = command("git");
    let output = command
        .args(["ls-files", "--", pattern])
        .output()
        .map_err(|error| failed(&command, error))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_crate_is_excepted() {
        for (path, root) in [
            ("crates/pam/src/lib.rs", true),
            ("xtask/src/main.rs", true),
            ("crates/theoris/src/bin/mailq.rs", true),
            ("crates/theoris/src/bin/mailq/list.rs", false),
            ("crates/pam/build.rs", false),
        ] {
            assert_eq!(is_crate_root(path), root, "{path}");
        }
    }
}
