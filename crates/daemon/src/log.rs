//! Log lines: the original's text as the message, the same facts beside it as fields.
//!
//! ```text
//! tracing::info!(target: "mail", ident = "postfix/smtpd", queue_id = %id, "{id}: client={client}");
//! ```
//!
//! `ident` becomes SYSLOG_IDENTIFIER, every other field THEORIS_NAME. With a journal the fields go
//! there; without one the line goes to stderr as `ident[pid]: text`; a file that the host's configuration
//! names instead (`read.rs`) gets the lines that the original would write there (`file.rs`). Writing is done
//! by one thread behind a bounded queue (`journal.rs`), so no caller ever waits for a log.

pub(crate) mod file;
mod read;

use std::fmt::{self, Write};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::journal::{Entry, Sink, Target};
use crate::plan::Log;

pub use read::facility;

/// A message longer than this is cut; no text of the originals comes near.
const LONGEST_MESSAGE: usize = 16 * 1024;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Starts logging in this process; a second call changes nothing.
pub(crate) fn init(log: &Log, name: &str, target: Target) {
    let ident = if log.ident.is_empty() { name.to_owned() } else { log.ident.clone() };
    let sink = SINK.get_or_init(|| Sink::start(target));
    let lines = Lines {
        sink: sink.clone(),
        ident,
        facility: log.facility,
        most: if log.debug { Level::DEBUG } else { Level::INFO },
    };
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if ENDING.load(Ordering::Relaxed) {
            return;
        }
        crate::metrics::counter("panics_total", "Panics, each of which ended one connection.")
            .add(1);
        tracing::error!(target: "mail", "panic: {}", panic.to_string().replace('\n', ": "));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            previous(panic);
        }
    }));
}

/// Its connections have ended, or their time is over: tokio's timers panic in tasks that still run when it stops.
static ENDING: AtomicBool = AtomicBool::new(false);

/// This process serves nobody any more, and nothing that happens to its tasks harms anybody.
pub(crate) fn nobody_is_served() {
    ENDING.store(true, Ordering::Relaxed);
}

/// From now on lines go to these files, which are those of `log` in their order, opened.
pub(crate) fn redirect(log: &Log, opened: Vec<OwnedFd>) {
    if let Some(sink) = SINK.get() {
        let opened = opened.into_iter().map(|file| Arc::new(File::from(file)));
        sink.redirect(log.files.iter().cloned().zip(opened).collect());
    }
}

/// Waits until what was logged is written, but not longer than `limit`.
pub fn flush(limit: Duration) {
    if let Some(sink) = SINK.get() {
        sink.flush(limit);
    }
}

/// Lines that found the queue full and were dropped.
pub fn dropped() -> u64 {
    SINK.get().map_or(0, Sink::dropped)
}

struct Lines {
    sink: Sink,
    ident: String,
    facility: u8,
    most: Level,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.most
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.message.truncate(line.message.floor_char_boundary(LONGEST_MESSAGE));
        self.sink.write(Entry {
            priority: line.priority.unwrap_or(match *event.metadata().level() {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                Level::DEBUG | Level::TRACE => 7,
            }),
            facility: self.facility,
            ident: line.ident.unwrap_or_else(|| self.ident.clone()),
            message: line.message,
            fields: line.fields,
        });
    }
}

/// Collects the fields of one event.
#[derive(Default)]
struct Line {
    message: String,
    ident: Option<String>,
    priority: Option<u8>,
    fields: Vec<(String, String)>,
}

impl Line {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = printable(&value),
            "ident" => self.ident = Some(printable(&value)),
            name => self.fields.push((format!("THEORIS_{}", field_name(name)), value)),
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "priority" => self.priority = u8::try_from(value.min(7)).ok(),
            _ => self.put(field, value.to_string()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.put(field, value.to_string()),
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::exit::chain(error));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, text);
    }
}

/// The journal allows A-Z, 0-9 and `_`.
fn field_name(name: &str) -> String {
    let letter =
        |byte: char| if byte.is_ascii_alphanumeric() { byte.to_ascii_uppercase() } else { '_' };
    name.chars().map(letter).collect()
}

/// A peer's text must not begin a line of its own or move the terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}
