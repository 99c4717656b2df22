//! What befalls a host whose planks are ours: people, packages, crashes and reboots.

use super::filter;
use super::flow::{self, Mood};
use super::guest::Guest;
use super::own;
use super::planks::told;
use crate::run::Done;

/// A thing that happens, and what shows that it did no harm.
struct Trap {
    what: &'static str,
    script: &'static str,
    mood: Mood,
    /// So many messages may be in the hands of a filter that is killed: Postfix sends them on as they are
    /// (milter_default_action = accept). One is submitted, one comes from sendmail.
    cut: usize,
    /// Must succeed afterwards; mail has flowed since.
    shows: &'static str,
}

const TRAPS: &[Trap] = &[
    // The hook once more: systemd 252 fails a reload (219/CGROUP) when it has just taken away the empty control group of
    // postfix.service, which has no process of its own.
    Trap {
        what: "resolv.conf changes, and Debian reloads Postfix",
        script: "echo '# changed' >> /etc/resolv.conf; for hook in /etc/network/if-up.d/postfix /etc/resolvconf/update-libc.d/postfix; do \
                 [ ! -x $hook ] || IFACE=eth0 ADDRFAM=inet $hook || IFACE=eth0 ADDRFAM=inet sh -ex $hook; done",
        mood: Mood::Calm,
        cut: 0,
        shows: "",
    },
    Trap {
        what: "certbot renews the certificate and its hook reloads the originals",
        script: "cd /etc/letsencrypt/live/example.com-0001; openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=mail.example.com \
                 -keyout privkey.new -out fullchain.new 2>/dev/null; mv privkey.new privkey.pem; mv fullchain.new fullchain.pem; \
                 systemctl reload postfix dovecot",
        mood: Mood::Calm,
        cut: 0,
        shows: "want=$(openssl x509 -noout -serial -in /etc/letsencrypt/live/example.com-0001/fullchain.pem); for port in 993 995; do \
                got=$(openssl s_client -connect 127.0.0.1:$port </dev/null 2>/dev/null | openssl x509 -noout -serial); \
                [ \"$got\" = \"$want\" ] || { echo port $port: $got, not $want; exit 1; }; done",
    },
    Trap {
        what: "dpkg-reconfigure postfix and dovecot",
        script: "cp -a /etc/postfix/main.cf /root/main.cf; dpkg-reconfigure -f noninteractive postfix dovecot-core; \
                 cp -a /root/main.cf /etc/postfix/main.cf; postfix reload",
        mood: Mood::Restart,
        cut: 0,
        shows: "",
    },
    Trap {
        what: "each supervisor of ours is killed",
        script: "for daemon in dkim-milter smtp-delivery pop3d imapd; do \
                 kill -9 $(systemctl show -p MainPID --value theoris-$daemon); done",
        mood: Mood::Calm,
        cut: 2,
        shows: "for daemon in dkim-milter smtp-delivery pop3d imapd; do \
                [ $(systemctl show -p NRestarts --value theoris-$daemon) = 1 ] || { echo $daemon; exit 1; }; done",
    },
    Trap {
        what: "postfix stop, and start",
        script: "postfix stop; systemctl restart postfix",
        mood: Mood::Restart,
        cut: 0,
        shows: "",
    },
    // Who stops Dovecot wants nobody at the mailboxes.
    Trap {
        what: "Dovecot is restarted, stopped and started",
        script: "systemctl restart dovecot; \
                 systemctl stop dovecot; for wait in $(seq 400); do listening=$(ss -Hltn '( sport = :110 or sport = :143 or sport = :993 or sport = :995 )'); \
                 [ -n \"$listening\" ] || break; sleep 0.1; done; [ -z \"$listening\" ] || { echo somebody listens; ss -ltnp; exit 1; }; \
                 ! systemctl is-active --quiet theoris-imapd theoris-pop3d || { echo ours runs without Dovecot; exit 1; }; \
                 systemctl start dovecot",
        mood: Mood::Restart,
        cut: 0,
        shows: "",
    },
    Trap {
        what: "somebody starts OpenDKIM",
        script: "systemctl start opendkim || true; systemctl stop opendkim; systemctl reset-failed opendkim",
        mood: Mood::Calm,
        cut: 0,
        shows: "",
    },
    Trap {
        what: "postconf -M adds a live entry, which status tells",
        script: "cp -a /etc/postfix/master.cf /root/master.cf; postconf -M 'smtp/unix=smtp unix - - n - - smtp'; postfix reload; \
                 theoris status | grep 'smtp/unix is live again'; theoris guard --once || true; cp -a /root/master.cf /etc/postfix/master.cf; postfix reload",
        mood: Mood::Calm,
        cut: 0,
        shows: "theoris status | grep -v 'live again'",
    },
];

