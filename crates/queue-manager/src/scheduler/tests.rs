//! The whole scheduler over a real queue directory and real sockets, with agents that a test writes
//! and a clock that runs only when everybody waits.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use mail_types::{Clock, QueueId, SystemClock};
use protocol::postfix::delivery::{
    DeliveryReply, DeliveryRequest, Remaining, RequestReader, agent_greeting,
};
use protocol::postfix::record::{RecordType, write, write_attribute};
use protocol::postfix::rewrite::{Resolution, RewriteRequest, flags};
use protocol::postfix::trigger::QmgrTrigger;
use protocol::postfix::{AttrReader, Dialect, Dsn, greeting, protocols};
use queue::{Lock, LogEntry, LogKind, NewFile, Queue, QueueDirectory, QueueFile, SizeRecord};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::settings::tests::settings;
use super::{Context, Scheduler};

/// The machine's clock, driven by tokio's.
struct TestClock(SystemTime, Instant);

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        self.0 + self.1.elapsed()
    }
}

/// A queue with its neighbours: rewrite sends `user@T.N` over transport T; bounce, defer and trace
/// keep real logs and count their flushes.
struct Site {
    root: tempfile::TempDir,
    queue: QueueDirectory,
    tasks: JoinSet<()>,
    flushes: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in
            ["incoming", "active", "deferred", "corrupt", "bounce", "defer", "trace", "private"]
        {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let queue = QueueDirectory::new(root.path());
        let mut site = Self { root, queue, tasks: JoinSet::new(), flushes: Arc::default() };
        site.serve("rewrite", rewrite);
        for kind in LogKind::ALL {
            let (queue, flushes) = (site.queue.clone(), Arc::clone(&site.flushes));
            site.serve(kind.directory(), move |stream| {
                reports(stream, kind, queue.clone(), Arc::clone(&flushes))
            });
        }
        site
    }

    fn serve<F, C>(&mut self, name: &str, handle: F)
    where
        F: Fn(UnixStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(self.root.path().join("private").join(name)).unwrap();
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(handle(stream));
            }
        });
    }

    /// An agent that answers each request with what `act` says.
    fn agent<F>(&mut self, name: &str, act: F)
    where
        F: Fn(&QueueDirectory, DeliveryRequest) -> Vec<u8> + Send + Sync + 'static,
    {
        let (act, queue) = (Arc::new(act), self.queue.clone());
        self.serve(name, move |mut stream| {
            let (act, queue) = (Arc::clone(&act), queue.clone());
            async move {
                let _ = stream.write_all(&agent_greeting(Dialect::default())).await;
                let mut reader = RequestReader::new(Dialect::default());
                let mut buffer = BytesMut::new();
                while let Ok(count) = stream.read_buf(&mut buffer).await {
                    if let Ok(Some(request)) = reader.read(&mut buffer) {
                        let _ = stream.write_all(&act(&queue, request)).await;
                        return;
                    }
                    if count == 0 {
                        return;
                    }
                }
            }
        });
    }

    fn message(&self, sender: &str, recipients: &[&str]) -> QueueId {
        self.message_with(sender, recipients, None)
    }

    fn message_with(&self, sender: &str, recipients: &[&str], warn: Option<i64>) -> QueueId {
        let mut file = NewFile::create(&self.queue, Queue::Incoming, &SystemClock).unwrap();
        let now = SystemClock.timestamp();
        let mut envelope = Vec::new();
        let time = format!("{} {}", now.seconds, now.micros);
        write(&mut envelope, RecordType::TIME, time.as_bytes());
        write_attribute(&mut envelope, "create_time", now.seconds.to_string());
        write(&mut envelope, RecordType::SENDER, sender.as_bytes());
        if let Some(after) = warn {
            let time = format!("{:15}", now.seconds + after);
            write(&mut envelope, RecordType::WARN_TIME, time.as_bytes());
        }
        for recipient in recipients {
            write(&mut envelope, RecordType::RECIPIENT, recipient.as_bytes());
        }
        write(&mut envelope, RecordType::MESSAGE, b"");
        let mut content = Vec::new();
        write(&mut content, RecordType::LINE, b"Subject: test");
        let mut end = Vec::new();
        write(&mut end, RecordType::EXTRACTED, b"");
        write(&mut end, RecordType::END, b"");
        let length = |bytes: &[u8]| i64::try_from(bytes.len()).unwrap();
        let size = SizeRecord {
            content_length: length(&content),
            data_offset: 97 + length(&envelope),
            recipients: i64::try_from(recipients.len()).unwrap(),
            message_size: length(&content),
            ..SizeRecord::default()
        };
        let mut all = Vec::new();
        write(&mut all, RecordType::SIZE, size.print().as_bytes());
        all.extend([envelope, content, end].concat());
        file.append(&all).unwrap();
        file.complete(Queue::Incoming, 0).unwrap()
    }

    /// Runs the scheduler until `done`.
    async fn run(&self, main: &str, done: impl Future<Output = ()>) {
        let (_, engine) = self.scheduler(main);
        engine.run(done).await.unwrap();
    }

    fn scheduler(&self, main: &str) -> (Scheduler, super::Engine) {
        let mut settings = settings(main);
        settings.private = self.root.path().join("private");
        let clock = Arc::new(TestClock(SystemTime::now(), Instant::now()));
        Scheduler::new(Context::new(settings, self.queue.clone(), clock))
    }

    fn is_in(&self, queue: Queue, id: &QueueId) -> bool {
        self.queue.state(queue, id).is_ok()
    }

    fn is_gone(&self, id: &QueueId) -> bool {
        [Queue::Incoming, Queue::Active, Queue::Deferred].iter().all(|&q| !self.is_in(q, id))
    }

    /// Waits, in virtual time, until a condition of the queue holds.
    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(1_000_000);
        while !condition() {
            assert!(Instant::now() < limit, "never: {what}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn reasons(&self, id: &QueueId) -> Vec<String> {
        let entries = self.queue.read_log(LogKind::Defer, id).unwrap();
        entries.into_iter().map(|entry| entry.dsn.reason).collect()
    }
}

