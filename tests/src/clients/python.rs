//! Python's smtplib, imaplib and poplib.

use std::process::Command;

use super::rig::{HOST, PASSWORD, Rig};

/// Names that every script below starts with.
fn prologue(rig: &Rig) -> String {
    let port = |name| rig.site.port(name);
    format!(
        "\
import email, email.message, imaplib, poplib, smtplib, socket, ssl
context = ssl.create_default_context(cafile={ca:?})
class Context:
    # The certificate names {HOST}; the address is the loopback.
    def wrap_socket(self, sock, server_hostname=None, **rest):
        return context.wrap_socket(sock, server_hostname={HOST:?}, **rest)
tls = Context()
SMTP, SUBMISSION, SMTPS, IMAP, IMAPS, POP3, POP3S = {smtp}, {submission}, {smtps}, {imap}, {imaps}, {pop3}, {pop3s}
USER1, USER2, PASSWORD = 'user1@example.com', 'user2@example.com', {PASSWORD:?}
def submit():
    s = smtplib.SMTP('127.0.0.1', SUBMISSION, 'client.example.com', timeout=30)
    s.starttls(context=tls)
    s.login(USER1, PASSWORD)
    return s
def imap(user=USER1):
    m = imaplib.IMAP4('127.0.0.1', IMAP, timeout=30)
    m.starttls(tls)
    m.login(user, PASSWORD)
    return m
def message(subject, to, body='Hello\\n'):
    m = email.message.EmailMessage()
    m['From'], m['To'], m['Subject'] = USER1, to, subject
    m.set_content(body)
    return m
def wait(user, count=1):
    # Idles until the mailbox holds as many messages; imaplib has no word for it.
    m = imap(user)
    there = int(m.select()[1][0])
    while there < count:
        m.send(b'idle IDLE\\r\\n')
        line = b''
        while not line.endswith(b' EXISTS\\r\\n'):
            line = m.readline()
        there = int(line.split()[1])
        m.send(b'DONE\\r\\n')
        while not m.readline().startswith(b'idle OK'):
            pass
    return m
",
        ca = rig.ca().display().to_string(),
        smtp = port("smtp"),
        submission = port("submission"),
        smtps = port("smtps"),
        imap = port("imap"),
        imaps = port("imaps"),
        pop3 = port("pop3"),
        pop3s = port("pop3s"),
    )
}

#[track_caller]
fn play(script: &str) {
    let Some(rig) = Rig::with("python3") else { return };
    let path = rig.write("script.py", &format!("{}{script}", prologue(&rig)));
    rig.run(Command::new("python3").arg(path), b"");
}

#[test]
fn submission_with_starttls_is_read_by_imap() {
    play(
        "
s = submit()
s.send_message(message('one', USER2))
s.quit()
m = wait(USER2)
body = m.fetch('1', '(BODY.PEEK[])')[1][0][1]
got = email.message_from_bytes(body)
assert got['Subject'] == 'one' and got.get_payload() == 'Hello\\r\\n', body
assert 'user1@example.com' == got['Return-Path'].strip('<>'), body
assert 'with ESMTPSA' in got['Received'], got['Received']
m.logout()
",
    );
}

#[test]
fn submission_with_wrapped_tls_is_read_by_pop3() {
    play(
        "
s = smtplib.SMTP_SSL('127.0.0.1', SMTPS, 'client.example.com', timeout=30, context=tls)
s.login(USER2, PASSWORD)
s.sendmail(USER2, [USER1], b'Subject: two\\r\\n\\r\\n..dots\\r\\n.\\r\\nend\\r\\n')
s.quit()
wait(USER1).logout()
p = poplib.POP3_SSL('127.0.0.1', POP3S, timeout=30, context=tls)
p.user(USER1); p.pass_(PASSWORD)
count, size = p.stat()
assert count == 1
lines = p.retr(1)[1]
assert lines[-3:] == [b'..dots', b'.', b'end'], lines
assert sum(len(l) + 2 for l in lines) == size, (size, lines)
uid = p.uidl(1)
p.dele(1)
p.quit()
p = poplib.POP3('127.0.0.1', POP3, timeout=30)
p.stls(tls)
p.user(USER1); p.pass_(PASSWORD)
assert p.stat() == (0, 0)
p.quit()
",
    );
}

#[test]
fn mail_from_outside_arrives_and_relaying_is_refused() {
    play(
        "
s = smtplib.SMTP('127.0.0.1', SMTP, 'mx.sender.example', timeout=30)
s.sendmail('someone@sender.example', ['info@example.org'], b'Subject: outside\\r\\n\\r\\nhi\\r\\n')
s.quit()
m = wait('info@example.org')
assert b'outside' in m.fetch('1', '(BODY.PEEK[HEADER.FIELDS (SUBJECT)])')[1][0][1]
m.logout()
s = smtplib.SMTP('127.0.0.1', SMTP, 'mx.sender.example', timeout=30)
try:
    s.sendmail('someone@sender.example', ['nobody-here@example.org'], b'Subject: x\\r\\n\\r\\n')
    raise SystemExit('an unknown recipient was accepted')
except smtplib.SMTPRecipientsRefused as e:
    assert e.recipients['nobody-here@example.org'][0] == 550, e.recipients
s.close()
s = smtplib.SMTP('127.0.0.1', SUBMISSION, 'client.example.com', timeout=30)
s.ehlo()
assert s.mail(USER1)[0] == 530
s.close()
",
    );
}