/// Everybody runs who should, nothing is amiss, and all that is ours is done by ours.
pub const WELL: &str = "for unit in postfix dovecot theoris-dkim-milter theoris-smtp-delivery theoris-pop3d theoris-imapd theoris-guard; do \
    for wait in $(seq 100); do [ $(systemctl show -p ActiveState --value $unit) = activating ] || break; sleep 0.1; done; \
    systemctl is-active --quiet $unit || { echo $unit does not run; systemctl status --no-pager $unit; exit 1; }; done; \
    ! systemctl is-active --quiet opendkim || { echo OpenDKIM runs; exit 1; }; \
    theoris guard --once; \
    for one in 110:pop3d 995:pop3d 143:imapd 993:imapd 8891:dkim-milter; do \
    ss -Hltnp \"sport = :${one%:*}\" | grep -q \"${one#*:}\" || { echo nobody of ours at $one; ss -ltnp; exit 1; }; done";

/// Postfix's own agents have nothing to do: the last mail that went out was ours.
const OURS: &str = "journalctl -b --no-pager -o json SYSLOG_IDENTIFIER=postfix/smtp -n 1 \
    | grep -q '\"_SYSTEMD_UNIT\":\"theoris-smtp-delivery.service\"'";

pub fn all(guest: &mut Guest, step: &dyn Fn(&str)) -> Done {
    for trap in TRAPS {
        one(guest, trap).map_err(|problem| told(guest, &format!("{}: {problem}", trap.what)))?;
        step(trap.what);
    }
    own::upgraded(guest).map_err(|problem| told(guest, &problem))?;
    step("our own packages are upgraded: nobody is refused, and every plank stays adopted");
    own::removed(guest).map_err(|problem| told(guest, &problem))?;
    step("our own packages are removed: every plank goes back, mail flows on");
    filter::in_and_out(guest).map_err(|problem| told(guest, &problem))?;
    step(
        "dkim out and in on its port and on a path, under OpenDKIM's own unit: every message is signed",
    );
    taken_out(guest).map_err(|problem| told(guest, &problem))?;
    step(
        "somebody removes our file from Dovecot's conf.d and restarts Dovecot: the plank goes back by itself",
    );
    flow::end(guest)?;
    guest.reboot()?;
    flow::start(guest)?;
    flow::more(guest, 8, Mood::Calm)
        .and_then(|()| guest.run(WELL).map(drop))
        .map_err(|problem| told(guest, &format!("after a reboot: {problem}")))?;
    step("reboot: ours are there before the originals need them");
    Ok(())
}

fn one(guest: &Guest, trap: &Trap) -> Done {
    let said = guest.run(trap.script)?;
    let why = |why| format!("{said}{why}");
    let unsigned = flow::unsigned(guest, 8, trap.mood).map_err(why)?;
    if unsigned.len() > trap.cut {
        return Err(format!("{said}not signed: {unsigned:?}"));
    }
    guest.run(WELL)?;
    guest.run(trap.shows)?;
    flow::more(guest, 4, Mood::Calm).map_err(why)?;
    guest.run(OURS).map(drop)
}

/// Dovecot would not start on our ports; the guard gives them back first, or starts it again.
fn taken_out(guest: &Guest) -> Done {
    guest.run("rm /etc/dovecot/conf.d/99-theoris-imap.conf; systemctl restart dovecot || true")?;
    flow::more(guest, 12, Mood::Restart)?;
    guest.run(
        "systemctl is-active --quiet dovecot || { echo Dovecot does not run; exit 1; }; \
         ss -Hltnp 'sport = :993' | grep -q dovecot || { echo Dovecot does not have its port; ss -ltnp; exit 1; }; \
         ! theoris release imap || { echo imap was not given back; exit 1; }",
    )?;
    guest.run("theoris adopt imap")?;
    flow::more(guest, 8, Mood::Calm)?;
    guest.run(WELL).map(drop)
}
