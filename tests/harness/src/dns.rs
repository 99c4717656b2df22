//! A name server for the suites, as a recursive one looks to its clients: it follows aliases within its zone, and
//! breaks where the zone tells it to.
//!
//! ```text
//! example.org       MX 10 mx.example.org       # a TTL may stand before the type: 300 MX …
//! mx.example.org    A 127.0.0.2
//! null.example      MX 0 .
//! www.example.org   CNAME mx.example.org
//! example.org       TXT "v=spf1 " "-all"
//! *.list.example    A 127.0.0.3
//! empty.example     NODATA                     # the name exists
//! broken.example    SERVFAIL                   # also REFUSED, FORMERR, NOTIMP, NXDOMAIN, SILENT
//! half.example      SERVFAIL A                 # for one type only
//! big.example       TRUNCATE                   # over UDP
//! signed.example    AUTHENTIC                  # answers have the AD bit
//! ```

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::ports;

/// A running name server; it ends when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    zone: Mutex<Zone>,
    asked: Mutex<Vec<String>>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Zone {
    records: Vec<Record>,
    /// Names that exist, whatever they have.
    names: Vec<Name>,
    faults: Vec<(Name, Fault, Option<RecordType>)>,
    authentic: Vec<Name>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Code(ResponseCode),
    Silent,
    Truncate,
}

impl Server {
    /// Serves this zone on a loopback address of its own: port 53 for root, who can put it into a resolv.conf, else any.
    #[track_caller]
    pub fn start(zone: &str) -> Self {
        let port = if nix::unistd::geteuid().is_root() { 53 } else { ports::free() };
        Self::on((ports::address(), port).into(), zone)
    }

    #[track_caller]
    pub fn on(address: SocketAddr, zone: &str) -> Self {
        let udp = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let tcp = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let shared = Arc::new(Shared {
            zone: Mutex::new(Zone::parse(zone)),
            asked: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let (one, other) = (shared.clone(), shared.clone());
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &one)),
            std::thread::spawn(move || serve_tcp(&tcp, &other)),
        ];
        Self { address, shared, threads }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the zone.
    pub fn set(&self, zone: &str) {
        *self.shared.zone.lock().unwrap() = Zone::parse(zone);
    }

    /// Every question so far: `mx.example.org A`.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Each thread wakes up once more.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[0], self.address);
        }
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if let Some(answer) = shared.answer(&buffer[..length], false) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || serve_stream(stream, &shared));
        }
    }
}

fn serve_stream(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_millis(500)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        if let Some(answer) = shared.answer(&query, true) {
            let mut framed = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
            framed.extend(answer);
            stream.write_all(&framed)?;
        }
    }
}

impl Shared {
    fn answer(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?;
        let (name, kind) = (question.name().clone(), question.query_type());
        let text = name.to_lowercase().to_ascii();
        self.asked.lock().unwrap().push(format!("{} {kind}", text.trim_end_matches('.')));
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.queries.push(question.clone());
        self.zone.lock().unwrap().fill(&mut answer, &name, kind, tcp)?;
        Some(answer.to_vec().unwrap())
    }
}