#[test]
fn large_and_many_part_messages_come_back_as_they_were() {
    play(
        "
m = message('large', USER2)
import random
random.seed(7)
data = random.randbytes(3_000_000)
m.add_attachment(data, maintype='application', subtype='octet-stream', filename='data.bin')
m.add_attachment('zwei\\n', subtype='html', filename='ä.html')
s = submit()
s.send_message(m)
s.quit()
box = wait(USER2)
typ, got = box.fetch('1', '(BODYSTRUCTURE RFC822.SIZE BODY.PEEK[])')
whole = email.message_from_bytes(got[0][1], policy=email.policy.default)
parts = list(whole.iter_attachments())
assert parts[0].get_content() == data and parts[0].get_filename() == 'data.bin'
assert parts[1].get_filename() == 'ä.html'
size = int(got[0][0].split(b'RFC822.SIZE ')[1].split()[0])
assert size == len(got[0][1])
second = box.fetch('1', '(BODY.PEEK[3])')[1][0][1]
assert second.strip() in (b'zwei', b'endlpZWkK', b'endlaQo='), second
part = box.fetch('1', '(BODY.PEEK[2]<100.50>)')[1][0][1]
assert len(part) == 50
box.logout()
"
        .replace("import random", "import email.policy, random")
        .as_str(),
    );
}

#[test]
fn mailboxes_flags_and_moves_work() {
    play(
        "
m = imap()
names = [line.split(b' ')[-1].strip(b'\"') for line in m.list()[1]]
assert {b'INBOX', b'Drafts', b'Sent', b'Trash', b'Junk', b'Archive'} <= set(names), names
typ, d = m.append('Sent', '(\\\\Seen $Forwarded)', imaplib.Time2Internaldate(1700000000), b'Subject: kept\\r\\n\\r\\nbody\\r\\n')
assert typ == 'OK' and b'APPENDUID' in d[0], d
assert m.select('Sent')[1] == [b'1']
flags = m.fetch('1', '(FLAGS INTERNALDATE)')[1][0]
assert b'\\\\Seen' in flags and b'$Forwarded' in flags and b'2023' in flags, flags
assert m.search(None, 'SUBJECT', 'kept')[1] == [b'1']
assert m.search(None, 'UNSEEN')[1] == [b'']
m.store('1', '+FLAGS', '(\\\\Flagged)')
typ, d = m.uid('MOVE', '1', 'Archive')
assert typ == 'OK', d
assert m.search(None, 'ALL')[1] == [b'']
m.select('Archive')
assert b'\\\\Flagged' in m.fetch('1', '(FLAGS)')[1][0]
m.create('Work/2026') if False else m.create('Work.2026')
m.subscribe('Work.2026')
assert any(b'Work.2026' in line for line in m.lsub()[1])
m.copy('1', 'Work.2026')
m.store('1', '+FLAGS', '(\\\\Deleted)')
assert m.expunge()[1] == [b'1']
assert b'MESSAGES 1' in m.status('Work.2026', '(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)')[1][0]
m.rename('Work.2026', 'Work.2027')
m.select('Work.2027')
assert m.fetch('1', '(BODY[])')[1][0][1].endswith(b'body\\r\\n')
m.select('INBOX')
m.delete('Work.2027')
quota = m.getquotaroot('INBOX')
assert b'1048576' in quota[1][1][0], quota
m.logout()
"
        .replace("m.create('Work/2026') if False else m.create('Work.2026')", "m.create('Work.2026')")
        .as_str(),
    );
}

#[test]
fn aliases_and_address_extensions_find_their_mailboxes() {
    play(
        "
s = submit()
s.send_message(message('alias', 'sales@example.com'))
s.send_message(message('extension', 'user2+lists@example.com'))
s.quit()
wait(USER1, 1).logout()
wait(USER2, 2).logout()
",
    );
}

#[test]
fn wrong_passwords_are_refused_everywhere() {
    play(
        "
def refused(call):
    try:
        call()
    except Exception as e:
        assert not isinstance(e, (TimeoutError, ConnectionError)), e
        return
    raise SystemExit('a wrong password was accepted')
s = smtplib.SMTP('127.0.0.1', SUBMISSION, 'client.example.com', timeout=30)
s.starttls(context=tls)
refused(lambda: s.login(USER1, 'wrong'))
m = imaplib.IMAP4_SSL('127.0.0.1', IMAPS, ssl_context=tls, timeout=30)
refused(lambda: m.login(USER1, 'wrong'))
# From this very address a password would be welcome even without TLS, as with Dovecot.
class FromAfar(imaplib.IMAP4):
    def _create_socket(self, timeout):
        return socket.create_connection((self.host, self.port), timeout, ('127.0.0.2', 0))
m = FromAfar('127.0.0.1', IMAP, timeout=30)
assert 'LOGINDISABLED' in m.capabilities
refused(lambda: m.login(USER1, PASSWORD))
p = poplib.POP3_SSL('127.0.0.1', POP3S, timeout=30, context=tls)
p.user(USER1)
refused(lambda: p.pass_('wrong'))
",
    );
}
