//! ENVELOPE and BODYSTRUCTURE in IMAP's form (RFC 3501 section 7.4.2), as Dovecot prints them.

use mail_types::mime::{Address, Content, Disposition, Envelope, Message, Parameter, Part};

use super::write::{escaped, nstring};

/// `(date subject from sender reply-to to cc bcc in-reply-to message-id)`.
pub fn envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    out.push(b'(');
    text(out, envelope.date.as_deref());
    out.push(b' ');
    text(out, envelope.subject.as_deref());
    for list in [
        &envelope.from[..],
        envelope.shown_sender(),
        envelope.shown_reply_to(),
        &envelope.to[..],
        &envelope.cc[..],
        &envelope.bcc[..],
    ] {
        out.push(b' ');
        addresses(out, list);
    }
    out.push(b' ');
    text(out, envelope.in_reply_to.as_deref());
    out.push(b' ');
    text(out, envelope.message_id.as_deref());
    out.push(b')');
}

fn text(out: &mut Vec<u8>, text: Option<&[u8]>) {
    nstring(out, text);
}

fn addresses(out: &mut Vec<u8>, list: &[Address]) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in list {
        out.push(b'(');
        nstring(out, address.name.as_deref());
        for part in [&address.route, &address.mailbox, &address.host] {
            out.push(b' ');
            nstring(out, part.as_deref());
        }
        out.push(b')');
    }
    out.push(b')');
}

fn nescaped(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => escaped(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `BODYSTRUCTURE`; `BODY` when not `extended`.
pub fn structure(out: &mut Vec<u8>, part: &Part, extended: bool) {
    out.push(b'(');
    match &part.content {
        Content::Multipart(parts) => {
            for part in parts {
                structure(out, part, extended);
            }
            out.push(b' ');
            escaped(out, &part.subtype);
            if extended {
                out.push(b' ');
                parameters(out, &part.parameters);
                ending(out, part);
            }
        }
        content => {
            single(out, part, content, extended);
        }
    }
    out.push(b')');
}

fn single(out: &mut Vec<u8>, part: &Part, content: &Content, extended: bool) {
    escaped(out, &part.media_type);
    out.push(b' ');
    escaped(out, &part.subtype);
    out.push(b' ');
    parameters(out, &part.parameters);
    out.push(b' ');
    nescaped(out, part.id.as_deref());
    out.push(b' ');
    nescaped(out, part.description.as_deref());
    out.push(b' ');
    escaped(out, &part.encoding);
    out.extend_from_slice(format!(" {}", part.body_size.wire).as_bytes());
    if let Content::Message(message) = content {
        attached(out, message, extended);
    }
    if matches!(content, Content::Message(_)) || part.is("text") {
        out.extend_from_slice(format!(" {}", part.body_size.lines).as_bytes());
    }
    if extended {
        out.push(b' ');
        nescaped(out, part.md5.as_deref());
        ending(out, part);
    }
}

fn attached(out: &mut Vec<u8>, message: &Message, extended: bool) {
    out.push(b' ');
    envelope(out, &message.envelope);
    out.push(b' ');
    structure(out, &message.part, extended);
}

/// The extension data that single and multiple parts share: disposition, languages, location.
fn ending(out: &mut Vec<u8>, part: &Part) {
    out.push(b' ');
    match &part.disposition {
        Some(Disposition { kind, parameters: list }) => {
            out.push(b'(');
            escaped(out, kind);
            out.push(b' ');
            parameters(out, list);
            out.push(b')');
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    if part.languages.is_empty() {
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b'(');
        for (index, language) in part.languages.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            escaped(out, language);
        }
        out.push(b')');
    }
    out.push(b' ');
    nescaped(out, part.location.as_deref());
}

fn parameters(out: &mut Vec<u8>, list: &[Parameter]) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for (index, parameter) in list.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        escaped(out, &parameter.name);
        out.push(b' ');
        escaped(out, &parameter.value);
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use mail_types::mime::Size;

    use super::*;

    fn shown(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn html() -> Part {
        let parameter =
            |name: &str, value: &str| Parameter { name: name.into(), value: value.into() };
        Part {
            media_type: b"text".into(),
            subtype: b"html".into(),
            parameters: vec![parameter("charset", "iso-2022-jp"), parameter("format", "flowed")],
            id: Some(b"<cid1@x>".into()),
            encoding: b"quoted-printable".into(),
            body_size: Size { physical: 10, wire: 10, lines: 0 },
            languages: vec![b"ja".into(), b"en".into()],
            location: Some(b"http://x/".into()),
            ..Part::default()
        }
    }

    /// Captured from Dovecot 2.3.19.
    #[test]
    fn a_part_is_printed_as_dovecot_prints_it() {
        assert_eq!(
            shown(|out| structure(out, &html(), true)),
            "(\"text\" \"html\" (\"charset\" \"iso-2022-jp\" \"format\" \"flowed\") \"<cid1@x>\" NIL \
             \"quoted-printable\" 10 0 NIL NIL (\"ja\" \"en\") \"http://x/\")"
        );
        let mixed = Part {
            subtype: b"mixed".into(),
            content: Content::Multipart(vec![html()]),
            ..Part::default()
        };
        let short = shown(|out| structure(out, &mixed, false));
        assert!(short.starts_with("((\"text\" \"html\"") && short.ends_with(" 10 0) \"mixed\")"));
    }

    #[test]
    fn an_envelope_knows_groups_and_defaults() {
        let address = |name: Option<&str>, mailbox: Option<&str>, host: Option<&str>| Address {
            name: name.map(Into::into),
            route: None,
            mailbox: mailbox.map(Into::into),
            host: host.map(Into::into),
        };
        let mail = Envelope {
            subject: Some(b"say \"x\"".into()),
            from: vec![address(Some("A"), Some("a"), Some("b.example"))],
            to: vec![address(None, Some("Group"), None), address(None, None, None)],
            bcc: vec![],
            in_reply_to: Some(vec![]),
            ..Envelope::default()
        };
        assert_eq!(
            shown(|out| envelope(out, &mail)),
            "(NIL {7}\r\nsay \"x\" ((\"A\" NIL \"a\" \"b.example\")) ((\"A\" NIL \"a\" \"b.example\")) \
             ((\"A\" NIL \"a\" \"b.example\")) ((NIL NIL \"Group\" NIL)(NIL NIL NIL NIL)) NIL NIL \"\" NIL)"
        );
    }
}
