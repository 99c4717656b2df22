//! One delivery request: from next hop to next hop, server to server, until every recipient is done, bounced or deferred.

mod connect;
mod greet;
mod transfer;

use std::collections::VecDeque;
use std::fs::File;
use std::time::SystemTime;

use mail_types::Timestamp;
use neighbours::postmaster::{About, Class};
use protocol::postfix::delivery::{DeliveryReply, DeliveryRequest, Remaining, flags};
use protocol::postfix::{Dsn, MsgStats, Recipient};
use protocol::smtp::ReceivedReply;
use queue::QueueFile;

use crate::addresses::{Candidate, Found, Lookup};
use crate::connection::{Broken, Connection};
use crate::destination::Destination;
use crate::policy;
use crate::server::Service;
use crate::session::transaction::Transaction;
use crate::session::{Failure, Server};

/// The port on which we look for ourselves.
const SMTP: u16 = 25;

/// What has been decided about a recipient in the session at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Open,
    /// Another server may take it.
    Keep,
    /// Reported.
    Done,
}

struct Todo {
    recipient: Recipient,
    mark: Mark,
}

/// The next hop that is being tried.
#[derive(Clone)]
struct Site {
    destination: Destination,
    policy: policy::Destination,
    best: Option<u32>,
    /// The policy is by the TLSA records of the host that is tried, or by their lack.
    of_host: bool,
}

/// A request at work.
pub struct Delivery<'a> {
    service: &'a Service,
    file: QueueFile,
    readable: File,
    request: DeliveryRequest,
    stats: MsgStats,
    left: Vec<Todo>,
    remaining: Remaining,
    /// The destination is bad: its other mail should wait too.
    hop: Option<Dsn>,
    /// The last thing that went wrong.
    why: Option<Failure>,
    final_nexthop: bool,
    final_server: bool,
    /// A session came to its proper end, so the destination is not dead.
    complete: bool,
    /// Connections may be taken from the cache, and put there.
    load: bool,
    store: bool,
    /// The next hop under which the first good connection is kept.
    keep_under: Option<String>,
}

impl<'a> Delivery<'a> {
    pub fn new(
        service: &'a Service,
        file: QueueFile,
        readable: File,
        mut request: DeliveryRequest,
    ) -> Self {
        let recipients = std::mem::take(&mut request.recipients);
        let left =
            recipients.into_iter().map(|recipient| Todo { recipient, mark: Mark::Open }).collect();
        Self {
            service,
            file,
            readable,
            stats: request.stats,
            request,
            left,
            remaining: Remaining::Nothing,
            hop: None,
            why: None,
            final_nexthop: false,
            final_server: false,
            complete: false,
            load: false,
            store: false,
            keep_under: None,
        }
    }

    /// Delivers, and answers the queue manager.
    pub async fn run(mut self) -> DeliveryReply {
        if !self.refused().await {
            let nexthop = self.request.nexthop.clone();
            match (self.service.settings.lmtp, nexthop.strip_prefix("unix:")) {
                (true, Some(path)) => self.over_unix(path).await,
                (true, None) => {
                    self.over_inet(nexthop.strip_prefix("inet:").unwrap_or(&nexthop)).await;
                }
                (false, _) => self.over_inet(&nexthop).await,
            }
        }
        if !self.left.is_empty() {
            self.final_server = true;
            let unavailable =
                || Failure::ours("4.3.0", "server unavailable or unable to receive mail");
            let why = self.why.clone().unwrap_or_else(unavailable);
            self.fail_rest(None, why, true).await;
        }
        DeliveryReply { destination: self.hop.unwrap_or_default(), status: self.remaining }
    }

    /// What is wrong before anything is tried: `flags=D` and `O` take one recipient at a time, and a loop is one.
    async fn refused(&mut self) -> bool {
        let headers = self.service.settings.headers;
        let failure = if (headers.delivered_to || headers.original_to) && self.left.len() > 1 {
            let name = &self.service.settings.name;
            let flag = if headers.delivered_to { 'D' } else { 'O' };
            self.service.reporter.note(&format!(
                "warning: flag `{flag}' requires {name}_destination_recipient_limit = 1"
            ));
            Failure::ours("4.3.5", "mail system configuration error")
        } else if headers.delivered_to
            && let Some(todo) = self.left.first()
            && crate::loops::delivered_to(
                &self.readable,
                self.data_offset(),
                &todo.recipient.address,
            )
        {
            let reason = format!("mail forwarding loop for {}", todo.recipient.address);
            Failure::ours("5.4.6", reason)
        } else {
            return false;
        };
        self.final_server = true;
        self.fail_rest(None, failure, false).await;
        true
    }

