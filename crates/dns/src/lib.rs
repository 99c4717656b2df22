//! The resolver behind our trait: MX, A and AAAA, PTR, TXT, TLSA; NXDOMAIN, no data, SERVFAIL and time-outs told apart.
//!
//! Everything a peer chose goes through here bounded: names are checked before they are asked for, host names in answers
//! are checked before they are handed on, chains of CNAMEs end, and so do time and memory.
#![forbid(unsafe_code)]

mod cache;
mod failure;
mod hosts;
mod names;
mod record;
mod settings;
mod system;
pub mod testing;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use failure::Failure;
pub use hosts::Hosts;
pub use names::{is_host_name, reverse_name, reversed, to_ascii};
pub use record::{Answer, Data, Kind, Mx, Tlsa};
pub use settings::Settings;
pub use system::System;

/// Whoever answers questions about names: [`System`] on a host, [`testing::Zone`] in a unit test.
///
/// Names are given without a final dot, in any case; those that come back are lower-case ASCII without a final dot. An answer
/// has at least one record of the kind that was asked for, else it is [`Failure::NoData`]. CNAMEs have been followed.
pub trait Resolver: Send + Sync + 'static {
    fn lookup(
        &self,
        name: &str,
        kind: Kind,
    ) -> impl Future<Output = Result<Answer<Data>, Failure>> + Send;

    /// In the order of the answer, which is no order: sort by preference. A null MX (RFC 7505) is one record, [`Mx::is_null`].
    fn mx(&self, name: &str) -> impl Future<Output = Result<Answer<Mx>, Failure>> + Send {
        async { typed(self.lookup(name, Kind::Mx).await, Data::mx) }
    }

    fn a(&self, name: &str) -> impl Future<Output = Result<Answer<Ipv4Addr>, Failure>> + Send {
        async { typed(self.lookup(name, Kind::A).await, Data::a) }
    }

    fn aaaa(&self, name: &str) -> impl Future<Output = Result<Answer<Ipv6Addr>, Failure>> + Send {
        async { typed(self.lookup(name, Kind::Aaaa).await, Data::aaaa) }
    }

    /// The names of an address.
    fn ptr(&self, address: IpAddr) -> impl Future<Output = Result<Answer<String>, Failure>> + Send {
        async move { typed(self.lookup(&reverse_name(address), Kind::Ptr).await, Data::name) }
    }

    /// Each record is its strings put together.
    fn txt(&self, name: &str) -> impl Future<Output = Result<Answer<Vec<u8>>, Failure>> + Send {
        async { typed(self.lookup(name, Kind::Txt).await, Data::txt) }
    }

    fn ns(&self, name: &str) -> impl Future<Output = Result<Answer<String>, Failure>> + Send {
        async { typed(self.lookup(name, Kind::Ns).await, Data::name) }
    }

    /// `name` is `_25._tcp.mx.example.com`.
    fn tlsa(&self, name: &str) -> impl Future<Output = Result<Answer<Tlsa>, Failure>> + Send {
        async { typed(self.lookup(name, Kind::Tlsa).await, Data::tlsa) }
    }
}

impl<R: Resolver> Resolver for std::sync::Arc<R> {
    fn lookup(
        &self,
        name: &str,
        kind: Kind,
    ) -> impl Future<Output = Result<Answer<Data>, Failure>> + Send {
        R::lookup(self, name, kind)
    }
}

fn typed<T>(
    answer: Result<Answer<Data>, Failure>,
    pick: impl Fn(Data) -> Option<T>,
) -> Result<Answer<T>, Failure> {
    let Answer { records, name, ttl, authentic } = answer?;
    let records = records.into_iter().filter_map(pick).collect();
    Ok(Answer { records, name, ttl, authentic })
}