async fn rewrite(mut stream: UnixStream) {
    let _ = stream.write_all(&greeting(Dialect::default(), protocols::REWRITE)).await;
    let (mut reader, mut buffer) = (AttrReader::default(), BytesMut::new());
    while stream.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        while let Ok(Some(list)) = reader.read(&mut buffer) {
            let Ok(RewriteRequest::Resolve { address, .. }) = RewriteRequest::decode(&list) else {
                return;
            };
            let domain = address.rsplit_once('@').unwrap().1.to_owned();
            let transport = domain.split('.').next().unwrap().to_owned();
            let bad = if transport == "bad" { flags::ERROR } else { 0 };
            let answer = Resolution {
                transport,
                nexthop: domain,
                recipient: address,
                flags: flags::CLASS_DEFAULT | bad,
                ..Resolution::default()
            };
            let _ = stream.write_all(&answer.encode()).await;
        }
    }
}

async fn reports(
    mut stream: UnixStream,
    kind: LogKind,
    queue: QueueDirectory,
    flushes: Arc<Mutex<Vec<String>>>,
) {
    use protocol::postfix::bounce::{BounceRequest, DELETE_RECIPIENTS};
    let _ = stream.write_all(&greeting(Dialect::default(), protocols::BOUNCE)).await;
    let (mut reader, mut buffer) = (AttrReader::default(), BytesMut::new());
    while stream.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        let Ok(Some(list)) = reader.read(&mut buffer) else { continue };
        match BounceRequest::decode(&list, Dialect::default()).unwrap() {
            BounceRequest::Append { queue_id, recipient, dsn, .. } => {
                queue.append_log(kind, &queue_id, &LogEntry { recipient, dsn }, true).unwrap();
            }
            BounceRequest::Flush(notice) => {
                let id = &notice.queue_id;
                let entries = queue.read_log(kind, id).unwrap();
                if notice.flags & DELETE_RECIPIENTS != 0 {
                    let file = QueueFile::open(&queue, Queue::Active, id, Lock::Shared).unwrap();
                    for entry in &entries {
                        file.mark_done(entry.recipient.offset.try_into().unwrap()).unwrap();
                    }
                }
                queue.remove_log(kind, id).unwrap();
                let what = format!("{} {id} {}", kind.directory(), entries.len());
                flushes.lock().unwrap().push(what);
            }
            BounceRequest::Warn(notice) => {
                flushes.lock().unwrap().push(format!("warn {}", notice.queue_id));
            }
            _ => {}
        }
        let _ = stream.write_all(&protocol::postfix::status_reply(0)).await;
    }
}

