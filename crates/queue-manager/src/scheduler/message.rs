//! A message on its way into the active queue: moved, locked, read.

use std::io;
use std::time::{Duration, SystemTime};

use mail_types::{Clock, QueueId, Timestamp};
use protocol::postfix::delivery::flags;
use protocol::postfix::{MsgStats, Recipient};
use queue::{
    Envelope, FileState, Lock, LogKind, Queue, QueueDirectory, QueueFile, ReadError, RecipientState,
};

/// A file that another program still works on is looked at again after this time.
const BUSY_DELAY: Duration = Duration::from_secs(60);

/// What is known of an active message, and does not change while it is active.
#[derive(Clone, Debug)]
pub struct Facts {
    pub id: QueueId,
    pub envelope: Envelope,
    pub active_arrival: Timestamp,
    /// `postsuper -e`: give it up whatever its age.
    pub force_expire: bool,
    /// Forget once that its destinations are dead.
    pub unthrottle: bool,
}

/// Where the recipients that are not in memory begin.
#[derive(Clone, Copy, Debug)]
pub struct Rest(u64);

/// A batch of recipients, and what comes after them.
#[derive(Debug)]
pub struct Batch {
    pub recipients: Vec<Recipient>,
    pub rest: Option<Rest>,
}

/// What came of trying to take a message in.
#[derive(Debug)]
pub enum Taken {
    Message(Box<Facts>, Batch),
    /// Not complete, not due, or gone.
    NotNow,
    /// An agent of a former queue manager still works on it.
    InUse,
    /// Damaged: it lies in `corrupt/` now.
    Corrupt(String),
}

impl Facts {
    #[must_use]
    pub fn sender(&self) -> &str {
        self.envelope.sender.as_deref().unwrap_or_default()
    }

    #[must_use]
    pub fn size(&self) -> i64 {
        self.envelope.size.map_or(0, |size| size.message_size)
    }

    /// Bits of the delivery request that ask for reports.
    #[must_use]
    pub fn trace_flags(&self) -> u32 {
        self.envelope.trace_flags.map_or(0, |(bits, _)| bits) & flags::TRACE_MASK
    }

    #[must_use]
    pub fn create_time(&self) -> i64 {
        let arrival = self.envelope.arrival.unwrap_or_default();
        self.envelope.create_time.unwrap_or(arrival.seconds)
    }

    #[must_use]
    pub fn stats(&self) -> MsgStats {
        MsgStats {
            incoming_arrival: self.envelope.arrival.unwrap_or_default(),
            active_arrival: self.active_arrival,
            ..MsgStats::default()
        }
    }
}

/// Moves a due message into the active queue and reads its envelope and at most `most` recipients.
///
/// # Errors
///
/// As rename(2) and open(2), where they say that the queue itself is in trouble.
pub fn take(
    queue: &QueueDirectory,
    from: Queue,
    id: &QueueId,
    most: usize,
    ignore_time: bool,
    clock: &dyn Clock,
) -> io::Result<Taken> {
    let now = clock.now();
    let (state, modified) = match queue.state(from, id) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::NotNow),
        state => state?,
    };
    let FileState::Ready { unthrottle, force_expire } = state else {
        if state == FileState::Damaged {
            return set_aside(queue, from, id, "marked by a delivery agent".to_owned());
        }
        return Ok(Taken::NotNow);
    };
    let due = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
    if modified > due && !ignore_time && !force_expire {
        return Ok(Taken::NotNow);
    }
    match queue.rename(id, from, Queue::Active) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::NotNow),
        renamed => renamed?,
    }
    let file = match QueueFile::open(queue, Queue::Active, id, Lock::Exclusive) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            put_back(queue, id, now + BUSY_DELAY)?;
            return Ok(Taken::InUse);
        }
        Err(error) => return Err(error),
    };
    if unthrottle {
        file.clear_unthrottle()?;
    }
    let read = file.envelope().and_then(|mut reader| {
        let (recipients, more) = reader.recipients(most)?;
        let rest = more.then(|| Rest(reader.position()));
        Ok((reader.into_envelope(), recipients, rest))
    });
    let (envelope, recipients, rest) = match read {
        Ok(read) => read,
        Err(ReadError::Io(error)) => return Err(error),
        Err(damage) => return set_aside(queue, Queue::Active, id, damage.to_string()),
    };
    if envelope.size.is_none() || envelope.sender.is_none() || envelope.arrival.is_none() {
        return set_aside(queue, Queue::Active, id, "incomplete envelope".to_owned());
    }
    if !force_expire {
        queue.remove_log(LogKind::Defer, id)?;
    }
    let facts = Facts {
        id: id.clone(),
        envelope,
        active_arrival: clock.timestamp(),
        force_expire,
        unthrottle,
    };
    Ok(Taken::Message(Box::new(facts), Batch { recipients: todo(recipients), rest }))
}

/// The next recipients of an active message.
///
/// # Errors
///
/// [`ReadError`]
pub fn next_batch(
    queue: &QueueDirectory,
    facts: &Facts,
    rest: Rest,
    most: usize,
) -> Result<Batch, ReadError> {
    let file = QueueFile::open(queue, Queue::Active, &facts.id, Lock::None)?;
    let mut reader = file.envelope()?.resume(facts.envelope.clone(), rest.0);
    let (recipients, more) = reader.recipients(most)?;
    let rest = more.then(|| Rest(reader.position()));
    Ok(Batch { recipients: todo(recipients), rest })
}

/// The recipients whose records still say that they are to be served: an agent that died may have
/// marked some of its own.
#[must_use]
pub fn still_to_do(
    queue: &QueueDirectory,
    id: &QueueId,
    recipients: Vec<Recipient>,
) -> Vec<Recipient> {
    use std::os::unix::fs::FileExt as _;
    let Ok(file) = QueueFile::open(queue, Queue::Active, id, Lock::None) else { return recipients };
    let is_done = |recipient: &Recipient| {
        let mut kind = [0_u8];
        let offset = u64::try_from(recipient.offset).ok().filter(|&offset| offset > 0);
        offset.is_some_and(|offset| {
            file.file().read_exact_at(&mut kind, offset).is_ok() && kind == *b"D"
        })
    };
    recipients.into_iter().filter(|recipient| !is_done(recipient)).collect()
}

fn todo(recipients: Vec<queue::QueuedRecipient>) -> Vec<Recipient> {
    let todo = recipients.into_iter().filter(|item| item.state == RecipientState::Todo);
    todo.map(|item| item.recipient).collect()
}

fn put_back(queue: &QueueDirectory, id: &QueueId, until: SystemTime) -> io::Result<()> {
    queue.set_time(Queue::Active, id, until)?;
    queue.rename(id, Queue::Active, Queue::Incoming)
}

fn set_aside(queue: &QueueDirectory, from: Queue, id: &QueueId, why: String) -> io::Result<Taken> {
    queue.set_aside(id, from)?;
    Ok(Taken::Corrupt(why))
}
