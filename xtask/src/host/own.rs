//! Our own packages change under mail: a newer version of all of them, and their removal with every plank adopted.

use super::complaints;
use super::flow::{self, Mood};
use super::guest::Guest;
use super::planks::LOG;
use super::traps::WELL;
use crate::run::Done;

/// The packages of `/media` once more, with the next revision.
const NEWER: &str = r"
mkdir /root/newer
for old in /media/theoris*.deb; do
  tree=/root/newer/tree
  dpkg-deb -R $old $tree
  sed -i -E '/^(Version|Depends):/s/-1(\)|,|$)/-2\1/g' $tree/DEBIAN/control
  dpkg-deb -Znone -b $tree /root/newer >/dev/null
  rm -r $tree
done
";

/// Everybody has the new program, and nobody is what he was.
const UPGRADE: &str = r"
processes() { for daemon in dkim-milter smtp-delivery pop3d imapd guard; do systemctl show -p MainPID --value theoris-$daemon; done; }
processes > /root/before
python3 /mnt/xtask/src/host/knock.py dpkg -i /root/newer/theoris*.deb
processes > /root/after
cat /root/after
[ $(sort -u /root/after | grep -cvx 0) = 5 ] || { echo not all run; exit 1; }
! grep -xFf /root/before /root/after || { echo the old process; exit 1; }
[ $(dpkg-query -W -f '${Status} ${Version}\n' 'theoris*' | grep -c '^install ok installed .*-2$') = 9 ] || { dpkg -l 'theoris*'; exit 1; }
";

/// Who serves what, and all that is amiss: the same before and after.
const STATUS: &str = r#"{ theoris status --no-dns --queue-warning 1000 --queue-critical 1000 --json || [ $? = 1 ]; } | python3 -c '
import json, sys
status = json.load(sys.stdin)
for one in status["planks"]:
    print(one["plank"], one["served"], one["adopted"])
for finding in status["findings"]:
    print(finding)
'"#;

const FOUR: [&str; 4] =
    ["dkim ours True", "smtp-out ours True", "pop3 ours True", "imap ours True"];

/// With them goes each plank; OpenDKIM, Dovecot and Postfix serve again.
const REMOVAL: &str = r"
apt-get remove -y theoris
[ -z $(dpkg-query -W -f '${db:Status-Abbrev}\n' 'theoris*' | grep ^i) ] || { dpkg -l 'theoris*'; exit 1; }
systemctl is-active --quiet opendkim || { echo OpenDKIM does not run; exit 1; }
! grep theoris: /etc/postfix/master.cf || exit 1
for one in 110:dovecot 995:dovecot 143:dovecot 993:dovecot 8891:opendkim; do
  ss -Hltnp sport = :${one%:*} | grep -q ${one#*:} || { echo nobody of theirs at $one; ss -ltnp; exit 1; }
done
";

const AGAIN: &str =
    "dpkg -i /root/newer/theoris*.deb; theoris adopt dkim smtp-out pop3 imap; rm -r /root/newer";

/// Installs a newer version of every package under mail.
pub fn upgraded(guest: &Guest) -> Done {
    guest.run(NEWER)?;
    let before = guest.run(STATUS)?;
    for plank in FOUR {
        if !before.lines().any(|line| line == plank) {
            return Err(format!("not {plank}:\n{before}"));
        }
    }
    calmly(guest, UPGRADE)?;
    guest.run(WELL)?;
    let after = guest.run(STATUS)?;
    if before == after {
        Ok(())
    } else {
        Err(format!("theoris status before:\n{before}\nafter:\n{after}"))
    }
}

/// Removes every package with all planks adopted; then they are installed and adopted again.
pub fn removed(guest: &Guest) -> Done {
    calmly(guest, REMOVAL)?;
    calmly(guest, AGAIN)?;
    guest.run(WELL).map(drop)
}

/// While mail flows and nobody complains.
fn calmly(guest: &Guest, script: &str) -> Done {
    let since = guest.run("date +%s")?;
    let said = guest.run(script)?;
    flow::more(guest, 12, Mood::Calm).map_err(|why| format!("{said}{why}"))?;
    let log = guest.run(&LOG.replace("SINCE", since.trim()))?;
    let complaints = complaints::of(&log);
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(format!("{said}in the log:\n{}", complaints.join("\n")))
    }
}
