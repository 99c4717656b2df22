//! 8-bit MIME content for a server that takes 7 bits only (RFC 6152 section 3): parts marked 8bit or binary become
//! quoted-printable, and the marks of what holds them become 7bit. Streaming: only a header is held in memory.

use queue::LineEnd;

/// A header beyond this is passed through as it is.
const LARGEST_HEADER: usize = 256 * 1024;
const DEEPEST: usize = 100;
/// RFC 2045 section 6.7.
const LONGEST_QUOTED: usize = 72;

/// What a line goes to.
pub type Out<'a> = dyn FnMut(&[u8], LineEnd) + 'a;

#[derive(Debug)]
pub struct Downgrade {
    state: State,
    /// The header's lines so far.
    header: Vec<Vec<u8>>,
    size: usize,
    /// Boundaries of the multiparts we are in, outermost first.
    boundaries: Vec<Vec<u8>>,
    /// The line goes on in the next piece.
    line: Vec<u8>,
    /// The part is encoded.
    quoting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Body,
}

impl Default for Downgrade {
    fn default() -> Self {
        Self {
            state: State::Header,
            header: Vec::new(),
            size: 0,
            boundaries: Vec::new(),
            line: Vec::new(),
            quoting: false,
        }
    }
}

impl Downgrade {
    pub fn put(&mut self, piece: &[u8], end: LineEnd, out: &mut Out<'_>) {
        if self.state == State::Body
            && !self.quoting
            && self.line.is_empty()
            && end == LineEnd::Continued
        {
            return out(piece, end);
        }
        self.line.extend_from_slice(piece);
        if end == LineEnd::Continued && self.line.len() < LARGEST_HEADER {
            return;
        }
        let line = std::mem::take(&mut self.line);
        self.whole(line, out);
    }

    pub fn finish(&mut self, out: &mut Out<'_>) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.whole(line, out);
        }
        self.flush(out);
    }

    fn whole(&mut self, line: Vec<u8>, out: &mut Out<'_>) {
        if let Some(last) = self.boundary(&line) {
            self.flush(out);
            out(&line, LineEnd::Newline);
            self.quoting = false;
            self.state = if last { State::Body } else { State::Header };
            return;
        }
        match self.state {
            State::Header if line.is_empty() => self.end_of_header(out),
            State::Header => {
                self.size += line.len();
                self.header.push(line);
                if self.size > LARGEST_HEADER {
                    self.flush(out);
                    self.state = State::Body;
                }
            }
            State::Body if self.quoting => quoted(&line, out),
            State::Body => out(&line, LineEnd::Newline),
        }
    }

    /// Whether the line is a boundary of a multipart that is open, and its last.
    fn boundary(&mut self, line: &[u8]) -> Option<bool> {
        let rest = line.strip_prefix(b"--")?;
        let at = self.boundaries.iter().rposition(|boundary| rest.starts_with(boundary))?;
        let boundary = self.boundaries.get(at)?;
        let last = rest.get(boundary.len()..).is_some_and(|tail| tail.starts_with(b"--"));
        self.boundaries.truncate(if last { at } else { at + 1 });
        Some(last)
    }

    fn flush(&mut self, out: &mut Out<'_>) {
        for line in self.header.drain(..) {
            out(&line, LineEnd::Newline);
        }
        self.size = 0;
    }

    /// Now the part's type and encoding are known.
    fn end_of_header(&mut self, out: &mut Out<'_>) {
        let header: Vec<u8> = self.header.join(&b"\n"[..]);
        let header = [header.as_slice(), b"\n\n"].concat();
        let value = |name| message::header::find(&header, name).map(|field| field.unfolded());
        let kind = value("Content-Type").unwrap_or_default();
        let kind = message::parameters::ContentType::parse(&kind);
        let coded = value("Content-Transfer-Encoding").unwrap_or_default();
        let coded = coded.trim_ascii().to_ascii_lowercase();
        let eight = matches!(coded.as_slice(), b"8bit" | b"binary");
        let multipart = kind.media_type.eq_ignore_ascii_case(b"multipart");
        let holds_message = kind.is("message", "rfc822") || kind.is("message", "global");
        let composite = multipart || kind.media_type.eq_ignore_ascii_case(b"message");
        let mut inside_field = false;
        for line in self.header.drain(..) {
            let continues = line.first().is_some_and(|c| matches!(c, b' ' | b'\t'));
            let named = b"content-transfer-encoding:";
            inside_field = if continues {
                inside_field
            } else {
                line.get(..named.len()).is_some_and(|head| head.eq_ignore_ascii_case(named))
            };
            if !(eight && inside_field) {
                out(&line, LineEnd::Newline);
            }
        }
        self.size = 0;
        if eight {
            let word = if composite { "7bit" } else { "quoted-printable" };
            out(format!("Content-Transfer-Encoding: {word}").as_bytes(), LineEnd::Newline);
        }
        out(b"", LineEnd::Newline);
        self.quoting = eight && !composite;
        self.state = if holds_message { State::Header } else { State::Body };
        if multipart
            && let Some(boundary) = kind.parameter("boundary")
            && self.boundaries.len() < DEEPEST
        {
            self.boundaries.push(boundary.trim_ascii_end().to_vec());
        }
    }
}

