//! What a local program writes to sendmail, as records for postdrop.

use std::io::{self, BufRead, Read};

use protocol::postfix::delivery::flags;
use protocol::postfix::record::{RecordType, write, write_attribute, write_line};

use super::super::Caller;
use super::options::Options;

/// More than this in one line is a line of its own; nothing is lost by it.
const LONGEST_LINE: u64 = 1 << 20;
/// Lines of the header that are kept while recipients are looked for.
const LARGEST_FIELD: usize = 1 << 20;

/// The whole submission, envelope and content.
///
/// # Errors
///
/// The input cannot be read, or `-t` found no recipient.
pub fn records(
    options: &Options,
    caller: &Caller,
    line_length: usize,
    input: &mut impl BufRead,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    envelope(options, caller, &mut out);
    for recipient in &options.recipients {
        for address in addresses(recipient) {
            put_recipient(options, &address, &mut out);
        }
    }
    write(&mut out, RecordType::MESSAGE, b"");
    let mut header = options.from_header.then(Header::default);
    content(options, line_length, input, &mut header, &mut out)?;
    write(&mut out, RecordType::EXTRACTED, b"");
    if let Some(header) = header {
        let recipients = header.recipients();
        if recipients.is_empty() && options.recipients.is_empty() {
            return Err(io::Error::other("No recipient addresses found in message header"));
        }
        for address in recipients {
            put_recipient(options, &address, &mut out);
        }
    }
    write(&mut out, RecordType::END, b"");
    Ok(out)
}

fn envelope(options: &Options, caller: &Caller, out: &mut Vec<u8>) {
    if let Some(id) = options.envelope_id.as_ref().filter(|id| !id.is_empty()) {
        write_attribute(out, "envelope_id", id);
    }
    if let Some(ret) = options.ret {
        write_attribute(out, "ret_flags", ret.bits().to_string());
    }
    write_attribute(out, "rewrite_context", if options.gateway { "remote" } else { "local" });
    let trace = match (options.verify, options.verbose) {
        (true, _) => Some(flags::USER_VERIFY),
        (false, true) => Some(flags::RECORD),
        (false, false) => None,
    };
    let full_name = options.full_name.clone().unwrap_or_else(|| full_name(caller));
    if !full_name.is_empty() {
        write(out, RecordType::FULL_NAME, full_name.as_bytes());
    }
    let sender = options.sender.clone().unwrap_or_else(|| caller.name.clone());
    write(out, RecordType::SENDER, sender.as_bytes());
    if let Some(encoding) = options.encoding {
        write_attribute(out, "encoding", encoding);
    }
    if let Some(trace) = trace {
        write_attribute(out, "trace_flags", trace.to_string());
    }
    if let Some(verp) = &options.verp {
        write(out, RecordType::VERP, verp.as_bytes());
    }
}

/// `NAME`, or what the passwd file says before the first comma; `&` is the login name.
fn full_name(caller: &Caller) -> String {
    if let Ok(name) = std::env::var("NAME")
        && !name.is_empty()
    {
        return name;
    }
    let gecos = caller.gecos.split(',').next().unwrap_or_default();
    let mut login = caller.name.chars();
    let capital: String =
        login.next().into_iter().flat_map(char::to_uppercase).chain(login).collect();
    gecos.replace('&', &capital)
}

fn put_recipient(options: &Options, address: &str, out: &mut Vec<u8>) {
    if !options.notify.is_none() {
        write_attribute(out, "notify_flags", options.notify.bits().to_string());
    }
    write(out, RecordType::RECIPIENT, address.as_bytes());
}

/// The content up to the end, or to the line of one dot.
fn content(
    options: &Options,
    line_length: usize,
    input: &mut impl BufRead,
    header: &mut Option<Header>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let (mut line, mut leading, mut complete) = (Vec::new(), true, true);
    loop {
        line.clear();
        if input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let begins = complete;
        complete = line.last() == Some(&b'\n');
        if complete {
            line.pop();
        }
        while line.last() == Some(&b'\r') {
            line.pop();
        }
        if begins && complete && !options.ignore_dots && line == b"." {
            return Ok(());
        }
        if leading && (line.starts_with(b"From ") || line.starts_with(b">From ")) {
            continue; // the first line of an mbox
        }
        leading = false;
        if let Some(header) = header {
            header.line(&line);
        }
        write_line(out, &line, line_length);
    }
}

