//! Every kind of mail while a plank goes in and out, all else being the originals.

use super::lines::{Allowed, When};
use super::login::{self, RELOADS};
use super::mix::{Expected, Milter, Mix, SENDERS, Way, can_run};
use super::smtp_out::AT_A_RELOAD;

/// Dovecot is reloaded: its lmtp may answer `421 4.3.2` for a message that it has saved, which Postfix brings again then.
/// Its old auth ends some seconds later, and may have a login of each sender in its hands.
const LOGIN: Expected = Expected {
    postfix: &[Allowed {
        line: "postfix/smtpd: warning: *[127.0.0.1]: SASL PLAIN authentication failed: Connection lost to authentication server, sasl_username=(unavailable)",
        when: When::InASwap(SENDERS * RELOADS),
        why: "the old auth has ended behind a login; its client is told 454",
    }],
    dovecot: login::AT_A_RELOAD,
    repeated: 3,
    put_off: SENDERS * RELOADS,
};

fn by_command(plank: &str, milter: Milter, expected: &Expected) {
    if !can_run() {
        return;
    }
    let mix = Mix::new(milter);
    mix.swapped_three_times(expected, |mix, way| {
        let verb = if way == Way::In { "adopt" } else { "release" };
        mix.host.must(&[verb, plank]);
    });
}

#[test]
fn dkim_on_a_unix_socket_under_every_kind_of_mail() {
    by_command("dkim", Milter::Unix, &Expected::default());
}

#[test]
fn dkim_on_a_port_under_every_kind_of_mail() {
    by_command("dkim", Milter::Port, &Expected::default());
}

#[test]
fn smtp_out_under_every_kind_of_mail() {
    by_command("smtp-out", Milter::Unix, &Expected { postfix: AT_A_RELOAD, ..Expected::default() });
}

#[test]
fn pop3_under_every_kind_of_mail() {
    by_command("pop3", Milter::Unix, &LOGIN);
}

#[test]
fn imap_under_every_kind_of_mail() {
    by_command("imap", Milter::Unix, &LOGIN);
}