fn all_done(queue: &QueueDirectory, request: &DeliveryRequest) -> Vec<u8> {
    let file = QueueFile::open(queue, Queue::Active, &request.queue_id, Lock::Shared).unwrap();
    for recipient in &request.recipients {
        file.mark_done(recipient.offset.try_into().unwrap()).unwrap();
    }
    DeliveryReply::default().encode()
}

fn later(queue: &QueueDirectory, request: &DeliveryRequest, hop: Option<&str>) -> Vec<u8> {
    for recipient in request.recipients.clone() {
        let entry = LogEntry { recipient, dsn: Dsn::local("4.2.0", "delayed", "try later") };
        queue.append_log(LogKind::Defer, &request.queue_id, &entry, true).unwrap();
    }
    let destination = hop.map_or_else(Dsn::default, |why| Dsn::local("4.4.1", "delayed", why));
    DeliveryReply { destination, status: Remaining::Something }.encode()
}

#[tokio::test(start_paused = true)]
async fn every_recipient_gets_its_message_once() {
    let mut site = Site::new();
    let (sender, mut delivered) = mpsc::unbounded_channel();
    site.agent("smtp", move |queue, request| {
        for recipient in &request.recipients {
            sender.send((request.queue_id.clone(), recipient.address.clone())).unwrap();
        }
        all_done(queue, &request)
    });
    let ids: Vec<QueueId> = (0..50)
        .map(|_| site.message("a@b.test", &["x@smtp.one", "y@smtp.one", "z@smtp.two"]))
        .collect();
    let done = site.until("all gone", || ids.iter().all(|id| site.is_gone(id)));
    site.run("", done).await;
    let mut seen = Vec::new();
    while let Ok(delivery) = delivered.try_recv() {
        seen.push(delivery);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 150);
    assert!(delivered.is_empty());
}

