//! A resolver in memory, for unit tests of whoever asks.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::{Answer, Data, Failure, Kind, Mx, Resolver, names};

/// What it was told, and NXDOMAIN for every other name.
///
/// ```
/// # use dns::{Failure, testing::Zone};
/// let zone = Zone::new()
///     .with_mx("example.org", 10, "mx.example.org")
///     .with_a("mx.example.org", [192, 0, 2, 1])
///     .fail("slow.example", Failure::TimedOut);
/// ```
#[derive(Debug, Default)]
pub struct Zone {
    records: HashMap<(String, Kind), Vec<Data>>,
    /// Whole names that fail in one way.
    failures: HashMap<String, Failure>,
    authentic: bool,
    asked: Mutex<Vec<(String, Kind)>>,
}

impl Zone {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn record(mut self, name: &str, kind: Kind, data: Data) -> Self {
        self.records.entry((name.to_ascii_lowercase(), kind)).or_default().push(data);
        self
    }

    /// An empty `exchange` is the null MX.
    pub fn with_mx(self, name: &str, preference: u16, exchange: &str) -> Self {
        let exchange = exchange.to_owned();
        self.record(name, Kind::Mx, Data::Mx(Mx { preference, exchange }))
    }

    pub fn with_a(self, name: &str, address: [u8; 4]) -> Self {
        self.record(name, Kind::A, Data::A(address.into()))
    }

    pub fn with_aaaa(self, name: &str, address: [u16; 8]) -> Self {
        self.record(name, Kind::Aaaa, Data::Aaaa(address.into()))
    }

    pub fn with_ptr(self, address: impl Into<std::net::IpAddr>, name: &str) -> Self {
        self.record(&names::reverse_name(address.into()), Kind::Ptr, Data::Name(name.to_owned()))
    }

    pub fn with_txt(self, name: &str, text: &str) -> Self {
        self.record(name, Kind::Txt, Data::Txt(text.into()))
    }

    /// Every question for this name fails so.
    pub fn fail(mut self, name: &str, failure: Failure) -> Self {
        self.failures.insert(name.to_ascii_lowercase(), failure);
        self
    }

    /// Answers come with the AD bit.
    pub fn authentic(mut self) -> Self {
        self.authentic = true;
        self
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<(String, Kind)> {
        self.asked.lock().map(|asked| asked.clone()).unwrap_or_default()
    }

    fn answer(&self, name: &str, kind: Kind) -> Result<Answer<Data>, Failure> {
        let name = names::normal(name).ok_or(Failure::NoDomain)?;
        if let Ok(mut asked) = self.asked.lock() {
            asked.push((name.clone(), kind));
        }
        if let Some(failure) = self.failures.get(&name) {
            return Err(failure.clone());
        }
        match self.records.get(&(name.clone(), kind)) {
            Some(records) => Ok(Answer {
                records: records.clone(),
                name: name.clone(),
                ttl: Duration::from_secs(60),
                authentic: self.authentic,
            }),
            None if self.records.keys().any(|(known, _)| *known == name) => Err(Failure::NoData),
            None => Err(Failure::NoDomain),
        }
    }
}

impl Resolver for Zone {
    async fn lookup(&self, name: &str, kind: Kind) -> Result<Answer<Data>, Failure> {
        self.answer(name, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn absence_is_told_apart() {
        let zone = Zone::new()
            .with_mx("Example.org", 0, "")
            .with_ptr([192, 0, 2, 1], "mx.example.org")
            .with_txt("example.org", "v=spf1 -all")
            .fail("broken.example", Failure::ServFail("x".into()));
        assert!(zone.mx("example.ORG.").await.unwrap().records[0].is_null());
        assert_eq!(zone.ptr([192, 0, 2, 1].into()).await.unwrap().records, ["mx.example.org"]);
        assert_eq!(zone.txt("example.org").await.unwrap().records, [b"v=spf1 -all"]);
        assert_eq!(zone.a("example.org").await, Err(Failure::NoData));
        assert_eq!(zone.a("example.com").await, Err(Failure::NoDomain));
        assert_eq!(zone.a("bad name").await, Err(Failure::NoDomain));
        assert!(zone.aaaa("broken.example").await.unwrap_err().is_temporary());
        assert_eq!(zone.asked()[0], ("example.org".to_owned(), Kind::Mx));
    }
}