    fn data_offset(&self) -> u64 {
        u64::try_from(self.request.data_offset).unwrap_or(u64::MAX)
    }

    /// Tries each next hop and then the fall-back relays.
    async fn over_inet(&mut self, nexthop: &str) {
        let separator = |c: char| c.is_ascii_whitespace() || c == ',';
        let primary: Vec<String> =
            nexthop.split(separator).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        let fallback = &self.service.settings.route.fallback;
        let count = primary.len() + fallback.len();
        let first = primary.first().cloned().unwrap_or_default();
        let mut at = 0;
        for site in primary.iter().chain(fallback) {
            if self.left.is_empty() {
                return;
            }
            self.final_nexthop = at + 1 == count;
            self.site(site, at == 0).await;
            if self.final_nexthop {
                break;
            }
            at += 1;
        }
        if !self.left.is_empty() {
            self.judge_configuration(at >= primary.len() && at < count, &first);
        }
    }

    /// What is our own fault does not bounce mail.
    fn judge_configuration(&mut self, is_fallback: bool, first: &str) {
        let Some(why) = self.why.as_mut().filter(|why| !why.is_soft()) else { return };
        let relayhost = &self.service.settings.route.relayhost;
        let setting = if is_fallback {
            "smtp_fallback_relay"
        } else if !self.service.settings.lmtp && !relayhost.is_empty() && first == relayhost {
            "relayhost"
        } else {
            return;
        };
        why.status = "4.3.5".to_owned();
        self.service.reporter.note(&format!("warning: {setting} configuration problem"));
    }

    /// Tries the servers of one next hop.
    async fn site(&mut self, text: &str, is_first: bool) {
        let route = &self.service.settings.route;
        let destination = match Destination::parse(text, route.port) {
            Ok(destination) => destination,
            Err(error) => {
                self.service.reporter.note(&format!("warning: {error}"));
                self.why = Some(Failure::ours("4.3.5", "mail system configuration error"));
                return;
            }
        };
        if !route.ipv4 && !route.ipv6 {
            self.why = Some(Failure::ours("4.4.4", "all network protocols are disabled"));
            return;
        }
        let found = self.look_up(&destination).await;
        if let Some(warning) = &found.warning {
            self.service.reporter.note(&format!("warning: {warning}"));
        }
        let loops = found.list.is_empty() && found.why.as_ref().is_some_and(Failure::is_loop);
        self.final_nexthop |= found.ourselves || loops;
        self.why = found.why;
        let best = found.list.first().map(|candidate| candidate.preference);
        let settings = &self.service.settings;
        let policy = settings.tls.destination(&self.service.tables, text).await;
        for text in &policy.odd {
            self.service.reporter.note(&format!("warning: {text}"));
        }
        let site = Site { destination, policy, best, of_host: false };
        if !found.list.is_empty() && is_first {
            self.cache_policy(&site.destination.host, text);
        }
        self.servers(&site, found.list.into()).await;
    }

    async fn look_up(&self, destination: &Destination) -> Found {
        let settings = &self.service.settings;
        let lookup = Lookup {
            resolver: &*self.service.resolver,
            hosts: &self.service.hosts,
            route: &settings.route,
            loop_detection: !settings.lmtp && destination.port == SMTP,
            random: &|| self.service.random(),
        };
        let exchangers = !settings.lmtp && !destination.literal && settings.route.dns;
        match exchangers {
            true => lookup.domain(&destination.host).await,
            false => lookup.host(&destination.host).await,
        }
    }

    /// `smtp_connection_cache_destinations`, else what the queue manager sees of the traffic.
    fn cache_policy(&mut self, host: &str, nexthop: &str) {
        let reuse = &self.service.settings.reuse;
        let named = reuse.destinations.iter().any(|name| name.eq_ignore_ascii_case(host));
        let asked = |flag| reuse.on_demand && self.request.flags & flag != 0;
        self.load = named || asked(flags::CONN_LOAD);
        self.store = named || asked(flags::CONN_STORE);
        if self.load || self.store {
            self.keep_under = Some(nexthop.to_owned());
        }
    }

