//! What systemd says of our units.

use std::process::Command;
use std::time::Duration;

use crate::check::daemons::{Answer, ask};
use crate::check::report::Finding;
use crate::plank::Plank;

const PATIENCE: Duration = Duration::from_secs(5);

const GUARD: &str = "theoris-guard.service";

/// What systemd says of our units.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Planks whose unit has failed: systemd has given up, or waits before it tries again.
    failed: Vec<Plank>,
    guard_runs: bool,
}

/// Asks systemd; nothing when it does not answer.
pub fn ask_systemd() -> Option<Units> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property=Id,ActiveState", GUARD]);
    command.args(Plank::ALL.map(unit));
    match ask(command, PATIENCE) {
        Answer::Ended { out, .. } => Some(read(&String::from_utf8_lossy(&out))),
        Answer::Missing(_) | Answer::TooLong => None,
    }
}

fn unit(plank: Plank) -> String {
    format!("theoris-{}.service", plank.daemon())
}

/// Blocks of `Id=…` and `ActiveState=…`, an empty line between them.
fn read(text: &str) -> Units {
    let mut units = Units::default();
    for block in text.split("\n\n") {
        let value = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let id = value("Id=").unwrap_or_default();
        match value("ActiveState=") {
            Some("failed") => {
                units.failed.extend(Plank::ALL.into_iter().filter(|plank| unit(*plank) == id));
            }
            Some("active") if id == GUARD => units.guard_runs = true,
            _ => {}
        }
    }
    units
}

/// Tells of each unit that has failed, and of a guard that is missing while planks are ours by `theoris adopt`.
pub fn judge(units: &Units, guarded: &[Plank], found: &mut Vec<Finding>) {
    if !units.guard_runs && !guarded.is_empty() {
        let text = format!(
            "{GUARD} does not run: nobody takes back what others take from the adopted planks"
        );
        let mend = format!("systemctl start {GUARD}");
        found.push(Finding { planks: guarded.to_vec(), ..Finding::warning(None, text).mend(mend) });
    }
    for plank in &units.failed {
        let text = format!("the unit {} has failed", unit(*plank));
        let mend = format!("journalctl -u {}, then systemctl start it", unit(*plank));
        found.push(Finding::critical(None, text).mend(mend).of(*plank));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_unit_is_critical() {
        let shown = "Id=theoris-dkim-milter.service\nActiveState=inactive\n\nId=theoris-imapd.service\nActiveState=failed\n\nActiveState=failed\nId=other.service\n\n\
                     Id=theoris-guard.service\nActiveState=active\n";
        let units = read(shown);
        assert_eq!(units, Units { failed: vec![Plank::Imap], guard_runs: true });
        let mut found = Vec::new();
        judge(&units, &[Plank::Imap], &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text, "the unit theoris-imapd.service has failed");
        assert_eq!(read(""), Units::default());
    }

    #[test]
    fn a_guard_that_does_not_run_is_told_where_there_is_something_to_guard() {
        let mut found = Vec::new();
        judge(&Units::default(), &[], &mut found);
        assert_eq!(found, []);
        judge(&Units::default(), &[Plank::Dkim, Plank::Imap], &mut found);
        assert_eq!(found.len(), 1);
        assert!(found[0].text.starts_with("theoris-guard.service does not run"), "{found:?}");
        assert_eq!(found[0].planks, [Plank::Dkim, Plank::Imap]);
    }
}