#[tokio::test(start_paused = true)]
async fn deferred_mail_is_tried_again_after_its_backoff() {
    let mut site = Site::new();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&tries);
    site.agent("smtp", move |queue, request| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        if times.len() < 3 { later(queue, &request, None) } else { all_done(queue, &request) }
    });
    let id = site.message("a@b.test", &["x@smtp.one"]);
    let done = site.until("gone", || site.is_gone(&id));
    site.run("minimal_backoff_time = 300s\n", done).await;
    let tries = tries.lock().unwrap();
    assert_eq!(tries.len(), 3);
    for pair in tries.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(299), "{tries:?}");
    }
    assert_eq!(site.reasons(&id), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn flushing_the_queue_does_not_wait_for_the_backoff() {
    let mut site = Site::new();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&tries);
    site.agent("smtp", move |queue, request| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        if times.len() < 2 {
            later(queue, &request, Some("dead"))
        } else {
            all_done(queue, &request)
        }
    });
    let id = site.message("a@b.test", &["x@smtp.one"]);
    let (scheduler, engine) = site.scheduler(
        "minimal_backoff_time = 10000s\nmaximal_backoff_time = 20000s\nqueue_run_delay = 9000s\n",
    );
    let done = async {
        site.until("deferred", || site.is_in(Queue::Deferred, &id)).await;
        scheduler.trigger(QmgrTrigger::parse(b"FADI\0")).await;
        site.until("gone", || site.is_gone(&id)).await;
    };
    engine.run(done).await.unwrap();
    let tries = tries.lock().unwrap();
    assert!(tries[1] - tries[0] < Duration::from_secs(9000), "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn mail_that_is_too_old_goes_back() {
    let mut site = Site::new();
    site.agent("smtp", |queue, request| later(queue, &request, None));
    let id = site.message("a@b.test", &["x@smtp.one", "y@smtp.two"]);
    let done = site.until("gone", || site.is_gone(&id));
    site.run("maximal_queue_lifetime = 1h\n", done).await;
    assert_eq!(*site.flushes.lock().unwrap(), [format!("defer {id} 2")]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_warned_of_a_delay_once() {
    let mut site = Site::new();
    site.agent("smtp", |queue, request| later(queue, &request, None));
    let id = site.message_with("a@b.test", &["x@smtp.one"], Some(3600));
    let done = site.until("gone", || site.is_gone(&id));
    site.run("maximal_queue_lifetime = 5h\n", done).await;
    let told = site.flushes.lock().unwrap().clone();
    assert_eq!(told, [format!("warn {id}"), format!("defer {id} 1")]);
}

#[tokio::test(start_paused = true)]
async fn a_message_can_be_expired_by_force() {
    let mut site = Site::new();
    site.agent("smtp", |queue, request| later(queue, &request, None));
    let id = site.message("a@b.test", &["x@smtp.one", "y@smtp.one"]);
    mode(&site.queue.path(Queue::Incoming, &id), 0o710);
    let done = site.until("gone", || site.is_gone(&id));
    site.run("", done).await;
    assert_eq!(*site.flushes.lock().unwrap(), [format!("defer {id} 2")]);
}

#[tokio::test(start_paused = true)]
async fn a_bounce_is_sent_when_all_recipients_are_done() {
    let mut site = Site::new();
    site.agent("smtp", |queue, request| {
        let recipient = request.recipients[0].clone();
        let dsn = Dsn::local("5.1.1", "failed", "no such user");
        let entry = LogEntry { recipient, dsn };
        queue.append_log(LogKind::Bounce, &request.queue_id, &entry, true).unwrap();
        all_done(queue, &request)
    });
    let id = site.message("a@b.test", &["x@smtp.one"]);
    let done = site.until("gone", || site.is_gone(&id));
    site.run("", done).await;
    assert_eq!(*site.flushes.lock().unwrap(), [format!("bounce {id} 1")]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_is_left_alone() {
    let mut site = Site::new();
    let tries = Arc::new(Mutex::new(0));
    let count = Arc::clone(&tries);
    site.agent("smtp", move |queue, request| match request.nexthop.as_str() {
        "smtp.dead" => {
            *count.lock().unwrap() += 1;
            later(queue, &request, Some("connect to smtp.dead: Connection refused"))
        }
        _ => all_done(queue, &request),
    });
    let dead: Vec<_> = (0..20).map(|_| site.message("a@b.test", &["x@smtp.dead"])).collect();
    let well: Vec<_> = (0..20).map(|_| site.message("a@b.test", &["x@smtp.well"])).collect();
    let done = site.until("settled", || {
        dead.iter().all(|id| site.is_in(Queue::Deferred, id))
            && well.iter().all(|id| site.is_gone(id))
    });
    site.run("minimal_backoff_time = 100000s\nmaximal_backoff_time = 200000s\n", done).await;
    let tried = *tries.lock().unwrap();
    assert!((1..=10).contains(&tried), "{tried}");
    let told = dead.iter().filter(|id| {
        site.reasons(id)
            == ["delivery temporarily suspended: connect to smtp.dead: Connection refused"]
    });
    assert_eq!(told.count(), 20 - tried);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_costs_its_own_recipients_a_retry_at_most() {
    let mut site = Site::new();
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&delivered);
    site.agent("smtp", move |queue, request| {
        let mut seen = seen.lock().unwrap();
        let first = seen.is_empty();
        let count = if first { 1 } else { request.recipients.len() };
        let file = QueueFile::open(queue, Queue::Active, &request.queue_id, Lock::Shared).unwrap();
        for recipient in request.recipients.iter().take(count) {
            file.mark_done(recipient.offset.try_into().unwrap()).unwrap();
            seen.push(recipient.address.clone());
        }
        if first { Vec::new() } else { DeliveryReply::default().encode() }
    });
    let id = site.message("a@b.test", &["x@smtp.one", "y@smtp.one"]);
    let done = site.until("gone", || site.is_gone(&id));
    site.run("", done).await;
    let mut seen = delivered.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["x@smtp.one", "y@smtp.one"]);
}

#[tokio::test(start_paused = true)]
async fn a_hostile_agent_only_delays_mail() {
    for reply in [&b"garbage"[..], b"status\0\0", &[b'x'; 300_000], b"\0\0\0\0", b"status\0999\0\0"]
    {
        let mut site = Site::new();
        let answers = Arc::new(Mutex::new(0));
        let count = Arc::clone(&answers);
        site.agent("smtp", move |queue, request| {
            let mut count = count.lock().unwrap();
            *count += 1;
            if *count == 1 { reply.to_vec() } else { all_done(queue, &request) }
        });
        let id = site.message("a@b.test", &["x@smtp.one"]);
        let done = site.until("gone", || site.is_gone(&id));
        site.run("ipc_timeout = 100s\n", done).await;
        assert_eq!(*answers.lock().unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_the_transport_waits_and_is_tried_again() {
    let mut site = Site::new();
    let id = site.message("a@b.test", &["x@smtp.one"]);
    let came = Arc::new(Notify::new());
    let waiting = Arc::clone(&came);
    let (_, engine) = site.scheduler("transport_retry_time = 60s\n");
    let queue = site.queue.clone();
    let name = id.clone();
    let running = tokio::spawn(async move {
        engine.run(async move { waiting.notified().await }).await.unwrap();
    });
    site.until("deferred", || queue.state(Queue::Deferred, &name).is_ok()).await;
    assert_eq!(site.reasons(&id), ["mail transport unavailable"]);
    site.agent("smtp", |queue, request| all_done(queue, &request));
    site.until("gone", || site.is_gone(&id)).await;
    came.notify_one();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn damaged_files_go_aside_and_unfinished_ones_stay() {
    let mut site = Site::new();
    site.agent("smtp", |queue, request| all_done(queue, &request));
    site.serve("error", |_| async {});
    let good = site.message("a@b.test", &["x@smtp.one"]);
    let cut = site.message("a@b.test", &["x@smtp.one"]);
    let path = site.queue.path(Queue::Incoming, &cut);
    let bytes = fs::read(&path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 - 4).unwrap();
    let unfinished = site.message("a@b.test", &["x@smtp.one"]);
    mode(&site.queue.path(Queue::Incoming, &unfinished), 0o600);
    let active = site.message("a@b.test", &["x@smtp.one"]);
    site.queue.rename(&active, Queue::Incoming, Queue::Active).unwrap();
    let done = site.until("settled", || {
        site.is_gone(&good)
            && site.is_gone(&active)
            && site.queue.path(Queue::Corrupt, &cut).exists()
    });
    site.run("", done).await;
    assert!(site.queue.path(Queue::Incoming, &unfinished).exists());
}

fn mode(path: &Path, bits: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn more_recipients_than_memory_holds_are_read_in_batches() {
    let mut site = Site::new();
    let count = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&count);
    site.agent("smtp", move |queue, request| {
        *seen.lock().unwrap() += request.recipients.len();
        assert!(request.recipients.len() <= 7);
        all_done(queue, &request)
    });
    let names: Vec<String> = (0..100).map(|n| format!("u{n}@smtp.one")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = site.message("a@b.test", &names);
    let done = site.until("gone", || site.is_gone(&id));
    let main = "smtp_destination_recipient_limit = 7\nqmgr_message_recipient_limit = 12\n";
    site.run(main, done).await;
    assert_eq!(*count.lock().unwrap(), 100);
}