    /// Server after server, within the limits of addresses and sessions.
    async fn servers(&mut self, site: &Site, mut list: VecDeque<Candidate>) {
        let (limit, sessions) = {
            let route = &self.service.settings.route;
            (route.address_limit, route.session_limit)
        };
        let (mut addresses, mut count) = (0, 0);
        if self.load && !list.is_empty() && site.policy.level != policy::Level::Invalid {
            count = self.reused(site, &mut list).await;
            addresses = count;
            if count > 0 && (count == sessions || count == limit) {
                list.clear();
            }
        }
        while !self.left.is_empty() && !list.is_empty() {
            addresses += 1;
            if limit > 0 && addresses >= limit {
                list.truncate(1);
            }
            let of_host;
            let site = match list.front() {
                Some(host) if site.policy.level.is_dane() => {
                    let policy = self.dane(site, host).await;
                    of_host = Site { policy, of_host: true, ..site.clone() };
                    &of_host
                }
                _ => site,
            };
            if let Some(why) = &site.policy.refusal {
                let host = list.pop_front().map(|next| next.host).unwrap_or_default();
                let text = format!(
                    "warning: TLS policy lookup for {}/{host}: {why}",
                    site.destination.text
                );
                self.service.reporter.note(&text);
                self.why = Some(Failure::ours("4.7.5", why));
                continue;
            }
            if let Some(problem) = &site.policy.problem {
                let host = list.pop_front().map(|next| next.host).unwrap_or_default();
                let text = format!(
                    "warning: TLS policy lookup for {}/{host}: client TLS configuration problem",
                    site.destination.text
                );
                self.service.reporter.note(&format!("warning: {problem}"));
                self.service.reporter.note(&text);
                self.why = Some(Failure::ours("4.7.5", "client TLS configuration problem"));
                continue;
            }
            if self.service.settings.tls.wrapped && site.policy.level < policy::Level::Encrypt {
                list.pop_front();
                let text = "warning: smtp_tls_wrappermode requires \"smtp_tls_security_level = encrypt\" (or stronger)";
                self.service.reporter.note(text);
                continue;
            }
            let Some((candidate, connection)) = self.open(site, &mut list).await else { continue };
            if self.session(site, candidate, connection, &mut list, &mut count).await {
                addresses -= 1;
            }
        }
    }

    /// The policy of one host by its TLSA records.
    async fn dane(&self, site: &Site, host: &Candidate) -> policy::Destination {
        let settings = &self.service.settings;
        let question = crate::dane::Question {
            resolver: &*self.service.resolver,
            settings: &settings.tls,
            route: &settings.route,
            lmtp: settings.lmtp,
            nexthop: &site.destination.text,
            domain: &site.destination.host,
            port: site.destination.port,
        };
        let mut notes = Vec::new();
        let policy = question.policy(&site.policy, host, &mut notes).await;
        notes.iter().for_each(|note| self.service.reporter.note(note));
        policy
    }

    /// One new connection's life; whether its server is to be tried once more (in the list again).
    async fn session(
        &mut self,
        site: &Site,
        candidate: Candidate,
        mut connection: Connection,
        list: &mut VecDeque<Candidate>,
        count: &mut usize,
    ) -> bool {
        connection.best = site.best == Some(candidate.preference);
        self.final_server |= self.final_nexthop && list.is_empty();
        let mut again = self.greet(site, &mut connection, &site.policy.clone()).await;
        if again == greet::Greeting::RetryPlain {
            // The same server once more, as if it did not offer TLS.
            self.final_server = false;
            self.cleanup(connection, None).await;
            let Some(fresh) = self.open_again(site, &candidate).await else { return false };
            connection = fresh;
            connection.best = site.best == Some(candidate.preference);
            self.final_server |= self.final_nexthop && list.is_empty();
            let plain = policy::Destination::default();
            again = self.greet(site, &mut connection, &plain).await;
        }
        if again != greet::Greeting::Ready {
            if connection.is_usable() {
                self.quit(&mut connection).await;
            }
            self.cleanup(connection, None).await;
            return false;
        }
        *count += 1;
        if *count == self.service.settings.route.session_limit {
            list.clear();
        }
        self.final_server |= self.final_nexthop && list.is_empty();
        let broke_under_tls = self.transfer(&mut connection, &site.policy).await;
        self.cleanup(connection, Some(site)).await;
        if broke_under_tls && !self.left.is_empty() {
            self.final_server = false;
            if let Some(mut plain) = self.open_again(site, &candidate).await {
                plain.best = site.best == Some(candidate.preference);
                self.final_server |= self.final_nexthop && list.is_empty();
                let none = policy::Destination::default();
                if self.greet(site, &mut plain, &none).await == greet::Greeting::Ready {
                    self.transfer(&mut plain, &none).await;
                }
                self.cleanup(plain, None).await;
            }
        }
        false
    }

