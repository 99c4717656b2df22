//! SEARCH (RFC 3501 section 6.4.4, RFC 4731, RFC 5032).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::SystemTime;

use mail_types::Uid;
use mail_types::mime::{Content, Part};
use mailstore::StoreError;
use message::text::{Finder, decode_body, decode_field, is_known_charset};
use protocol::imap::SequenceSet;
use protocol::imap::date::{DateTime, Day};
use protocol::imap::search::{DateOf, Key, Returns, Search};
use protocol::imap::sequence::compact;

use crate::commands::fetch::zone;
use crate::reply::Reply;
use crate::session::Session;
use crate::view::{News, View};
use crate::wire::End;

/// # Errors
///
/// When the client does not read.
pub async fn search(
    session: &mut Session,
    tag: &str,
    by_uid: bool,
    search: &Search,
) -> Result<Reply, End> {
    let news = News { expunges: by_uid, new_mail: !session.settings.workarounds.delay_newmail };
    let charset = search.charset.as_deref().unwrap_or("UTF-8");
    if !is_known_charset(charset.as_bytes()) {
        return Ok(Reply::no("[BADCHARSET] Unknown charset"));
    }
    let Some(view) = &mut session.selected else { return Ok(Reply::no_mailbox_selected()) };
    let plan = Plan::of(&search.key, view, charset);
    let all: Vec<(u32, Uid)> = view.all().collect();
    let now = seconds(SystemTime::now());
    let mut found = Vec::new();
    for (number, uid) in all {
        let mut message = Looked { view, number, uid, now, file: None, head: None };
        match plan.holds(&mut message) {
            Ok(true) => found.push(if by_uid { uid.get() } else { number }),
            Ok(false) | Err(StoreError::Expunged(_)) => {}
            Err(error) => return Ok(session.refused(&error)),
        }
        // A long search must not hold up the other sessions of this runtime.
        tokio::task::yield_now().await;
    }
    let line = match search.returns {
        None => {
            let numbers: String = found.iter().map(|number| format!(" {number}")).collect();
            format!("* SEARCH{numbers}")
        }
        Some(returns) => extended(tag, by_uid, returns, &found),
    };
    session.line.line(&line);
    session.line.relieve().await?;
    session.news(news);
    Ok(Reply::ok("Search completed"))
}

/// `* ESEARCH (TAG "a") UID MIN 1 MAX 7 ALL 1:7 COUNT 7`
fn extended(tag: &str, by_uid: bool, returns: Returns, found: &[u32]) -> String {
    let mut line = format!("* ESEARCH (TAG \"{tag}\")");
    if by_uid {
        line.push_str(" UID");
    }
    if let (Some(first), Some(last)) = (found.first(), found.last()) {
        if returns.min {
            line.push_str(&format!(" MIN {first}"));
        }
        if returns.max {
            line.push_str(&format!(" MAX {last}"));
        }
        if returns.all {
            line.push_str(&format!(" ALL {}", compact(found.iter().copied())));
        }
    }
    if returns.count {
        line.push_str(&format!(" COUNT {}", found.len()));
    }
    line
}

/// A condition ready to be asked of each message: sets resolved, texts decoded.
enum Plan {
    Simple(Key),
    Ranges {
        by_uid: bool,
        ranges: Vec<(u32, u32)>,
    },
    /// A field's name, and what its text contains.
    Header(String, Finder),
    Body(Finder),
    Text(Finder),
    Not(Box<Plan>),
    Or(Box<Plan>, Box<Plan>),
    And(Vec<Plan>),
}

