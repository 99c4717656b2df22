//! A message on its way out: line ends become CRLF, a line that begins with a dot gets another
//! (RFC 1939 section 3), TOP stops after so many lines of the body.

/// What broken clients need (`pop3_client_workarounds`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workarounds {
    /// Outlook stops at a NUL: send 0x80 in its place.
    pub no_nuls: bool,
    /// Outlook Express hangs when there is no empty line after the header.
    pub end_of_headers: bool,
}

/// Prepares a message piece by piece.
#[derive(Debug)]
pub struct Stuffer {
    /// Lines of the body that may still go; `None`: all.
    lines: Option<u64>,
    workarounds: Workarounds,
    in_body: bool,
    /// Octets of the current line so far.
    column: usize,
    last: u8,
    done: bool,
}

impl Stuffer {
    /// For RETR with `lines` `None`, else for TOP.
    #[must_use]
    pub fn new(lines: Option<u64>, workarounds: Workarounds) -> Self {
        Self { lines, workarounds, in_body: false, column: 0, last: 0, done: false }
    }

    /// Whether nothing more of the message is wanted.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Appends a piece of the message.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for &byte in piece {
            if self.done {
                return;
            }
            self.octet(byte, out);
        }
    }

    fn octet(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'\n' => {
                if self.last != b'\r' {
                    out.push(b'\r');
                }
                out.push(b'\n');
                let empty = self.column == 0 || (self.column == 1 && self.last == b'\r');
                self.column = 0;
                self.last = byte;
                self.end_of_line(empty);
                return;
            }
            b'.' if self.column == 0 => out.extend_from_slice(b".."),
            0 if self.workarounds.no_nuls => out.push(0x80),
            other => out.push(other),
        }
        self.column += 1;
        self.last = byte;
    }

    fn end_of_line(&mut self, empty: bool) {
        if self.in_body {
            self.lines = self.lines.map(|lines| lines.saturating_sub(1));
        } else {
            self.in_body = empty;
        }
        self.done = self.in_body && self.lines == Some(0);
    }

    /// Ends the message: completes its last line, then the line with the dot.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if self.column > 0 && !self.done {
            // a CR alone is no line end
            self.octet(b'\n', out);
        }
        if !self.in_body && self.workarounds.end_of_headers {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// The size that a message has on the wire, without doubled dots and the last line: what LIST and RETR
/// announce.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure {
    octets: u64,
    last: u8,
}

impl Measure {
    pub fn push(&mut self, piece: &[u8]) {
        for &byte in piece {
            self.octets += if byte == b'\n' && self.last != b'\r' { 2 } else { 1 };
            self.last = byte;
        }
    }

    #[must_use]
    pub fn octets(self) -> u64 {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(message: &[u8], lines: Option<u64>, workarounds: Workarounds, chunk: usize) -> Vec<u8> {
        let mut stuffer = Stuffer::new(lines, workarounds);
        let mut out = Vec::new();
        for piece in message.chunks(chunk) {
            stuffer.push(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    #[test]
    fn messages_become_what_the_wire_wants() {
        let plain = Workarounds::default();
        for (message, lines, wire) in [
            (&b"A: b\n\n.x\nlast"[..], None, &b"A: b\r\n\r\n..x\r\nlast\r\n.\r\n"[..]),
            (b"A: b\r\n\r\n..\r\n", None, b"A: b\r\n\r\n...\r\n.\r\n"),
            (b"A: b\n\none\ntwo\nthree\n", Some(0), b"A: b\r\n\r\n.\r\n"),
            (b"A: b\n\none\ntwo\nthree\n", Some(2), b"A: b\r\n\r\none\r\ntwo\r\n.\r\n"),
            (b"A: b\n\none\n", Some(9), b"A: b\r\n\r\none\r\n.\r\n"),
            (b"A: b\r\n\r\nbare\rcr\n", None, b"A: b\r\n\r\nbare\rcr\r\n.\r\n"),
            (b"", None, b".\r\n"),
            (b"A: b\n", None, b"A: b\r\n.\r\n"),
        ] {
            for chunk in 1..8 {
                let out = sent(message, lines, plain, chunk);
                assert_eq!(out, wire, "{:?}", String::from_utf8_lossy(message));
            }
        }
        let both = Workarounds { no_nuls: true, end_of_headers: true };
        assert_eq!(sent(b"A: \0\n", None, both, 9), b"A: \x80\r\n\r\n.\r\n");
    }

    proptest! {
        /// Undoing the dots gives the message back, with CRLF, and its size is the one announced.
        #[test]
        fn nothing_is_lost(message in "[a.\r\n ]{0,60}", chunk in 1usize..9) {
            let wire = sent(message.as_bytes(), None, Workarounds::default(), chunk);
            let body = wire.strip_suffix(b".\r\n").unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            let undone: String = text.split_inclusive('\n').map(|line| {
                line.strip_prefix('.').unwrap_or(line)
            }).collect();
            let mut measure = Measure::default();
            measure.push(message.as_bytes());
            let whole = message.is_empty() || message.ends_with('\n');
            let added = if whole { 0 } else if message.ends_with('\r') { 1 } else { 2 };
            prop_assert_eq!(undone.len() as u64, measure.octets() + added);
            prop_assert!(!undone.contains("\n.\r\n") || message.contains("\n.") );
        }
    }
}
