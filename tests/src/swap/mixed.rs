//! Every kind of mail while a plank goes in and out, all else being the originals.

use super::login;
use super::mix::{Expected, Logins, Milter, Mix, Way, can_run};
use super::smtp_out::AT_A_RELOAD;

/// Dovecot is reloaded: its lmtp may answer `421 4.3.2` for a message that it has saved, which Postfix brings again then.
const LOGIN: Expected =
    Expected { postfix: &[], dovecot: login::AT_A_RELOAD, repeated: 3, put_off: 0 };

fn by_command(plank: &str, milter: Milter, logins: Logins, expected: &Expected) {
    if !can_run() {
        return;
    }
    let mix = Mix::new(milter, logins);
    mix.swapped_three_times(expected, |mix, way| {
        let verb = if way == Way::In { "adopt" } else { "release" };
        mix.host.must(&[verb, plank]);
    });
}

#[test]
fn dkim_on_a_unix_socket_under_every_kind_of_mail() {
    by_command("dkim", Milter::Unix, Logins::Some, &Expected::default());
}

#[test]
fn dkim_on_a_port_under_every_kind_of_mail() {
    by_command("dkim", Milter::Port, Logins::Some, &Expected::default());
}

#[test]
fn smtp_out_under_every_kind_of_mail() {
    by_command(
        "smtp-out",
        Milter::Unix,
        Logins::Some,
        &Expected { postfix: AT_A_RELOAD, ..Expected::default() },
    );
}

#[test]
fn pop3_under_every_kind_of_mail() {
    by_command("pop3", Milter::Unix, Logins::None, &LOGIN);
}

#[test]
fn imap_under_every_kind_of_mail() {
    by_command("imap", Milter::Unix, Logins::None, &LOGIN);
}
