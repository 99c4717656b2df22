//! Whose the ports of master.cf are: ours where an entry is marked, and Postfix's again as soon as one is live.

use std::fs;
use std::path::Path;

use config::Problems;
use config::postfix::{self, Host, Service, ServiceType};
use daemon::Lent;

pub(super) fn has_marks(host: &Host) -> bool {
    host.services().any(|service| service.adopted)
}

/// A marked entry, unless somebody has added a live one of the same name: Postfix ends when it finds that port taken.
pub(super) fn is_ours(service: &Service) -> bool {
    service.adopted && !service.live_again
}

pub(super) fn by(host: &Host) -> Lent {
    let file = host.directory().join("master.cf");
    let ports = |service: &Service| service.kind == ServiceType::Inet && is_ours(service);
    match has_marks(host) {
        true if host.services().any(ports) => Lent::By(file),
        true => Lent::Returned(file),
        false if runs(host) => Lent::Returned(file),
        false => Lent::No,
    }
}

/// Whether Postfix's master of this queue directory runs.
fn runs(host: &Host) -> bool {
    // What is wrong with the value is told where the services are read.
    let queue = host.main().get(postfix::QUEUE_DIRECTORY, &mut Problems::default());
    let text = fs::read_to_string(Path::new(&queue).join("pid/master.pid"));
    let pid = text.ok().and_then(|text| text.trim().parse::<u32>().ok());
    // The file outlives its process.
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    name.is_some_and(|name| name.trim() == "master")
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    fn lent(master: &str) -> Lent {
        let files = Memory::with([
            ("/p/main.cf", "queue_directory = /nowhere\n"),
            ("/p/master.cf", master),
        ]);
        by(&Host::read(&files, "/p".as_ref(), &mut Problems::default()))
    }

    #[test]
    fn a_port_is_ours_while_its_only_entry_is_marked() {
        let marked = "#theoris: smtp inet n - n - - smtpd\n";
        let live = "smtp inet n - n - - smtpd\n";
        let other = "#theoris: relay unix - - n - - smtp\n";
        assert_eq!(lent(marked), Lent::By("/p/master.cf".into()));
        assert_eq!(lent(&format!("{other}{marked}{live}")), Lent::Returned("/p/master.cf".into()));
        assert_eq!(lent(&format!("{other}{live}")), Lent::Returned("/p/master.cf".into()));
        assert_eq!(lent(live), Lent::No, "no master runs there");
    }
}