    /// Connections that other messages left behind; how many served.
    async fn reused(&mut self, site: &Site, list: &mut VecDeque<Candidate>) -> usize {
        let mut count = 0;
        let sender = self.service.sender_of(&self.request);
        if let Some(nexthop) = self.keep_under.clone()
            && let Some(connection) = self.service.cache.by_nexthop(&nexthop, sender.as_deref())
            && let Some(connection) = self.revived(connection).await
        {
            count += 1;
            list.retain(|one| one.address.to_string() != connection.server.address);
            if count == self.service.settings.route.session_limit {
                list.clear();
            }
            self.served(site, connection, list.is_empty()).await;
        }
        let strangers = self.service.settings.sasl.is_none() && site.policy.is_plain();
        let best: Vec<Candidate> =
            list.iter().filter(|one| site.best == Some(one.preference)).cloned().collect();
        for candidate in best {
            if self.left.is_empty() || !strangers || list.is_empty() {
                break;
            }
            let server = server_of(&candidate, site.destination.port);
            let Some(connection) = self.service.cache.by_server(&server) else { continue };
            let Some(connection) = self.revived(connection).await else { continue };
            count += 1;
            list.retain(|one| *one != candidate);
            if count == self.service.settings.route.session_limit {
                list.clear();
            }
            self.served(site, connection, list.is_empty()).await;
        }
        count
    }

    async fn served(&mut self, site: &Site, mut connection: Connection, last: bool) {
        connection.best = true;
        self.final_server |= self.final_nexthop && last;
        self.transfer(&mut connection, &site.policy).await;
        self.cleanup(connection, Some(site)).await;
    }

    /// A kept connection, if RSET shows that it lives.
    async fn revived(&self, mut connection: Connection) -> Option<Connection> {
        let mut reset = Transaction::reset();
        let limit = self.service.settings.times.rset;
        connection.used += 1;
        loop {
            use crate::session::transaction::Next;
            match reset.next(connection.queued()) {
                Next::Say(line) => connection.say(&line),
                Next::Read(_) => match connection.reply(limit).await {
                    Ok(reply) => drop(reset.reply(&reply)),
                    Err(_) => return None,
                },
                Next::Content => return None,
                Next::Over => break,
            }
        }
        (!reset.reset_refused()).then_some(connection)
    }

    /// LMTP over a unix socket: one server, and whatever fails there bounces or waits.
    async fn over_unix(&mut self, path: &str) {
        let settings = &self.service.settings;
        self.cache_policy(path, path);
        self.final_nexthop = true;
        self.final_server = true;
        let mut policy = settings.tls.destination(&self.service.tables, path).await;
        if policy.level == policy::Level::May {
            policy.level = policy::Level::None;
        }
        if policy.level.is_dane() {
            self.service.reporter.note(&format!(
                "warning: {path}: the \"dane\" security level is invalid for delivery via unix-domain sockets"
            ));
            let why = "client TLS configuration problem";
            let text = format!(
                "warning: TLS policy lookup error for {}/{path}: {why}",
                settings.talk.myhostname
            );
            self.service.reporter.note(&text);
            self.why = Some(Failure::ours("4.7.5", why));
            return;
        }
        let destination = Destination {
            text: path.to_owned(),
            host: settings.talk.myhostname.clone(),
            port: 0,
            literal: true,
        };
        let site = Site { destination, policy, best: None, of_host: false };
        let sender = self.service.sender_of(&self.request);
        let cached = match self.load {
            true => self.service.cache.by_nexthop(path, sender.as_deref()),
            false => None,
        };
        let cached = match cached {
            Some(connection) => self.revived(connection).await,
            None => None,
        };
        let (mut connection, ready) = match cached {
            Some(connection) => (connection, true),
            None => {
                let Some(connection) = self.open_unix(path).await else { return };
                (connection, false)
            }
        };
        let policy = site.policy.clone();
        if ready || self.greet(&site, &mut connection, &policy).await == greet::Greeting::Ready {
            self.transfer(&mut connection, &site.policy).await;
        } else if connection.is_usable() {
            self.quit(&mut connection).await;
        }
        self.cleanup(connection, Some(&site)).await;
    }