impl Plan {
    fn of(key: &Key, view: &View, charset: &str) -> Self {
        let text = |octets: &[u8]| Finder::new(&message::text::decode(octets, charset.as_bytes()));
        let inner = |key: &Key| Box::new(Self::of(key, view, charset));
        let ranges = |set: &SequenceSet, by_uid: bool| {
            let last = view.all().last();
            let last = last.map_or(0, |(number, uid)| if by_uid { uid.get() } else { number });
            Self::Ranges { by_uid, ranges: set.resolve(last) }
        };
        match key {
            Key::Numbers(set) => ranges(set, false),
            Key::Uids(set) => ranges(set, true),
            Key::Header(name, value) => Self::Header(name.clone(), text(value)),
            Key::Body(value) => Self::Body(text(value)),
            Key::Text(value) => Self::Text(text(value)),
            Key::Not(key) => Self::Not(inner(key)),
            Key::Or(first, second) => Self::Or(inner(first), inner(second)),
            Key::And(keys) => {
                // What costs nothing is asked first.
                let mut plans: Vec<Self> =
                    keys.iter().map(|key| Self::of(key, view, charset)).collect();
                plans.sort_by_key(Self::cost);
                Self::And(plans)
            }
            simple => Self::Simple(simple.clone()),
        }
    }

    fn cost(&self) -> u8 {
        match self {
            Self::Simple(_) | Self::Ranges { .. } => 0,
            Self::Header(..) => 1,
            Self::Body(_) | Self::Text(_) => 2,
            Self::Not(inner) => inner.cost(),
            Self::Or(first, second) => first.cost().max(second.cost()),
            Self::And(plans) => plans.iter().map(Self::cost).max().unwrap_or(0),
        }
    }

    fn holds(&self, message: &mut Looked<'_>) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Simple(key) => message.simple(key)?,
            Self::Ranges { by_uid, ranges } => {
                let number = if *by_uid { message.uid.get() } else { message.number };
                let after = ranges.partition_point(|&(_, last)| last < number);
                ranges.get(after).is_some_and(|&(first, _)| first <= number)
            }
            Self::Header(name, finder) => message.header_contains(name, finder)?,
            Self::Body(finder) => message.body_contains(finder, false)?,
            Self::Text(finder) => message.body_contains(finder, true)?,
            Self::Not(inner) => !inner.holds(message)?,
            Self::Or(first, second) => first.holds(message)? || second.holds(message)?,
            Self::And(plans) => {
                for plan in plans {
                    if !plan.holds(message)? {
                        return Ok(false);
                    }
                }
                true
            }
        })
    }
}

/// A message being looked at; opened only when a condition needs its text.
struct Looked<'a> {
    view: &'a mut View,
    number: u32,
    uid: Uid,
    now: i64,
    file: Option<File>,
    head: Option<Vec<u8>>,
}

/// A header is searched up to here.
const LARGEST_HEADER: u64 = 1024 * 1024;

