//! The host's resolver: hickory's transport (UDP, TCP after truncation, identical questions asked once), with our own order of
//! servers, chain of names and cache.
//!
//! Each server has a pool of its own, since a pool of several stops at the first SERVFAIL where the C library asks the next
//! server. Questions carry the AD bit (RFC 6840 section 5.7), so a validating resolver says whether it validated; hickory's own
//! `Resolver` cannot ask that.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::Cache;
use crate::{Answer, Data, Failure, Kind, Mx, Resolver, Settings, Tlsa, names};

/// How many CNAMEs lead from a name to its records at most, as in Postfix.
const LONGEST_CHAIN: usize = 10;

/// Asks the name servers of the host.
pub struct System {
    servers: Vec<(SocketAddr, NameServerPool<TokioRuntimeProvider>)>,
    settings: Settings,
    cache: Cache,
    under_way: Semaphore,
}

/// One server's word.
enum Reply {
    Records(DnsResponse),
    Absent(Failure, Duration),
}

impl System {
    /// Opens nothing yet; must be called within a tokio runtime.
    pub fn new(settings: &Settings) -> Self {
        let pool = |server: &SocketAddr| {
            let mut options = ResolverOpts::default();
            options.timeout = settings.timeout;
            options.num_concurrent_reqs = 1;
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = server.port();
                way
            });
            let config = NameServerConfig::new(server.ip(), true, connections.into());
            // Without its TLS features, which we do not build, hickory has nothing to fail at here.
            let context = TlsConfig::new().map(|tls| PoolContext::new(options, tls)).ok()?;
            let provider = TokioRuntimeProvider::default();
            Some((*server, NameServerPool::from_config([config], Arc::new(context), provider)))
        };
        Self {
            servers: settings.servers.iter().filter_map(pool).collect(),
            cache: Cache::new(settings.cache),
            under_way: Semaphore::new(settings.concurrent.max(1)),
            settings: settings.clone(),
        }
    }

    /// Asks server after server, the whole list up to `attempts` times.
    async fn ask(&self, name: &Name, kind: Kind) -> Result<Reply, Failure> {
        let _permit = self.under_way.acquire().await;
        let mut failure = None;
        for _ in 0..self.settings.attempts.max(1) {
            for (server, pool) in &self.servers {
                let answer = pool.send(request(name, kind)).first_answer();
                let outcome = match timeout(self.settings.timeout, answer).await {
                    Ok(Ok(response)) => return Ok(Reply::Records(response)),
                    Ok(Err(error)) => judge(*server, error),
                    Err(_) => Err(Failure::TimedOut),
                };
                match outcome {
                    Ok(absent) => return Ok(absent),
                    Err(error) if error.is_temporary() => failure = Some(error.or(failure)),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(failure.unwrap_or(Failure::TimedOut))
    }

    /// Follows the chain of names from the question to its records.
    async fn resolve(&self, question: &str, kind: Kind) -> Result<Answer<Data>, Failure> {
        let mut name = parse(question)?;
        let mut ttl = Duration::from_secs(u32::MAX.into());
        let mut authentic = true;
        let mut links = 0;
        loop {
            let response = match self.ask(&name, kind).await? {
                Reply::Records(response) => response,
                Reply::Absent(failure, lasting) => {
                    self.cache.put_absence(
                        question,
                        kind,
                        &failure,
                        lasting.min(ttl),
                        Instant::now(),
                    );
                    return Err(failure);
                }
            };
            authentic &= response.metadata.authentic_data;
            let asked = name.clone();
            while let Some((target, lasting)) = alias(&response, &name) {
                links += 1;
                if links > LONGEST_CHAIN {
                    return Err(Failure::Loop);
                }
                ttl = ttl.min(lasting);
                name = target;
            }
            let records: Vec<&Record> =
                response.answers.iter().filter(|record| is(record, &name, kind)).collect();
            if !records.is_empty() {
                let lasting = records.iter().map(|record| record.ttl).min().unwrap_or(0);
                let ttl = ttl.min(Duration::from_secs(lasting.into()));
                let records = contents(question, &records)?;
                let name = name.to_lowercase().to_ascii().trim_end_matches('.').to_owned();
                return Ok(Answer { records, name, ttl, authentic });
            }
            if response.metadata.response_code == ResponseCode::NXDomain {
                return Err(Failure::NoDomain);
            }
            if name == asked {
                return Err(Failure::NoData);
            }
        }
    }
}

impl Resolver for System {
    async fn lookup(&self, name: &str, kind: Kind) -> Result<Answer<Data>, Failure> {
        let name = names::normal(name).ok_or(Failure::NoDomain)?;
        if let Some(known) = self.cache.get(&name, kind, Instant::now()) {
            return known;
        }
        let answer = self.resolve(&name, kind).await?;
        self.cache.put_answer(&name, kind, &answer, Instant::now());
        Ok(answer)
    }
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn parse(name: &str) -> Result<Name, Failure> {
    let mut name =
        Name::from_labels(name.split('.').map(str::as_bytes)).map_err(|_| Failure::NoDomain)?;
    name.set_fqdn(true);
    Ok(name)
}

fn request(name: &Name, kind: Kind) -> DnsRequest {
    let query = Query::query(name.clone(), record_type(kind));
    let mut request = DnsRequest::from_query(query, DnsRequestOptions::default());
    request.metadata.authentic_data = true;
    request
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Mx => RecordType::MX,
        Kind::Ns => RecordType::NS,
        Kind::Ptr => RecordType::PTR,
        Kind::Tlsa => RecordType::TLSA,
        Kind::Txt => RecordType::TXT,
    }
}

/// What hickory calls an error may be an answer: that there is nothing.
fn judge(server: SocketAddr, error: NetError) -> Result<Reply, Failure> {
    let code = match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code, negative_ttl, ..
        })) => {
            let ttl = Duration::from_secs(negative_ttl.unwrap_or(0).into());
            match response_code {
                ResponseCode::NXDomain => return Ok(Reply::Absent(Failure::NoDomain, ttl)),
                ResponseCode::NoError => return Ok(Reply::Absent(Failure::NoData, ttl)),
                code => code,
            }
        }
        NetError::Dns(DnsError::ResponseCode(code)) => code,
        NetError::Timeout => return Err(Failure::TimedOut),
        NetError::Io(error) => return Err(Failure::unreachable(server, &error)),
        NetError::NoConnections | NetError::Busy => {
            return Err(Failure::unreachable(server, &"no connection"));
        }
        error => return Err(Failure::Malformed(format!("{server}: {error}"))),
    };
    Err(match code {
        ResponseCode::ServFail => Failure::ServFail(server.to_string()),
        ResponseCode::FormErr => Failure::Malformed(format!("{server}: {code}")),
        code => Failure::Refused(format!("{server}: {code}")),
    })
}