/// One line in quoted-printable, as Postfix encodes it.
fn quoted(line: &[u8], out: &mut Out<'_>) {
    let mut coded = Vec::with_capacity(line.len() * 2);
    for (at, &octet) in line.iter().enumerate() {
        if coded.len() > LONGEST_QUOTED {
            coded.push(b'=');
            out(&coded, LineEnd::Newline);
            coded.clear();
        }
        let last = at + 1 == line.len();
        let plain = match octet {
            b'=' => false,
            b' ' | b'\t' => !last,
            b'!'..=b'~' => true,
            _ => false,
        };
        if plain {
            coded.push(octet);
        } else {
            coded.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
    }
    out(&coded, LineEnd::Newline);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downgraded(text: &str) -> String {
        let mut downgrade = Downgrade::default();
        let mut shown = Vec::new();
        let mut out = |line: &[u8], end| {
            shown.extend_from_slice(line);
            if end == LineEnd::Newline {
                shown.push(b'\n');
            }
        };
        for line in text.lines() {
            downgrade.put(line.as_bytes(), LineEnd::Newline, &mut out);
        }
        downgrade.finish(&mut out);
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_single_part_is_quoted() {
        assert_eq!(
            downgraded(
                "Subject: x\nContent-Transfer-Encoding:\n 8bit\nMIME-Version: 1.0\n\ncaf\u{e9} = \nend\n"
            ),
            "Subject: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\ncaf=C3=A9 =3D=20\nend\n"
        );
        let plain = "Subject: x\n\nno encoding, caf\u{e9}\n";
        assert_eq!(downgraded(plain), plain);
        let long = format!("Content-Transfer-Encoding: 8bit\n\n{}\n", "\u{e9}".repeat(40));
        assert!(downgraded(&long).lines().all(|line| line.len() <= 76));
    }

    #[test]
    fn multiparts_are_taken_part_by_part() {
        let text = "Content-Type: multipart/mixed; boundary=\"b\"\nContent-Transfer-Encoding: 8bit\n\nintro \u{e9}\n--b\n\
            Content-Transfer-Encoding: 8bit\n\n\u{e9}\n--b\nContent-Transfer-Encoding: base64\n\nAAAA\n--b\n\
            Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: in\nContent-Transfer-Encoding: binary\n\n\u{e9}\n--b--\nend\n";
        let expected = "Content-Type: multipart/mixed; boundary=\"b\"\nContent-Transfer-Encoding: 7bit\n\nintro \u{e9}\n--b\n\
            Content-Transfer-Encoding: quoted-printable\n\n=C3=A9\n--b\nContent-Transfer-Encoding: base64\n\nAAAA\n--b\n\
            Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: in\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9\n--b--\nend\n";
        assert_eq!(downgraded(text), expected);
    }
}