impl Looked<'_> {
    fn simple(&mut self, key: &Key) -> Result<bool, StoreError> {
        let gone = StoreError::Expunged(self.uid);
        let message = self.view.mailbox.message(self.uid).ok_or(gone)?;
        Ok(match key {
            Key::All => true,
            Key::Flag(flag) => message.flags.has(*flag),
            Key::Recent => self.view.is_recent(message),
            Key::Keyword(keyword) => {
                let names = self.view.mailbox.keyword_names(message);
                names.iter().any(|name| name.eq_ignore_ascii_case(keyword))
            }
            Key::Before(of, day) => self.day(*of)? < *day,
            Key::On(of, day) => self.day(*of)? == *day,
            Key::Since(of, day) => self.day(*of)? >= *day,
            Key::Older(interval) => self.received()? <= self.now - i64::from(*interval),
            Key::Younger(interval) => self.received()? >= self.now - i64::from(*interval),
            Key::Larger(size) => self.view.mailbox.wire_size(self.uid)? > *size,
            Key::Smaller(size) => self.view.mailbox.wire_size(self.uid)? < *size,
            _ => false, // all others are plans of their own
        })
    }

    fn received(&mut self) -> Result<i64, StoreError> {
        Ok(seconds(self.view.mailbox.internal_date(self.uid)?))
    }

    fn day(&mut self, of: DateOf) -> Result<Day, StoreError> {
        if of == DateOf::Received {
            let seconds = self.received()?;
            return Ok(DateTime { seconds, zone: zone(seconds) }.day());
        }
        let head = self.head()?;
        let date = message::header::find(head, "Date").map(|field| field.unfolded());
        let date = date.and_then(|value| message::date::Date::parse(&value));
        let day =
            date.map(|date| DateTime { seconds: date.seconds, zone: i32::from(date.offset) }.day());
        // As for Dovecot, a message without a date was sent before every day.
        Ok(day.unwrap_or(Day(0)))
    }

    fn file(&mut self) -> Result<&mut File, StoreError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.view.mailbox.open_message(self.uid)?,
        };
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        Ok(self.file.insert(file))
    }

    fn head(&mut self) -> Result<&[u8], StoreError> {
        if self.head.is_none() {
            let mut head = Vec::new();
            let mut limited = self.file()?.take(LARGEST_HEADER);
            let mut piece = [0; 8 * 1024];
            loop {
                let read = limited.read(&mut piece).map_err(unreadable)?;
                head.extend_from_slice(piece.get(..read).unwrap_or_default());
                let end = message::header::end(&head);
                if read == 0 || end < head.len() {
                    head.truncate(end);
                    break;
                }
            }
            self.head = Some(head);
        }
        Ok(self.head.as_deref().unwrap_or_default())
    }

    fn header_contains(&mut self, name: &str, wanted: &Finder) -> Result<bool, StoreError> {
        let head = self.head()?;
        let mut fields = message::header::fields(head).filter(|field| field.is(name));
        Ok(fields
            .any(|field| wanted.clone().push(&decode_field(&field.unfolded())) || wanted.found()))
    }

    /// In the text parts, decoded; with `headers` also in every header.
    fn body_contains(&mut self, wanted: &Finder, headers: bool) -> Result<bool, StoreError> {
        if wanted.found() {
            return Ok(true); // the empty text
        }
        let file = self.file()?;
        let tree = message::mime::scan(&mut *file, message::mime::Limits::default());
        let tree = tree.map_err(unreadable)?;
        search_part(file, &tree.part, wanted, headers).map_err(unreadable)
    }
}

fn search_part(file: &mut File, part: &Part, wanted: &Finder, headers: bool) -> io::Result<bool> {
    if headers {
        let mut header = Vec::new();
        file.seek(SeekFrom::Start(part.header.start))?;
        let length = (part.header.end - part.header.start).min(LARGEST_HEADER);
        file.by_ref().take(length).read_to_end(&mut header)?;
        if wanted.clone().push(&String::from_utf8_lossy(&header)) {
            return Ok(true);
        }
        for field in message::header::fields(&header) {
            let value = decode_field(&field.unfolded());
            let text = format!("{}: {value}", String::from_utf8_lossy(field.name));
            if wanted.clone().push(&text) {
                return Ok(true);
            }
        }
    }
    match &part.content {
        Content::Multipart(parts) => {
            for part in parts {
                if search_part(file, part, wanted, headers)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Content::Message(message) => search_part(file, &message.part, wanted, true),
        Content::Leaf if !part.is("text") && !part.is("message") => Ok(false),
        Content::Leaf => {
            file.seek(SeekFrom::Start(part.body.start))?;
            let body = file.by_ref().take(part.body.end - part.body.start);
            let charset = part
                .parameters
                .iter()
                .find(|parameter| parameter.name.eq_ignore_ascii_case(b"charset"));
            let charset = charset.map_or(&b"us-ascii"[..], |parameter| &parameter.value);
            let mut finder = wanted.clone();
            decode_body(body, &part.encoding, charset, |piece| !finder.push(piece))?;
            Ok(finder.found())
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn unreadable(source: io::Error) -> StoreError {
    StoreError::Io { action: "read", path: "message".into(), source }
}
