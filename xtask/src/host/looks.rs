//! What administrators type to look at queue, mailboxes and configuration: each gives with ours what it gives with the
//! originals. Where it does not, `docs/differences.md` says why.

use super::guest::Guest;
use crate::run::Done;

/// Four messages that nobody takes today, one of them on hold, when the queue itself shows that all have been put off.
const QUEUE: &str = r#"
for number in 1 2 3 4; do
  printf 'Subject: look %s\n\nhello\n' $number | sendmail -f info@example.com friend@elsewhere.example
done
tries=0
until [ "$(postqueue -j | grep -c '"queue_name": "deferred".*"delay_reason"')" = 4 ]; do
  tries=$((tries + 1))
  [ $tries -lt 600 ] || { postqueue -j; exit 1; }
  sleep 0.1
done
postsuper -h $(ID)
"#;

/// The first message in the queue.
const ID: &str = "mailq | grep -oE '^[0-9A-Z]+[*!]?' | sort | head -n 1 | tr -d '*!'";

/// Nothing of these may differ.
const SAME: &[&str] = &[
    "mailq",
    "postqueue -p",
    "postqueue -p | tail -1",
    "postqueue -j",
    "mailq | grep -c '^[A-F0-9]'",
    "mailq | grep -oP '(?<=@)[a-zA-Z0-9.-]+' | sort | uniq -c | sort -rn | head -10",
    "postcat -q $(ID)",
    "postcat -qh $(ID)",
    "postcat -qb $(ID)",
    "/usr/libexec/theoris/classic/mailq",
    "/usr/libexec/theoris/classic/postqueue -p",
    "/usr/libexec/theoris/classic/postqueue -j",
    "/usr/libexec/theoris/classic/postcat -q $(ID)",
    "id=$(ID); for verb in -H -h -H -h; do postsuper $verb $id 2>&1 | sed s/$id/ID/; done",
    "id=$(ID); for verb in -H -h -H -h; do /usr/libexec/theoris/classic/postsuper $verb $id 2>&1 | sed s/$id/ID/; done",
    "postqueue -s elsewhere.example; echo $?",
    "postconf -n",
    "postconf -d | grep mynetworks",
    "postconf -n | grep smtpd_sasl",
    "postconf -M",
    "doveconf -n",
    "doveadm mailbox list -u info | sort",
    "doveadm mailbox list -u info@example.com | sort",
    "doveadm mailbox status -u info messages INBOX",
    "doveadm user info",
    "doveadm auth test info secret | sed 's/ *$//' | grep .",
    "ss -Htln | awk '{print $4}' | grep -oE '[0-9]+$' | grep -xE '25|110|143|465|587|993|995|8891' | sort -nu",
    "for port in 465 993 995; do openssl s_client -connect 127.0.0.1:$port </dev/null 2>/dev/null | grep -E '^(subject|issuer)'; done",
    "for one in 25:smtp 587:smtp 143:imap 110:pop3; do openssl s_client -connect 127.0.0.1:${one%:*} -starttls ${one#*:} \
     </dev/null 2>/dev/null | grep -E '^(subject|issuer)'; done",
];

/// Puts mail into the queue to look at.
pub fn prepare(guest: &Guest) -> Done {
    guest.run(&QUEUE.replace("$(ID)", &format!("$({ID})"))).map(drop)
}

/// What each command says now; a failure is part of it.
pub fn all(guest: &Guest) -> Vec<(&'static str, String)> {
    let look = |command: &&'static str| {
        let said = guest.run(&command.replace("$(ID)", &format!("$({ID})")));
        (*command, said.unwrap_or_else(|problem| problem))
    };
    SAME.iter().map(look).collect()
}

/// # Errors
///
/// The commands whose answers differ, with both.
pub fn same(theirs: &[(&str, String)], ours: &[(&str, String)]) -> Done {
    let differ: Vec<String> = theirs
        .iter()
        .zip(ours)
        .filter(|(theirs, ours)| theirs.1 != ours.1)
        .map(|((command, theirs), (_, ours))| {
            format!("$ {command}\n--- theirs\n{theirs}--- ours\n{ours}")
        })
        .collect();
    if differ.is_empty() { Ok(()) } else { Err(differ.join("\n")) }
}
