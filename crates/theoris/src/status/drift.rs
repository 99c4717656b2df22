//! What others have changed beside an adopted plank: what the guard would tell now.

use std::path::Path;

use crate::check::report::Finding;
use crate::plank::Plank;
use crate::planks::guard;
use crate::planks::services::Systemd;

/// Adds what has drifted, and returns the planks that are ours by `theoris adopt`.
pub fn find(state: &Path, found: &mut Vec<Finding>) -> Vec<Plank> {
    // It only asks; drop-ins are written by swaps alone.
    let mut services = Systemd { units: "/run/systemd/system".into(), state: state.to_owned() };
    match guard::drifted(state, &mut services) {
        Ok(told) => found.extend(told.into_iter().map(|(plank, line)| {
            let mend = format!("put it back, or theoris release {plank}");
            Finding::warning(None, line).mend(mend).of(plank)
        })),
        Err(why) => found.push(Finding::warning(None, why.0).mend("run it as root")),
    }
    if let Ok(Some(step)) = guard::under_way(state) {
        let text = format!("a swap is under way or was interrupted, at the step: {step}");
        let mend =
            "if no theoris runs, call theoris adopt or release again: it completes or undoes it";
        found.push(Finding::warning(None, text).mend(mend));
    }
    guard::adopted(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> (Vec<Plank>, Vec<String>) {
        let state = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let text = text.replace("@", &state.path().display().to_string());
            std::fs::write(state.path().join(name), text).unwrap();
        }
        let mut found = Vec::new();
        let planks = find(state.path(), &mut found);
        let root = format!("{}/", state.path().display());
        (planks, found.into_iter().map(|one| one.text.replace(&root, "")).collect())
    }

    #[test]
    fn what_the_guard_would_find_is_told() {
        assert_eq!(told(&[]), (vec![], vec![]));
        let record = r#"{"smtp-out": {"back": [], "held": {"marks": ["@/master.cf", [{"name": "smtp", "kind": "unix"}]]}},
                         "imap": {"back": [], "held": {"file": "@/99-theoris-imap.conf"}}}"#;
        let marked = "#theoris: smtp unix - - y - - smtp\n";
        let (planks, lines) =
            told(&[("adopted.json", record), ("master.cf", marked), ("99-theoris-imap.conf", "")]);
        assert_eq!((planks, lines), (vec![Plank::Imap, Plank::SmtpOut], vec![]));
        let live = format!("{marked}smtp unix - - y - - smtp\n");
        let (_, lines) = told(&[("adopted.json", record), ("master.cf", &live)]);
        assert_eq!(
            lines,
            [
                "99-theoris-imap.conf: is gone: Dovecot opens its ports again at its next restart",
                "master.cf:2: smtp/unix is live again: Postfix takes it over at its next reload; remove the line, or theoris release",
            ]
        );
    }

    #[test]
    fn an_interrupted_swap_is_told() {
        let journal = r#"{"adopts": true, "planks": [], "step": "start imapd"}"#;
        let (_, lines) = told(&[("run.json", journal)]);
        assert_eq!(lines, ["a swap is under way or was interrupted, at the step: start imapd"]);
        let (_, lines) = told(&[("adopted.json", "nonsense")]);
        assert!(lines[0].starts_with("adopted.json: expected"), "{lines:?}");
    }
}
