//! `postcat`: what a queue file says, in words.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use mail_types::QueueId;
use protocol::postfix::record::RecordType;
use queue::{Access, Located, Queue, ReadAt, ReadError, Records};

use super::options::{Word, parse};
use super::{Fatal, Site, config_directory, why};

/// What is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    pub envelope: bool,
    pub header: bool,
    pub body: bool,
    pub offsets: bool,
    /// Types as decimal numbers.
    pub types: bool,
    /// Pointers are shown and not followed.
    pub raw: bool,
    pub start: u64,
}

/// # Errors
///
/// [`Fatal`], as the original ends.
pub fn run(words: Vec<String>) -> Result<(), Fatal> {
    let (options, files) = parse(&words, "bc:dehoqrs:v");
    let (mut view, mut directory, mut by_id) = (View::default(), None, false);
    for option in options {
        match option {
            Word::Value('c', value) => directory = Some(value),
            Word::Flag('b') => view.body = true,
            Word::Flag('d') => view.types = true,
            Word::Flag('e') => view.envelope = true,
            Word::Flag('h') => view.header = true,
            Word::Flag('o') => view.offsets = true,
            Word::Flag('q') => by_id = true,
            Word::Flag('r') => view.raw = true,
            Word::Value('s', offset) => {
                view.start =
                    offset.parse().map_err(|_| Fatal::new(1, format!("bad offset: {offset}")))?;
            }
            Word::Flag('v') => {}
            _ => return Err(usage()),
        }
    }
    if !view.envelope && !view.header && !view.body {
        (view.envelope, view.header, view.body) = (true, true, true);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    if files.is_empty() && !by_id {
        let mut octets = Vec::new();
        let read = io::Read::read_to_end(&mut io::stdin().lock(), &mut octets);
        read.map_err(|error| Fatal::new(1, format!("read stdin: {}", why(&error))))?;
        return show(&octets[..], "stdin", view, &mut out);
    }
    for name in files {
        let (file, path) = if by_id {
            let site = Site::read(&config_directory(directory.as_deref()), 1)?;
            open_by_id(&site, &name)?
        } else {
            let opened = File::open(&name);
            let file =
                opened.map_err(|error| Fatal::new(1, format!("open {name}: {}", why(&error))))?;
            (file, PathBuf::from(&name))
        };
        show(&file, &path.to_string_lossy(), view, &mut out)?;
    }
    out.flush().map_err(|error| Fatal::new(1, format!("write: {}", why(&error))))
}

fn usage() -> Fatal {
    Fatal::new(
        1,
        "usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] [file(s)...]",
    )
}

fn open_by_id(site: &Site, name: &str) -> Result<(File, PathBuf), Fatal> {
    let id =
        QueueId::parse(name).map_err(|_| Fatal::new(1, format!("bad mail queue ID: {name}")))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for queue in Queue::LISTED.into_iter().chain([Queue::Corrupt]) {
        match site.queue.open(queue, &id, Access::Read) {
            Ok(file) => {
                let path = site.queue.path(queue, &id);
                let shown = path.strip_prefix(&site.queue.root).unwrap_or(&path).to_owned();
                return Ok((file, shown));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    let why = if last.kind() == io::ErrorKind::NotFound {
        "No such file or directory".to_owned()
    } else {
        why(&last)
    };
    Err(Fatal::new(1, format!("open queue file {name}: {why}")))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Envelope,
    Header,
    Body,
    Extracted,
}

/// Prints one file. What is no queue file gets a warning, as the original gives.
///
/// # Errors
///
/// [`Fatal`] at a record that cannot be read.
pub fn show(
    source: impl ReadAt,
    name: &str,
    view: View,
    out: &mut impl Write,
) -> Result<(), Fatal> {
    let broken = |error: &dyn std::fmt::Display| {
        eprintln!("postcat: warning: {name}: {error}");
        Fatal::new(1, "record read error")
    };
    let records = Records::new(source).map_err(|error| broken(&error))?;
    let mut records = if view.raw { records.raw() } else { records };
    records.seek(view.start);
    let mut printer = Printer { out, view, name, part: Part::Envelope, open: false };
    let mut first = true;
    loop {
        let offset = records.position();
        let located = match records.read() {
            Ok(Some(located)) => located,
            Ok(None) => return Ok(()),
            Err(ReadError::Damage(damage)) if first => {
                eprintln!("postcat: warning: {name}: input is not a valid queue file ({damage})");
                return Ok(());
            }
            Err(error) => return Err(broken(&error)),
        };
        if std::mem::take(&mut first) {
            if !b"CTFSAM".contains(&located.kind().0) && view.start == 0 {
                eprintln!("postcat: warning: {name}: input is not a valid queue file");
                return Ok(());
            }
            if view.start == 0 {
                printer.heading().map_err(|error| broken(&error))?;
            }
        }
        let more = printer.record(&located, offset).map_err(|error| broken(&error))?;
        if !more {
            return Ok(());
        }
    }
}

struct Printer<'a, W> {
    out: &'a mut W,
    view: View,
    name: &'a str,
    part: Part,
    /// A line of content is to be continued.
    open: bool,
}

impl<W: Write> Printer<'_, W> {
    fn heading(&mut self) -> io::Result<()> {
        if self.view.envelope {
            writeln!(self.out, "*** ENVELOPE RECORDS {} ***", self.name)?;
        }
        Ok(())
    }

    /// Whether more records follow.
    fn record(&mut self, located: &Located, offset: u64) -> io::Result<bool> {
        match located.kind() {
            RecordType::MESSAGE => {
                self.marker(located, offset, "MESSAGE CONTENTS")?;
                self.part = Part::Header;
            }
            RecordType::EXTRACTED => {
                self.marker(located, offset, "HEADER EXTRACTED")?;
                self.part = Part::Extracted;
            }
            RecordType::END => {
                self.marker(located, offset, "MESSAGE FILE END")?;
                return Ok(false);
            }
            RecordType::LINE | RecordType::CONTINUED
                if matches!(self.part, Part::Header | Part::Body) =>
            {
                self.content(located, offset)?;
            }
            _ => self.envelope(located, offset)?,
        }
        Ok(true)
    }

    fn marker(&mut self, located: &Located, offset: u64, text: &str) -> io::Result<()> {
        if self.view.envelope {
            self.prefix(located, offset)?;
            writeln!(self.out, "*** {text} {} ***", self.name)?;
        }
        Ok(())
    }

    fn content(&mut self, located: &Located, offset: u64) -> io::Result<()> {
        let data = &located.record.data;
        if self.part == Part::Header && !self.open && begins_body(data) {
            self.part = Part::Body;
        }
        let shown = match self.part {
            Part::Header => self.view.header,
            _ => self.view.body,
        };
        if shown {
            if !self.open {
                self.prefix(located, offset)?;
            }
            self.out.write_all(data)?;
            if located.kind() == RecordType::LINE {
                self.out.write_all(b"\n")?;
            }
        }
        self.open = located.kind() == RecordType::CONTINUED;
        Ok(())
    }

    fn envelope(&mut self, located: &Located, offset: u64) -> io::Result<()> {
        if !self.view.envelope {
            return Ok(());
        }
        self.prefix(located, offset)?;
        let text = located.text();
        let time = |text: &str| {
            let seconds = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            message::date::format_ctime(seconds.unwrap_or(0))
        };
        let name = name_of(located.kind());
        match (located.kind(), text.strip_prefix("create_time=")) {
            (RecordType::ATTRIBUTE, Some(value)) => {
                writeln!(self.out, "create_time: {}", time(value))
            }
            (RecordType::TIME | RecordType::WARN_TIME, _) => {
                writeln!(self.out, "{name}: {}", time(&text))
            }
            _ => writeln!(self.out, "{name}: {text}"),
        }
    }

    fn prefix(&mut self, located: &Located, offset: u64) -> io::Result<()> {
        if self.view.offsets {
            write!(self.out, "{offset:9} ")?;
        }
        if self.view.types {
            write!(self.out, "{:3} ", located.kind().0)?;
        }
        Ok(())
    }
}

/// The empty line, or anything else that is no header field and continues none.
fn begins_body(line: &[u8]) -> bool {
    if line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t')) {
        return false;
    }
    let name = line.iter().position(|&octet| octet == b':').and_then(|colon| line.get(..colon));
    !name.is_some_and(|name| {
        !name.is_empty() && name.trim_ascii_end().iter().all(u8::is_ascii_graphic)
    })
}

const fn name_of(kind: RecordType) -> &'static str {
    match kind {
        RecordType::SIZE => "message_size",
        RecordType::TIME => "message_arrival_time",
        RecordType::CREATE_TIME => "queue_file_create_time",
        RecordType::FULL_NAME => "sender_fullname",
        RecordType::INSPECTOR => "content_inspector",
        RecordType::FILTER => "content_filter",
        RecordType::SENDER => "sender",
        RecordType::DONE => "done_recipient",
        RecordType::RECIPIENT => "recipient",
        RecordType::ORIGINAL_RECIPIENT => "original_recipient",
        RecordType::CANCELLED => "canceled_recipient",
        RecordType::WARN_TIME => "warning_message_time",
        RecordType::VERP => "verp_delimiters",
        RecordType::REDIRECT => "redirect_to",
        RecordType::ATTRIBUTE => "named_attribute",
        RecordType::KILLED => "killed_record",
        RecordType::RETURN_RECEIPT_TO => "return_receipt",
        RecordType::ERRORS_TO => "errors_to",
        RecordType::PRIORITY => "priority",
        RecordType::POINTER => "pointer_record",
        RecordType::PADDING => "padding",
        RecordType::FLAGS => "record_flags",
        _ => "unknown_record_type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = include_bytes!("../../../queue/tests/fixtures/two-recipients-one-done");
    const ALL: View = View {
        envelope: true,
        header: true,
        body: true,
        offsets: false,
        types: false,
        raw: false,
        start: 0,
    };

    fn shown(view: View) -> String {
        let mut out = Vec::new();
        show(PLAIN, "active/958619A4924", view, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_are_shown_as_asked() {
        let header = shown(View { envelope: false, body: false, ..ALL });
        assert!(header.starts_with("Received: ") && header.ends_with("From: a@b.example\n"));
        assert_eq!(shown(View { envelope: false, header: false, ..ALL }), "\ncafé\n");
        let envelope = shown(View { header: false, body: false, ..ALL });
        assert!(
            envelope.starts_with("*** ENVELOPE RECORDS active/958619A4924 ***\nmessage_size:   ")
        );
        assert!(envelope.contains("\ndone_recipient: ok@sink.test\n"));
        assert!(envelope.ends_with(
            "*** HEADER EXTRACTED active/958619A4924 ***\nnamed_attribute: encoding=8bit\n*** MESSAGE FILE END active/958619A4924 ***\n"
        ));
        let numbered = shown(View { offsets: true, types: true, start: 659, ..ALL });
        assert!(numbered.starts_with("      659  68 done_recipient: ok@sink.test\n"));
    }

    #[test]
    fn damage_is_an_error() {
        let mut out = Vec::new();
        assert!(show(&PLAIN[..600], "cut", ALL, &mut out).is_err());
        assert!(show(&b"x\n"[..], "bad", ALL, &mut out).is_ok());
    }
}