impl Zone {
    /// `None`: no answer at all.
    fn fill(&self, answer: &mut Message, name: &Name, kind: RecordType, tcp: bool) -> Option<()> {
        let mut name = name.clone();
        for _ in 0..20 {
            match self.fault(&name, kind) {
                Some(Fault::Silent) => return None,
                Some(Fault::Truncate) if !tcp => {
                    answer.metadata.truncation = true;
                    return Some(());
                }
                Some(Fault::Code(code)) => {
                    answer.metadata.response_code = code;
                    return Some(());
                }
                _ => {}
            }
            answer.metadata.authentic_data = self.authentic.contains(&name);
            let records = self.records_of(&name);
            let wanted = records.iter().filter(|record| record.record_type() == kind);
            answer.answers.extend(wanted.cloned());
            if answer.answers.iter().any(|record| record.record_type() == kind) {
                return Some(());
            }
            let alias =
                records.into_iter().find(|record| record.record_type() == RecordType::CNAME);
            let Some(alias) = alias else { break };
            let RData::CNAME(target) = &alias.data else { break };
            name = target.0.clone();
            answer.answers.push(alias);
        }
        let exists =
            |known: &Name| name.zone_of(known) || (known.is_wildcard() && covers(known, &name));
        if !self.names.iter().any(exists) && answer.answers.len() < 20 {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, 60);
        answer.authorities.push(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
        Some(())
    }

    fn fault(&self, name: &Name, kind: RecordType) -> Option<Fault> {
        let fits = |only: &Option<RecordType>| only.is_none_or(|only| only == kind);
        let mut faults = self.faults.iter();
        faults
            .find(|(owner, _, only)| covers(owner, name) && fits(only))
            .map(|(_, fault, _)| *fault)
    }

    /// The records of the name itself, else of the wildcard that covers it.
    fn records_of(&self, name: &Name) -> Vec<Record> {
        let own: Vec<Record> =
            self.records.iter().filter(|record| record.name == *name).cloned().collect();
        if !own.is_empty() || self.names.contains(name) {
            return own;
        }
        let wild = self.records.iter().filter(|record| covers(&record.name, name)).cloned();
        wild.map(|mut record| {
            record.name = name.clone();
            record
        })
        .collect()
    }

    fn parse(text: &str) -> Self {
        let mut zone = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                zone.line(line).unwrap_or_else(|| panic!("zone: cannot read {line:?}"));
            }
        }
        zone
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (before, quoted) = match line.find('"') {
            Some(at) => line.split_at(at),
            None => (line.split(" #").next()?, ""),
        };
        let mut words = before.split_whitespace().peekable();
        let owner = name(words.next()?)?;
        let ttl = match words.peek()?.parse() {
            Ok(ttl) => {
                words.next();
                ttl
            }
            Err(_) => 60,
        };
        let word = words.next()?;
        let rest: Vec<&str> = words.collect();
        let fault = match word {
            "SERVFAIL" => Some(Fault::Code(ResponseCode::ServFail)),
            "REFUSED" => Some(Fault::Code(ResponseCode::Refused)),
            "FORMERR" => Some(Fault::Code(ResponseCode::FormErr)),
            "NOTIMP" => Some(Fault::Code(ResponseCode::NotImp)),
            "NXDOMAIN" => Some(Fault::Code(ResponseCode::NXDomain)),
            "SILENT" => Some(Fault::Silent),
            "TRUNCATE" => Some(Fault::Truncate),
            _ => None,
        };
        if let Some(fault) = fault {
            let only = match rest.first() {
                Some(kind) => Some(RecordType::from_str(kind).ok()?),
                None => None,
            };
            self.faults.push((owner, fault, only));
            return Some(());
        }
        match word {
            "AUTHENTIC" => self.authentic.push(owner.clone()),
            "NODATA" => {}
            kind => {
                let data = data(kind, &rest, quoted)?;
                self.records.push(Record::from_rdata(owner.clone(), ttl, data));
            }
        }
        self.names.push(owner);
        Some(())
    }
}

/// Whether the owner is the name, or a wildcard for it.
fn covers(owner: &Name, asked: &Name) -> bool {
    owner == asked
        || (owner.is_wildcard() && owner.base_name().zone_of(asked) && owner.base_name() != *asked)
}

fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn data(kind: &str, rest: &[&str], quoted: &str) -> Option<RData> {
    Some(match (kind, rest) {
        ("A", [address]) => RData::A(A(address.parse().ok()?)),
        ("AAAA", [address]) => RData::AAAA(AAAA(address.parse().ok()?)),
        ("MX", [preference, exchange]) => {
            RData::MX(MX::new(preference.parse().ok()?, name(exchange)?))
        }
        ("CNAME", [target]) => RData::CNAME(CNAME(name(target)?)),
        ("NS", [target]) => RData::NS(NS(name(target)?)),
        ("PTR", [target]) => RData::PTR(PTR(name(target)?)),
        ("TLSA", [usage, selector, matching, hex]) => {
            let octets = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            RData::TLSA(TLSA::new(
                usage.parse::<u8>().ok()?.into(),
                selector.parse::<u8>().ok()?.into(),
                matching.parse::<u8>().ok()?.into(),
                octets.collect(),
            ))
        }
        ("TXT", []) => {
            let strings = quoted.split('"').skip(1).step_by(2).map(|text| text.as_bytes());
            RData::TXT(TXT::from_bytes(strings.collect()))
        }
        _ => return None,
    })
}

/// The line of a zone for the names of an address.
pub fn ptr(address: IpAddr, names: &str) -> String {
    let owner = Name::from(address).to_ascii();
    format!("{} PTR {names}\n", owner.trim_end_matches('.'))
}