fn alias(response: &DnsResponse, name: &Name) -> Option<(Name, Duration)> {
    response.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => {
            let mut target = target.0.clone();
            target.set_fqdn(true);
            Some((target, Duration::from_secs(record.ttl.into())))
        }
        _ => None,
    })
}

fn is(record: &Record, name: &Name, kind: Kind) -> bool {
    record.name == *name && record.record_type() == record_type(kind)
}

/// Host names in records that cannot be host names are left out; if all of them are such, the answer is a bad one.
fn contents(question: &str, records: &[&Record]) -> Result<Vec<Data>, Failure> {
    let good: Vec<Data> = records.iter().filter_map(|record| content(&record.data)).collect();
    if good.is_empty() {
        return Err(Failure::Malformed(format!("{question}: no valid host name in the answer")));
    }
    Ok(good)
}

fn content(data: &RData) -> Option<Data> {
    Some(match data {
        RData::A(address) => Data::A(address.0),
        RData::AAAA(address) => Data::Aaaa(address.0),
        RData::MX(mx) => {
            let exchange = match &mx.exchange {
                name if name.is_root() => String::new(),
                name => host(name).or_else(|| address(name))?,
            };
            Data::Mx(Mx { preference: mx.preference, exchange })
        }
        RData::NS(name) => Data::Name(host(&name.0)?),
        RData::PTR(name) => Data::Name(host(&name.0)?),
        RData::TLSA(tlsa) => Data::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        RData::TXT(text) => Data::Txt(text.txt_data.concat()),
        _ => return None,
    })
}

/// An IPv4 address where a mail exchanger belongs; Postfix takes it, with a warning.
fn address(name: &Name) -> Option<String> {
    let text = name.to_ascii();
    let address: Ipv4Addr = text.strip_suffix('.').unwrap_or(&text).parse().ok()?;
    Some(address.to_string())
}

fn host(name: &Name) -> Option<String> {
    let text = name.to_lowercase().to_ascii();
    let text = text.strip_suffix('.').unwrap_or(&text);
    names::is_host_name(text).then(|| text.to_owned())
}
