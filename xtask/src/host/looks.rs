//! What administrators type to look at queue, mailboxes and configuration: each gives with ours what it gives with the
//! originals. Where it does not, `docs/differences.md` says why.

use super::guest::Guest;
use crate::run::Done;

/// Four messages that nobody takes today, one of them on hold, when the queue itself shows that all have been put off.
const QUEUE: &str = r#"
systemctl start rsyslog
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

/// Where ours of the classic names are. A command that calls one of them says what the original's does.
const CLASSIC: &str = "/usr/libexec/theoris/classic/";

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
    "postconf -n | grep mynetworks",
    "postconf -n | grep smtpd_sasl",
    "postconf -M",
    "postfix check; echo $?",
    "doveconf -n",
    "doveadm mailbox list -u info | sort",
    "doveadm mailbox list -u info@example.com | sort",
    "doveadm mailbox status -u info messages INBOX",
    "doveadm user info",
    "doveadm auth test info secret | sed 's/ *$//' | grep .",
    "doveadm log find",
    "opendkim-testkey -d example.com -s default -k /etc/opendkim/keys/example.com/default.private -vvv; echo $?",
    "/usr/libexec/theoris/classic/opendkim-testkey -d example.com -s default -k /etc/opendkim/keys/example.com/default.private -vvv; echo $?",
    "opendkim-testkey -d example.com -s default -vvv; echo $?",
    "/usr/libexec/theoris/classic/opendkim-testkey -d example.com -s default -vvv; echo $?",
    "cd $(mktemp -d); opendkim-genkey -b 2048 -d example.com -D $PWD -s mail2026 -v 2>&1 | sed s,$PWD,HERE,; \
     sed -E 's,[A-Za-z0-9+/]{40,},KEY,g' mail2026.txt; stat -c '%n %a' *",
    "cd $(mktemp -d); /usr/libexec/theoris/classic/opendkim-genkey -b 2048 -d example.com -D $PWD -s mail2026 -v 2>&1 | sed s,$PWD,HERE,; \
     sed -E 's,[A-Za-z0-9+/]{40,},KEY,g' mail2026.txt; stat -c '%n %a' *",
    TALK,
    TRACE,
    "ss -Htln | awk '{print $4}' | grep -oE '[0-9]+$' | grep -xE '25|110|143|465|587|993|995|8891' | sort -nu",
    "for port in 465 993 995; do openssl s_client -connect 127.0.0.1:$port </dev/null 2>/dev/null | grep -E '^(subject|issuer)'; done",
    "for one in 25:smtp 587:smtp 143:imap 110:pop3; do openssl s_client -connect 127.0.0.1:${one%:*} -starttls ${one#*:} \
     </dev/null 2>/dev/null | grep -E '^(subject|issuer)'; done",
];

/// What `telnet` shows of each server before anybody logs in. Replies of ours are those of Dovecot 2.3: 2.4 tells its
/// capabilities in another order, and Debian's name is not in its greeting.
const TALK: &str = r#"python3 - <<'END'
import socket
def told(line):
    line = line.strip().replace("Dovecot (Debian) ready.", "Dovecot ready.")
    return " ".join(sorted(line.split())) if "CAPABILITY" in line else line
for port, end, word in ((25, "250 ", "EHLO client.example.com"), (587, "250 ", "EHLO client.example.com"),
                        (143, "a ", "a CAPABILITY"), (110, ".", "CAPA")):
    with socket.create_connection(("127.0.0.1", port), 30) as server:
        lines = server.makefile("r", newline="\r\n")
        print(port, told(lines.readline()))
        server.sendall(f"{word}\r\n".encode())
        for line in lines:
            print(port, told(line))
            if line.startswith(end):
                break
END"#;

/// What the log file and the journal hold of a message, by its queue id. Times, process ids and the id are its own. And the names of
/// its header fields: a filter's are among them.
const TRACE: &str = r#"
name=look.$$.$(date +%N)@example.com
printf 'Message-ID: <%s>\nSubject: trace\n\nhello\n' $name | sendmail -f info@example.com clerk@example.com
wait_for() { tries=0; until grep -q "$1" /var/log/mail.log; do tries=$((tries + 1)); [ $tries -lt 600 ] || { echo "no $1"; exit 1; }; sleep 0.1; done; }
wait_for "message-id=<$name>"
id=$(grep "message-id=<$name>" /var/log/mail.log | grep -oE ' [0-9A-Z]+: message-id' | tr -d ' ' | cut -d: -f1)
wait_for "$id: removed"
for log in 'cat /var/log/mail.log' 'journalctl -b --facility=mail -o short --no-pager'; do
  $log | grep "$id" | sed -E "s,^.* ([a-z]+(/[a-z]+)?\[[0-9]+\]:),\1,; s/\[[0-9]+\]:/:/; s/$id/ID/g; s/$name/NAME/; s/delay=.*, dsn/delay, dsn/" | sort
done
for message in $(grep -rlF "Message-ID: <$name>" /home/clerk/Maildir); do sed '/^$/q' $message | grep -oE '^[A-Za-z-]+:'; done"#;

/// Puts mail into the queue to look at.
pub fn prepare(guest: &Guest) -> Done {
    guest.run(&QUEUE.replace("$(ID)", &format!("$({ID})"))).map(drop)
}

/// What each command says now; a failure is part of it.
pub fn all(guest: &Guest) -> Vec<(&'static str, String)> {
    let look = |command: &&'static str| {
        let script = command.replace("$(ID)", &format!("$({ID})"));
        let said = guest.run(&format!("{{ {script}\n}} || echo exit $?"));
        (*command, said.unwrap_or_else(|problem| problem))
    };
    SAME.iter().map(look).collect()
}

/// # Errors
///
/// The commands whose answers differ, with both.
pub fn same(theirs: &[(&str, String)], ours: &[(&str, String)]) -> Done {
    let answer = |wanted: &str| {
        let found = theirs.iter().find(|(command, _)| *command == wanted);
        found.map_or("no such command\n", |(_, said)| said.as_str())
    };
    let mut differ = Vec::new();
    for (command, ours) in ours {
        // The original of this name, beside the originals.
        let theirs = answer(&command.replace(CLASSIC, ""));
        if theirs != ours {
            differ.push(format!("$ {command}\n--- theirs\n{theirs}--- ours\n{ours}"));
        }
    }
    if differ.is_empty() { Ok(()) } else { Err(differ.join("\n")) }
}