    /// After a session: the connection is kept or closed, and the recipients that are done leave.
    async fn cleanup(&mut self, mut connection: Connection, site: Option<&Site>) {
        for note in connection.notes.drain(..) {
            self.service.reporter.note(&note);
        }
        self.tell_postmaster(&mut connection).await;
        let reuse = &self.service.settings.reuse;
        let expired = connection.keep_until.is_some_and(|until| until < std::time::Instant::now())
            || (reuse.count > 0 && u64::try_from(connection.used).unwrap_or(0) >= reuse.count);
        if connection.is_kept() && expired {
            self.quit(&mut connection).await;
        }
        let throttled = connection.throttled;
        if connection.is_kept() && site.is_some() {
            let sender = connection.authenticated.then(|| self.service.sender_of(&self.request));
            let place =
                crate::cache::Place { nexthop: self.keep_under.clone(), sender: sender.flatten() };
            self.service.keep(connection, place);
        } else {
            connection.close().await;
        }
        if !throttled {
            self.keep_under = None;
        }
        self.left.retain(|todo| todo.mark != Mark::Done);
        self.left.iter_mut().for_each(|todo| todo.mark = Mark::Open);
        self.stats.conn_setup_done = Timestamp::default();
        self.stats.deliver_done = Timestamp::default();
        self.stats.reuse_count = 0;
    }

    /// A session that went wrong is told of, but not while we deliver such a notice.
    async fn tell_postmaster(&self, connection: &mut Connection) {
        let history = std::mem::take(&mut connection.history);
        let settings = &self.service.settings;
        let (postmaster, sender) = (&settings.postmaster, &self.request.sender);
        if !postmaster.wants(&history) || sender.is_empty() || *sender == postmaster.double_bounce()
        {
            return;
        }
        let server = connection.server.full();
        let protocol = if settings.lmtp { "LMTP" } else { "SMTP" };
        let about = About {
            subject: format!("{protocol} client: errors from {server}"),
            opening: Some(format!("Unexpected response from {server}.")),
            ..About::default()
        };
        if let Err(error) = postmaster.tell(&history, &about).await {
            self.service.reporter.note(&format!("warning: postmaster notify: {error}"));
        }
    }

    /// A lone QUIT.
    async fn quit(&self, connection: &mut Connection) {
        use crate::session::transaction::Next;
        let settings = &self.service.settings;
        connection.keep_until = None;
        let mut quit = Transaction::quit(settings.talk.skip_quit_response);
        loop {
            match quit.next(connection.queued()) {
                Next::Say(line) => connection.say(&line),
                Next::Read(_) => match connection.reply(settings.times.quit).await {
                    Ok(reply) => drop(quit.reply(&reply)),
                    Err(_) => return,
                },
                Next::Content | Next::Over => break,
            }
        }
        connection.flush(settings.times.quit).await;
    }

    /// Whether a failure in TLS may be answered by trying without: only where TLS is a favour, for mail that has waited
    /// already, and never with a password in hand.
    async fn may_fall_back(&self, connection: &Connection, policy: &policy::Destination) -> bool {
        let waited = self.stats.active_arrival.seconds - self.stats.incoming_arrival.seconds;
        let backoff = self.service.settings.talk.minimal_backoff.as_secs();
        policy.level == policy::Level::May
            && (self.is_probe() || u64::try_from(waited).unwrap_or(0) >= backoff)
            && !self.has_credentials(connection).await
    }

    fn is_probe(&self) -> bool {
        self.request.flags & (flags::MTA_VERIFY | flags::USER_VERIFY) != 0
    }

    /// Everybody whose fate is open shares this one.
    async fn fail_rest(
        &mut self,
        connection: Option<&mut Connection>,
        failure: Failure,
        throttle: bool,
    ) {
        let soft_bounce = self.service.settings.soft_bounce;
        let soft = failure.is_soft();
        let relay = connection.as_ref().map_or("none".to_owned(), |open| open.server.full());
        if (soft || soft_bounce) && !self.final_server {
            self.service.reporter.info(&self.request, &failure.reason);
            for todo in self.left.iter_mut().filter(|todo| todo.mark == Mark::Open) {
                todo.mark = Mark::Keep;
            }
        } else {
            let now = Timestamp::from(SystemTime::now());
            if self.stats.conn_setup_done.is_zero() {
                self.stats.conn_setup_done = now;
            }
            self.stats.deliver_done = now;
            let mut deferred = false;
            for at in 0..self.left.len() {
                if self.left.get(at).is_some_and(|todo| todo.mark == Mark::Open) {
                    deferred |= !self.failed(at, &failure, &relay).await;
                }
            }
            if !self.complete && throttle && deferred && self.hop.is_none() {
                self.hop = Some(failure.dsn(""));
            }
        }
        if let Some(connection) = connection {
            if failure.out_of_protocol {
                connection.out_of_protocol();
            }
            connection.throttled |= throttle;
        }
        self.why = Some(failure);
    }

