//! The filter out and in again under Debian's own unit of OpenDKIM: on the sample's port, and on a path in Postfix's jail.

use super::flow::{self, Mood};
use super::guest::Guest;
use crate::run::Done;

/// OpenDKIM is back from its own unit, as if we had never been there, and nothing of the hand-over is left.
const THEIRS: &str = r#"
systemctl is-active --quiet opendkim || { echo OpenDKIM does not run; systemctl status --no-pager opendkim; exit 1; }
[ "$(systemctl show -p MainPID --value opendkim)" = "$(cat /run/opendkim/opendkim.pid)" ] || { echo another process; exit 1; }
systemctl show -p ExecStart --value opendkim | grep -q 'argv\[\]=/usr/sbin/opendkim ;' || { echo its command has changed; exit 1; }
left=$(find /run/systemd/system /etc/systemd/system -path '*opendkim*' -name '*theoris*')
[ -z "$left" ] || { echo "$left"; exit 1; }
"#;

/// OpenDKIM ended and started by its owner is what it was before we came.
const RESTARTED: &str = "systemctl restart opendkim; systemctl reload opendkim";

/// Defines `reload`: Postfix is reloaded, and those of its processes have ended that began before. Their sessions would meet no
/// filter at the old place.
const RELOAD: &str = r#"
reload() {
  old=$(ps -C smtpd,cleanup -o pid= || true)
  postfix reload
  for pid in $old; do
    tries=0
    while kill -0 $pid 2>/dev/null; do
      tries=$((tries + 1))
      [ $tries -lt 600 ] || { echo process $pid of before the reload still serves; exit 1; }
      sleep 0.1
    done
  done
}
"#;

/// The same filter behind a path. Between two commands of this, mail may go out unsigned.
const TO_A_PATH: &str = r#"
cp -a /etc/opendkim.conf /etc/postfix/main.cf /root/
mkdir /var/spool/postfix/opendkim
chown opendkim:postfix /var/spool/postfix/opendkim
sed -i 's,^Socket.*,Socket local:/var/spool/postfix/opendkim/opendkim.sock,' /etc/opendkim.conf
echo 'UMask 000' >> /etc/opendkim.conf
systemctl restart opendkim
sed -i 's,inet:localhost:8891,unix:opendkim/opendkim.sock,' /etc/postfix/main.cf
reload
"#;

const TO_THE_PORT: &str = r#"
cp -a /root/opendkim.conf /etc/opendkim.conf
systemctl restart opendkim
cp -a /root/main.cf /etc/postfix/main.cf
reload
rm -r /var/spool/postfix/opendkim
"#;

/// Releases and adopts dkim while mail flows, every message signed; ends as it began, with the plank adopted.
pub fn in_and_out(guest: &Guest) -> Done {
    out(guest)?;
    signed(guest, "theoris adopt dkim")?;
    out(guest)?;
    guest.run(RESTARTED)?;
    guest.run(&format!("{RELOAD}{TO_A_PATH}"))?;
    flow::unsigned(guest, 8, Mood::Calm)?;
    for _ in 0..2 {
        signed(guest, "theoris adopt dkim")?;
        out(guest)?;
    }
    guest.run(&format!("{RELOAD}{TO_THE_PORT}"))?;
    flow::unsigned(guest, 8, Mood::Calm)?;
    signed(guest, "theoris adopt dkim").map(drop)
}

fn out(guest: &Guest) -> Done {
    let said = signed(guest, "theoris release dkim")?;
    if said.contains("nobody listened") {
        return Err(format!("there was a gap:\n{said}"));
    }
    guest.run(THEIRS).map(drop)
}

fn signed(guest: &Guest, command: &str) -> Result<String, String> {
    let said = guest.run(command)?;
    flow::more(guest, 12, Mood::Calm).map_err(|why| format!("{command}\n{said}{why}"))?;
    Ok(said)
}
