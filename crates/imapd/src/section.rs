//! Parts of a stored message as a client asks for them: found by range, converted on the way out.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use mail_types::mime::{Message, Part};
use message::content::ToCrlf;
use protocol::imap::fetch::{Section, Text};

use crate::wire::{End, Line};

const CHUNK: usize = 32 * 1024;
/// A header that is searched for fields is read up to here.
const LARGEST_HEADER: u64 = 4 * 1024 * 1024;

/// A message of which parts are wanted. It is read only as far as these need.
#[derive(Debug)]
pub struct Opened {
    file: File,
    length: u64,
    /// RFC822.SIZE.
    wire_size: u64,
    tree: Option<Message>,
    header: Option<Extent>,
}

/// A run of the file, and its length with CRLF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub range: Range<u64>,
    pub wire: u64,
}

/// Where the octets of a section come from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    File(Extent),
    Memory(Vec<u8>),
}

impl Opened {
    /// # Errors
    ///
    /// The system's.
    pub fn new(file: File, wire_size: u64) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length, wire_size, tree: None, header: None })
    }

    /// The MIME tree, scanned at the first call.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn tree(&mut self) -> io::Result<&Message> {
        let tree = match self.tree.take() {
            Some(tree) => tree,
            None => message::mime::scan(At(&self.file, 0), message::mime::Limits::default())?,
        };
        Ok(self.tree.insert(tree))
    }

    /// The message with the fields of its own header alone: enough for an envelope.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn head(&mut self) -> io::Result<Message> {
        if let Some(tree) = &self.tree {
            return Ok(tree.clone());
        }
        let header = self.header()?.range.end;
        let input = At(&self.file, 0).take(header);
        message::mime::scan(input, message::mime::Limits::default())
    }

    /// The header with its empty line.
    fn header(&mut self) -> io::Result<Extent> {
        if let Some(header) = &self.header {
            return Ok(header.clone());
        }
        let header = header_extent(At(&self.file, 0))?;
        Ok(self.header.insert(header).clone())
    }

    /// Where a section's octets are. What does not exist is empty, as for Dovecot.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn find(&mut self, section: &Section) -> io::Result<Source> {
        if section.part.is_empty() {
            let header = self.header()?;
            return self.text_of(
                &section.text,
                || header.clone(),
                |opened| Extent {
                    range: header.range.end..opened.length,
                    wire: opened.wire_size.saturating_sub(header.wire),
                },
            );
        }
        let tree = self.tree()?;
        let Some(part) = tree.part.at(&section.part) else { return Ok(Source::Memory(Vec::new())) };
        let inner = part.message().map(|message| message.part.clone());
        let header_of =
            |part: &Part| Extent { range: part.header.clone(), wire: part.header_size.wire };
        let body_of = |part: &Part| Extent { range: part.body.clone(), wire: part.body_size.wire };
        match (&section.text, inner) {
            (Text::All, _) => Ok(Source::File(body_of(part))),
            (Text::Mime, _) => Ok(Source::File(header_of(part))),
            (text, Some(inner)) => self.text_of(text, || header_of(&inner), |_| body_of(&inner)),
            (_, None) => Ok(Source::Memory(Vec::new())),
        }
    }

    fn text_of(
        &self,
        text: &Text,
        header: impl Fn() -> Extent,
        body: impl Fn(&Self) -> Extent,
    ) -> io::Result<Source> {
        Ok(match text {
            Text::All => Source::File(Extent { range: 0..self.length, wire: self.wire_size }),
            Text::Header | Text::Mime => Source::File(header()),
            Text::Body => Source::File(body(self)),
            Text::Fields { names, except } => {
                let block = self.read(&header().range)?;
                Source::Memory(filtered(&block, |name| {
                    names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name))
                        != *except
                }))
            }
        })
    }

    /// A run of the file, bounded.
    fn read(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = (range.end - range.start).min(LARGEST_HEADER);
        At(&self.file, range.start).take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a section as `LABEL {n}` and its octets. Gives how many octets those were.
    ///
    /// # Errors
    ///
    /// [`End`], also when the file ends before the octets that were announced.
    pub async fn send(
        &self,
        line: &mut Line,
        section: &Section,
        source: Source,
    ) -> Result<u64, End> {
        let whole = match &source {
            Source::File(extent) => extent.wire,
            Source::Memory(bytes) => bytes.len() as u64,
        };
        let (first, most) = section.partial.unwrap_or((0, u64::MAX));
        let count = whole.saturating_sub(first).min(most);
        line.put(format!("{} {{{count}}}\r\n", section.label).as_bytes());
        match source {
            Source::Memory(bytes) => {
                let start = usize::try_from(first).unwrap_or(usize::MAX).min(bytes.len());
                let rest = bytes.get(start..).unwrap_or_default();
                let end = usize::try_from(count).unwrap_or(usize::MAX).min(rest.len());
                line.put(rest.get(..end).unwrap_or_default());
                line.relieve().await?;
            }
            Source::File(extent) => self.stream(line, &extent, first, count).await?,
        }
        Ok(count)
    }

    async fn stream(
        &self,
        line: &mut Line,
        extent: &Extent,
        first: u64,
        count: u64,
    ) -> Result<(), End> {
        let broken = |cause: String| End::Broken(format!("FETCH failed: {cause}"));
        let mut at = extent.range.start;
        let (mut skip, mut left) = (first, count);
        if extent.range.end - extent.range.start == extent.wire {
            // Nothing will be converted, so the place is known.
            at += skip;
            skip = 0;
        }
        let mut converter = ToCrlf::default();
        let mut chunk = vec![0; CHUNK];
        let mut converted = Vec::new();
        while left > 0 {
            let room =
                usize::try_from(extent.range.end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let target = chunk.get_mut(..room).unwrap_or_default();
            let read = self.file.read_at(target, at).map_err(|error| broken(error.to_string()))?;
            if read == 0 {
                return Err(broken("Cached message size larger than expected".to_owned()));
            }
            at += read as u64;
            converted.clear();
            converter.push(chunk.get(..read).unwrap_or_default(), &mut converted);
            let start = usize::try_from(skip).unwrap_or(usize::MAX).min(converted.len());
            skip -= start as u64;
            let rest = converted.get(start..).unwrap_or_default();
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            line.put(rest.get(..take).unwrap_or_default());
            left -= take as u64;
            line.relieve().await?;
        }
        Ok(())
    }
}

/// Reads a file from a place of its own, so that several readers do not disturb each other.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(buffer, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}

/// Up to and with the first empty line; everything when there is none.
fn header_extent(mut input: impl Read) -> io::Result<Extent> {
    let mut chunk = vec![0; 8 * 1024];
    let (mut end, mut wire) = (0_u64, 0_u64);
    // What the current line holds so far: nothing, only a CR, or more.
    let (mut empty, mut only_cr, mut after_cr) = (true, false, false);
    loop {
        let read = input.read(&mut chunk)?;
        if read == 0 {
            return Ok(Extent { range: 0..end, wire });
        }
        for &octet in chunk.get(..read).unwrap_or_default() {
            end += 1;
            wire += if octet == b'\n' && !after_cr { 2 } else { 1 };
            after_cr = octet == b'\r';
            if octet == b'\n' {
                if empty || only_cr {
                    return Ok(Extent { range: 0..end, wire });
                }
                (empty, only_cr) = (true, false);
            } else {
                only_cr = empty && octet == b'\r';
                empty = false;
            }
        }
    }
}

/// The fields whose names are `wanted`, with CRLF, and the empty line that always ends them.
fn filtered(header: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut taking = false;
    for line in header.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            break;
        }
        if !matches!(text.first(), Some(b' ' | b'\t')) {
            let name = text.split(|&octet| octet == b':').next().unwrap_or_default();
            taking = wanted(name.trim_ascii_end());
        }
        if taking {
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use protocol::imap::{Cursor, fetch};

    use super::*;

    const MAIL: &str = "From: a@b\nSubject: x\n y\nMIME-Version: 1.0\n\
        Content-Type: multipart/mixed; boundary=q\n\n--q\n\none\ntwo\n--q\n\
        Content-Type: message/rfc822\n\nSubject: inner\n\nbody\n--q--\n";

    fn opened(text: &str) -> Opened {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let wire = message::content::wire_size(text.as_bytes()).unwrap();
        Opened::new(file, wire).unwrap()
    }

    /// The literal that a section request gets.
    async fn fetched(text: &str, item: &str) -> String {
        let mut message = opened(text);
        let items = fetch::parse(&mut Cursor::new(item.as_bytes())).unwrap();
        let [fetch::Item::Section(section)] = &items[..] else { panic!() };
        let source = message.find(section).unwrap();
        let (here, mut there) = tokio::io::duplex(1 << 20);
        let limit = std::time::Duration::from_secs(5);
        let mut line = Line::new(daemon::Wire::from_io(here), 1000, limit, limit);
        message.send(&mut line, section, source).await.unwrap();
        line.flush().await.unwrap();
        line.close(None).await;
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut there, &mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn sections_are_cut_out_and_converted() {
        for (item, expected) in [
            (
                "BODY[HEADER.FIELDS (subject)]",
                "BODY[HEADER.FIELDS (SUBJECT)] {18}\r\nSubject: x\r\n y\r\n\r\n",
            ),
            ("BODY[1]", "BODY[1] {8}\r\none\r\ntwo"),
            ("BODY[1]<2.3>", "BODY[1]<2> {3}\r\ne\r\n"),
            ("BODY[1]<99>", "BODY[1]<99> {0}\r\n"),
            ("BODY[2]", "BODY[2] {22}\r\nSubject: inner\r\n\r\nbody"),
            ("BODY[2.HEADER]", "BODY[2.HEADER] {18}\r\nSubject: inner\r\n\r\n"),
            ("BODY[2.TEXT]", "BODY[2.TEXT] {4}\r\nbody"),
            ("BODY[2.MIME]", "BODY[2.MIME] {32}\r\nContent-Type: message/rfc822\r\n\r\n"),
            ("BODY[9]", "BODY[9] {0}\r\n"),
            ("BODY[1.HEADER]", "BODY[1.HEADER] {0}\r\n"),
        ] {
            assert_eq!(fetched(MAIL, item).await, expected, "{item}");
        }
        let header = fetched(MAIL, "BODY[HEADER]").await;
        assert!(header.ends_with("boundary=q\r\n\r\n"), "{header}");
        let text = fetched(MAIL, "RFC822.TEXT").await;
        assert!(text.contains("}\r\n--q\r\n\r\none"), "{text}");
        assert_eq!(
            fetched("Subject: only", "BODY[HEADER]").await,
            "BODY[HEADER] {13}\r\nSubject: only"
        );
        assert_eq!(fetched("Subject: only", "BODY[TEXT]").await, "BODY[TEXT] {0}\r\n");
    }
}
