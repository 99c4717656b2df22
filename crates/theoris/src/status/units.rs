//! What systemd says of our units.

use std::process::Command;
use std::time::Duration;

use crate::check::daemons::{Answer, ask};
use crate::check::report::Finding;
use crate::plank::Plank;

const PATIENCE: Duration = Duration::from_secs(5);

/// Planks whose unit has failed: systemd has given up, or waits before it tries again.
pub fn failed() -> Vec<Plank> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property=Id,ActiveState"]);
    command.args(Plank::ALL.map(unit));
    match ask(command, PATIENCE) {
        Answer::Ended { out, .. } => read(&String::from_utf8_lossy(&out)),
        Answer::Missing(_) | Answer::TooLong => Vec::new(),
    }
}

fn unit(plank: Plank) -> String {
    format!("theoris-{}.service", plank.daemon())
}

/// Blocks of `Id=…` and `ActiveState=…`, an empty line between them.
fn read(text: &str) -> Vec<Plank> {
    let failed = |block: &&str| block.lines().any(|line| line == "ActiveState=failed");
    let plank = |block: &str| {
        let id = block.lines().find_map(|line| line.strip_prefix("Id="))?;
        Plank::ALL.into_iter().find(|plank| unit(*plank) == id)
    };
    text.split("\n\n").filter(failed).filter_map(plank).collect()
}

/// For each of them.
pub fn judge(planks: &[Plank], found: &mut Vec<Finding>) {
    for plank in planks {
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
        let shown = "Id=theoris-dkim-milter.service\nActiveState=inactive\n\nId=theoris-imapd.service\nActiveState=failed\n\nActiveState=failed\nId=other.service\n";
        assert_eq!(read(shown), [Plank::Imap]);
        let mut found = Vec::new();
        judge(&read(shown), &mut found);
        assert_eq!(found[0].text, "the unit theoris-imapd.service has failed");
        assert_eq!(read(""), []);
    }
}