/// Recipients as `-t` finds them.
#[derive(Debug, Default)]
struct Header {
    field: Vec<u8>,
    ended: bool,
    resent: bool,
    plain: Vec<String>,
    again: Vec<String>,
}

impl Header {
    fn line(&mut self, line: &[u8]) {
        if self.ended {
            return;
        }
        let folded = line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
        if folded && !self.field.is_empty() {
            if self.field.len() < LARGEST_FIELD {
                self.field.extend_from_slice(line);
            }
            return;
        }
        self.end_field();
        self.ended = !is_field(line);
        if !self.ended {
            self.field.extend_from_slice(line);
        }
    }

    fn end_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        let text = String::from_utf8_lossy(&field);
        let Some((name, value)) = text.split_once(':') else { return };
        let name = name.trim_end().to_ascii_lowercase();
        self.resent |= name.starts_with("resent-");
        match name.as_str() {
            "to" | "cc" | "bcc" => self.plain.extend(addresses(value)),
            "resent-to" | "resent-cc" | "resent-bcc" => self.again.extend(addresses(value)),
            _ => {}
        }
    }

    /// A message that is sent again goes to those of the Resent- fields alone.
    fn recipients(mut self) -> Vec<String> {
        self.end_field();
        if self.resent { self.again } else { self.plain }
    }
}

fn is_field(line: &[u8]) -> bool {
    let name = line.iter().position(|&octet| octet == b':').and_then(|colon| line.get(..colon));
    name.is_some_and(|name| {
        let name = name.trim_ascii_end();
        !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
    })
}

/// The addresses of a list, in internal form.
fn addresses(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    for address in message::address::parse(list.as_bytes()) {
        let part = |part: &Option<Vec<u8>>| {
            part.as_ref().map(|octets| String::from_utf8_lossy(octets).into_owned())
        };
        // A group's name has no host; a bare name has one that says so.
        match (part(&address.mailbox), part(&address.host)) {
            (Some(mailbox), Some(host)) if host == "MISSING_DOMAIN" || host.is_empty() => {
                found.push(mailbox);
            }
            (Some(mailbox), Some(host)) if !mailbox.is_empty() => {
                found.push(format!("{mailbox}@{host}"));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use protocol::postfix::record::Record;

    fn shown(words: &str, input: &str) -> Result<String, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let options = Options::read(&words).map_err(|fatal| fatal.text)?;
        let caller = Caller { uid: 1000, name: "joe".into(), gecos: "& User,room 1".into() };
        let bytes = records(&options, &caller, 2048, &mut input.as_bytes())
            .map_err(|error| error.to_string())?;
        let (mut buffer, mut text) = (BytesMut::from(&bytes[..]), String::new());
        while let Some(record) = Record::take(&mut buffer, 1 << 20).unwrap() {
            let data = String::from_utf8_lossy(&record.data).into_owned();
            text.push_str(&format!("{} {data}\n", char::from(record.kind.0)));
        }
        Ok(text)
    }

    #[test]
    fn recipients_come_from_the_command_line() {
        insta::assert_snapshot!(
            shown(
                "-f s@x -N success,delay -V ENV1 -R full bob ann@x",
                "From joe Sat\nSubject: a\r\n\n..\n.\nmore\n"
            )
            .unwrap()
        );
    }

    #[test]
    fn or_from_the_header() {
        let mail = "To: Bob <bob>, \"a b\"@x.org\nCc: grp: c@x.org,\n d@x.org;\nBcc: e@x.org\n\nTo: no@x.org\n";
        insta::assert_snapshot!(shown("-ti", mail).unwrap());
        let again = shown("-t", "Resent-To: r@x\nTo: t@x\n\n").unwrap();
        assert!(again.contains("R r@x") && !again.contains("R t@x"));
        assert_eq!(
            shown("-t", "Subject: x\n\n").unwrap_err(),
            "No recipient addresses found in message header"
        );
    }
}
