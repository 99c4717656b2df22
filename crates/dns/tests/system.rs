//! The resolver of a host against a name server that misbehaves on demand.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dns::{Failure, Kind, Mx, Resolver as _, Settings, System};
use harness::dns::{Server, ptr};

const ZONE: &str = r#"
example.org       300 MX 10 mx1.example.org
example.org       MX 20 MX2.example.org
example.org       TXT "v=spf1 " "-all"
mx1.example.org   A 192.0.2.1
mx1.example.org   AAAA 2001:db8::1
null.example      MX 0 .
alias.example     90 CNAME other.example
other.example     30 CNAME mx1.example.org
lost.example      CNAME nowhere.example
circle.example    CNAME circle.example
empty.example     NODATA
broken.example    SERVFAIL
refused.example   REFUSED
wrong.example     FORMERR
silent.example    SILENT
big.example       TRUNCATE
big.example       A 192.0.2.2
brief.example     0 A 192.0.2.3
numbermx.example  MX 10 192.0.2.1
badmx.example     MX 20 mx-.example.org
halfmx.example    MX 10 mx-.example.org
halfmx.example    MX 20 mx1.example.org
signed.example    AUTHENTIC
signed.example    A 192.0.2.4
_25._tcp.mx1.example.org TLSA 3 1 1 0a0B
"#;

/// Time for a server that is there, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// For one that never answers.
const IMPATIENCE: Duration = Duration::from_millis(150);

fn resolver(servers: &[SocketAddr], timeout: Duration) -> System {
    System::new(&Settings { servers: servers.to_vec(), timeout, ..Settings::default() })
}

fn patient(servers: &[SocketAddr]) -> System {
    resolver(servers, PATIENCE)
}

#[tokio::test]
async fn records_come_as_they_are() {
    let server = Server::start(ZONE);
    let dns = patient(&[server.address()]);
    let answer = dns.mx("Example.ORG").await.unwrap();
    let mut exchangers: Vec<(u16, &str)> = answer
        .records
        .iter()
        .map(|Mx { preference, exchange }| (*preference, &**exchange))
        .collect();
    exchangers.sort_unstable();
    assert_eq!(exchangers, [(10, "mx1.example.org"), (20, "mx2.example.org")]);
    assert_eq!((answer.ttl, answer.authentic), (Duration::from_secs(60), false));
    assert!(dns.mx("null.example").await.unwrap().records[0].is_null());
    assert_eq!(dns.txt("example.org").await.unwrap().records, [b"v=spf1 -all"]);
    let address = dns.aaaa("mx1.example.org").await.unwrap().records[0];
    assert_eq!(address.to_string(), "2001:db8::1");
    let tlsa = dns.tlsa("_25._tcp.mx1.example.org").await.unwrap().records.remove(0);
    assert_eq!((tlsa.usage, tlsa.selector, tlsa.matching, tlsa.data), (3, 1, 1, vec![10, 11]));
    assert!(dns.a("signed.example").await.unwrap().authentic);
}

#[tokio::test]
async fn names_of_an_address_that_are_none_are_left_out() {
    let address = "192.0.2.1".parse().unwrap();
    let server = Server::start(&(ptr(address, "mx1.example.org") + &ptr(address, "evil-.example")));
    let dns = patient(&[server.address()]);
    assert_eq!(dns.ptr(address).await.unwrap().records, ["mx1.example.org"]);
    assert_eq!(dns.ptr("192.0.2.2".parse().unwrap()).await, Err(Failure::NoDomain));
}

#[tokio::test]
async fn every_way_of_having_no_answer_is_told_apart() {
    let server = Server::start(ZONE);
    let at = server.address();
    let dns = patient(&[at]);
    let bad = |text: &str| Failure::Malformed(text.to_owned());
    for (name, failure) in [
        ("nowhere.example", Failure::NoDomain),
        ("not a name", Failure::NoDomain),
        ("empty.example", Failure::NoData),
        ("example", Failure::NoData),
        ("mx1.example.org", Failure::NoData),
        ("lost.example", Failure::NoDomain),
        ("broken.example", Failure::ServFail(at.to_string())),
        ("refused.example", Failure::Refused(format!("{at}: Query Refused"))),
        ("wrong.example", bad(&format!("{at}: Form Error"))),
        ("circle.example", Failure::Loop),
        ("badmx.example", bad("badmx.example: no valid host name in the answer")),
    ] {
        assert_eq!(dns.mx(name).await, Err(failure), "{name}");
    }
    let silent = resolver(&[at], IMPATIENCE).mx("silent.example").await;
    assert_eq!(silent, Err(Failure::TimedOut));
    assert_eq!(dns.mx("numbermx.example").await.unwrap().records[0].exchange, "192.0.2.1");
    assert_eq!(dns.mx("halfmx.example").await.unwrap().records.len(), 1);
    let nobody = resolver(&["127.0.0.1:1".parse().unwrap()], IMPATIENCE);
    assert!(nobody.a("example.org").await.unwrap_err().is_temporary());
}

#[tokio::test]
async fn aliases_are_followed_and_shorten_the_life_of_the_answer() {
    let server = Server::start(ZONE);
    let answer = patient(&[server.address()]).a("alias.example").await.unwrap();
    assert_eq!((answer.records[0].to_string().as_str(), answer.ttl.as_secs()), ("192.0.2.1", 30));
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_over_tcp() {
    let server = Server::start(ZONE);
    let answer = patient(&[server.address()]).a("big.example").await.unwrap();
    assert_eq!(answer.records[0].to_string(), "192.0.2.2");
    assert_eq!(server.asked(), ["big.example A", "big.example A"]);
}

#[tokio::test]
async fn answers_are_kept_for_their_time_and_failures_are_not() {
    let server = Server::start(ZONE);
    let dns = patient(&[server.address()]);
    for _ in 0..3 {
        dns.a("mx1.example.org").await.unwrap();
        dns.a("brief.example").await.unwrap();
        assert_eq!(dns.a("nowhere.example").await, Err(Failure::NoDomain));
        dns.a("broken.example").await.unwrap_err();
    }
    let times = |name: &str| server.asked().iter().filter(|asked| *asked == name).count();
    assert_eq!((times("mx1.example.org A"), times("nowhere.example A")), (1, 1));
    // Twice each time: that is how often the list of servers is asked.
    assert_eq!((times("brief.example A"), times("broken.example A")), (3, 6));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let silent = Server::start("* SILENT\nexample.org SILENT");
    let broken = Server::start("example.org SERVFAIL");
    let good = Server::start(ZONE);
    // Long enough for the good one, and to be waited for once.
    let second = Duration::from_secs(1);
    let dns = resolver(&[broken.address(), silent.address(), good.address()], second);
    assert_eq!(dns.mx("example.org").await.unwrap().records.len(), 2);
    assert!(!broken.asked().is_empty() && !silent.asked().is_empty());
}

#[tokio::test]
async fn a_silent_server_costs_only_the_time_that_was_set() {
    let server = Server::start(ZONE);
    let dns = resolver(&[server.address()], IMPATIENCE);
    let before = Instant::now();
    let questions = (0..50).map(|_| dns.lookup("silent.example", Kind::Mx));
    for answer in all(questions).await {
        assert_eq!(answer, Err(Failure::TimedOut));
    }
    // One after the other they would take twice IMPATIENCE each.
    assert!(before.elapsed() < 50 * IMPATIENCE, "{:?}", before.elapsed());
}

/// All at once, on this thread.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
