//! The files that an `!include` pattern names.

use std::path::{Component, Path, PathBuf};

use crate::Files;

/// How the names of our own files in conf.d begin.
pub const ADOPTED_FILE: &str = "99-theoris-";

/// The files that match, sorted; a pattern without `*`, `?` or `[` names one file, if it is there.
pub fn matching(files: &dyn Files, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let Component::Normal(name) = part else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let name = name.to_string_lossy();
        if !name.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(&*name));
            continue;
        }
        let inside = |directory: &PathBuf| {
            let names = files.list(directory).unwrap_or_default();
            let names =
                names.into_iter().filter(|known| matches_glob(&name, &known.to_string_lossy()));
            names.map(|known| directory.join(known)).collect::<Vec<_>>()
        };
        found = found.iter().flat_map(inside).collect();
    }
    found.retain(|path| files.is_file(path) && !is_ours(path));
    found
}

/// `99-theoris-pop3.conf` and its like, by which `theoris adopt` has Dovecot close its ports: what they say is for Dovecot.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(ADOPTED_FILE) && name.ends_with(".conf")
}

/// glob(7) for one name: a name that starts with a dot needs a pattern that does.
fn matches_glob(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Where to go back to after a `*` that took too little: the place after it in the pattern, and in the name.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = step(&pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, n) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The place after the pattern's element at `at`, if that takes `c`.
fn step(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => match pattern[at + 1..].iter().skip(1).position(|known| *known == ']') {
            None => (c == '[').then_some(at + 1),
            Some(length) => in_set(&pattern[at + 1..at + 2 + length], c).then_some(at + length + 3),
        },
        literal => (*literal == c).then_some(at + 1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let (negated, mut rest) = match set {
        ['!' | '^', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut inside = false;
    while let [first, more @ ..] = rest {
        match more {
            ['-', last, after @ ..] => {
                inside |= (*first..=*last).contains(&c);
                rest = after;
            }
            _ => {
                inside |= *first == c;
                rest = more;
            }
        }
    }
    inside != negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Memory;

    #[test]
    fn globs_match_as_the_shell_has_them() {
        for (pattern, name, expected) in [
            ("*.conf", "10-auth.conf", true),
            ("*.conf", "auth.conf.ext", false),
            ("*.conf", ".hidden.conf", false),
            ("??-*.conf", "10-auth.conf", true),
            ("[0-8]*.conf", "90-x.conf", false),
            ("[!0-8]*.conf", "90-x.conf", true),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("*", "", true),
            ("[", "[", true),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_sorted_and_only_existing_ones() {
        let files = Memory::with([
            ("/d/c/2.conf", ""),
            ("/d/c/10.conf", ""),
            ("/d/c/x.ext", ""),
            ("/d/e/1.conf", ""),
        ]);
        let found = |pattern: &str| -> Vec<String> {
            matching(&files, Path::new(pattern))
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(found("/d/c/*.conf"), ["/d/c/10.conf", "/d/c/2.conf"]);
        assert_eq!(found("/d/*/1*.conf"), ["/d/c/10.conf", "/d/e/1.conf"]);
        assert_eq!(found("/d/missing.conf"), Vec::<String>::new());
    }
}