    /// One recipient fails.
    async fn fail_one(&mut self, connection: &mut Connection, at: usize, failure: Failure) {
        if failure.out_of_protocol {
            connection.out_of_protocol();
        }
        let soft = failure.is_soft() || self.service.settings.soft_bounce;
        if soft && !self.final_server {
            self.service.reporter.info(&self.request, &failure.reason);
            if let Some(todo) = self.left.get_mut(at) {
                todo.mark = Mark::Keep;
            }
        } else {
            let relay = connection.server.full();
            self.failed(at, &failure, &relay).await;
        }
        self.why = Some(failure);
    }

    /// Reports a failure for good; whether the recipient is done.
    async fn failed(&mut self, at: usize, failure: &Failure, relay: &str) -> bool {
        let Some(todo) = self.left.get_mut(at) else { return true };
        todo.mark = Mark::Done;
        let about = crate::report::About {
            request: &self.request,
            stats: &self.stats,
            recipient: &todo.recipient,
            relay,
        };
        let reporter = &self.service.reporter;
        let action = if failure.is_soft() { "delayed" } else { "failed" };
        let done = reporter.failed(about, failure.dsn(action)).await;
        let offset = todo.recipient.offset;
        self.concluded(offset, done, true);
        done
    }

    /// One recipient has got the message.
    async fn done(&mut self, connection: &Connection, at: usize, reply: &ReceivedReply) {
        let settings = &self.service.settings;
        let Some(todo) = self.left.get_mut(at) else { return };
        todo.mark = Mark::Done;
        if connection.features.dsn {
            // The next server tells the sender.
            todo.recipient.notify &= !2;
        }
        let is_final = settings.lmtp && settings.headers.is_final && !connection.features.dsn;
        let mut dsn = Dsn::local(
            &reply.status,
            if is_final { "delivered" } else { "relayed" },
            &reply.one_line(),
        );
        dsn.mta_type = "dns".to_owned();
        dsn.mta_name.clone_from(&connection.server.host);
        dsn.diag_type = "smtp".to_owned();
        dsn.diag_text = reply.one_line();
        let relay = connection.server.full();
        let about = crate::report::About {
            request: &self.request,
            stats: &self.stats,
            recipient: &todo.recipient,
            relay: &relay,
        };
        let done = self.service.reporter.sent(about, dsn).await;
        let offset = todo.recipient.offset;
        self.concluded(offset, done, self.request.flags & flags::SUCCESS != 0);
    }

    /// Marks a recipient in the queue file. A failure costs a duplicate later, never mail.
    fn concluded(&mut self, offset: i64, done: bool, mark: bool) {
        if !done {
            self.remaining = Remaining::Something;
            return;
        }
        let offset = u64::try_from(offset).unwrap_or(0);
        if mark
            && offset > 0
            && let Err(error) = self.file.mark_done(offset)
        {
            self.service.reporter.warn(&self.request, &format!("mark recipient: {error}"));
            self.remaining = Remaining::Something;
        }
    }

    /// The connection broke; whether the message may be tried without TLS.
    async fn lost(
        &mut self,
        connection: &mut Connection,
        policy: &policy::Destination,
        broken: Broken,
        doing: &str,
    ) -> bool {
        let server = connection.server.short();
        let failure = match broken {
            Broken::Lost => {
                Failure::ours("4.4.2", format!("lost connection with {server} while {doing}"))
            }
            Broken::TimedOut => {
                let reason = format!("conversation with {server} timed out while {doing}");
                Failure::ours("4.4.2", reason)
            }
            Broken::Local => {
                connection.history.wrong.add(Class::Data);
                Failure::ours("4.3.0", format!("local data error while talking to {server}"))
            }
        };
        let open = self.left.iter().any(|todo| todo.mark == Mark::Open);
        let plain = broken != Broken::Local
            && connection.shown.is_some()
            && open
            && self.may_fall_back(connection, policy).await;
        if plain {
            self.final_server = false;
        }
        connection.keep_until = None;
        self.fail_rest(Some(connection), failure, true).await;
        plain
    }
}

fn server_of(candidate: &Candidate, port: u16) -> Server {
    Server { host: candidate.host.clone(), address: candidate.address.to_string(), port }
}
