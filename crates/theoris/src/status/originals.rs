//! Whether the originals run.

use std::fs;
use std::path::{Path, PathBuf};

use config::{Problems, dovecot};

use crate::check::files::Files;
use crate::plank::Plank;

/// The process that a pid file names, if it still is what it was.
fn is_running(file: &Path, command: &str) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let Ok(pid) = text.trim().parse::<u32>() else { return false };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == command
}

/// The name of the original of a plank, and whether it runs.
pub fn of(files: &Files, plank: Plank) -> Option<(&'static str, bool)> {
    let mut quiet = Problems::default();
    match plank {
        Plank::Dkim => {
            let config = files.opendkim.as_ref()?;
            let file = config
                .value("PidFile")
                .map_or("/run/opendkim/opendkim.pid", |entry| entry.value.as_str());
            Some(("OpenDKIM", is_running(Path::new(file), "opendkim")))
        }
        Plank::Auth | Plank::Pop3 | Plank::Imap => {
            let config = files.dovecot.as_ref()?;
            let base = PathBuf::from(config.global().get(dovecot::BASE_DIR, &mut quiet));
            Some(("Dovecot", is_running(&base.join("master.pid"), "dovecot")))
        }
        Plank::Mda | Plank::SmtpOut | Plank::SmtpIn | Plank::Queue => {
            let host = files.postfix.as_ref()?;
            let queue = crate::check::mistakes::text(host, "queue_directory");
            Some(("Postfix", is_running(&Path::new(&queue).join("pid/master.pid"), "master")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_counts_while_its_process_lives() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(!is_running(&file, own.trim()));
        fs::write(&file, format!("   {}\n", std::process::id())).unwrap();
        // A test runs in a thread of its own name; the process has the first thread's.
        let process = fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
        assert!(is_running(&file, process.trim()) && !is_running(&file, "master"));
        fs::write(&file, "nonsense").unwrap();
        assert!(!is_running(&file, process.trim()));
    }
}
