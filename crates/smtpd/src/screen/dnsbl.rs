//! The score of a client in weighted DNS lists.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dns::{Failure, Resolver};
use tokio::task::JoinSet;

use super::settings::{ScreenSettings, Weighted};
use crate::connection::log;
use crate::policy::failure::lookup_text;

/// What the lists have said so far.
#[derive(Clone, Debug, Default)]
pub struct Score {
    pub total: i64,
    /// The list that weighs most.
    pub name: Option<String>,
    weight: i64,
    fail_ttl: Option<Duration>,
    pass_ttl: Option<Duration>,
}

impl Score {
    /// How long it holds.
    #[must_use]
    pub fn ttl(&self, min: Duration, max: Duration) -> Duration {
        let ttl = if self.total > 0 { self.fail_ttl } else { self.pass_ttl };
        ttl.unwrap_or_default().max(min).min(max)
    }

    /// Takes one list's answer; all patterns of that list are applied to it.
    fn add(&mut self, sites: &[Weighted], found: &[Ipv4Addr], ttl: Duration, shown: &str) {
        let shorter = |old: Option<Duration>| Some(old.map_or(ttl, |old| old.min(ttl)));
        for weighted in sites {
            let hit = match &weighted.site.filter {
                None => !found.is_empty(),
                Some(filter) => found.iter().any(|address| filter.matches(*address)),
            };
            if hit {
                if self.name.is_none() || self.weight < weighted.weight {
                    self.name = Some(shown.to_owned());
                    self.weight = weighted.weight;
                }
                self.total = self.total.saturating_add(weighted.weight);
            }
            // A hit on a bad list, or a miss on a good one, decides how long a refusal holds.
            if (weighted.weight > 0) != found.is_empty() {
                self.fail_ttl = shorter(self.fail_ttl);
            } else {
                self.pass_ttl = shorter(self.pass_ttl);
            }
        }
    }
}

/// The questions about one client, under way.
pub struct Asking {
    score: Arc<Mutex<Score>>,
    tasks: JoinSet<()>,
}

impl Asking {
    #[must_use]
    pub fn begin<R: Resolver>(
        settings: &Arc<ScreenSettings>,
        dns: &Arc<R>,
        client: IpAddr,
    ) -> Self {
        let score = Arc::new(Mutex::new(Score::default()));
        let mut tasks = JoinSet::new();
        let mut domains: Vec<&str> =
            settings.sites.iter().map(|weighted| weighted.site.domain.as_str()).collect();
        domains.sort_unstable();
        domains.dedup();
        for domain in domains {
            let (settings, dns, score) =
                (Arc::clone(settings), Arc::clone(dns), Arc::clone(&score));
            let domain = domain.to_owned();
            tasks.spawn(async move {
                let (found, ttl) = ask(&settings, &*dns, client, &domain).await;
                let sites: Vec<Weighted> = settings
                    .sites
                    .iter()
                    .filter(|weighted| weighted.site.domain == domain)
                    .cloned()
                    .collect();
                let shown = settings.dnsbl.reply_names.get(&domain).unwrap_or(&domain);
                let mut score = score.lock().unwrap_or_else(PoisonError::into_inner);
                score.add(&sites, &found, ttl, shown);
            });
        }
        Self { score, tasks }
    }

    /// All lists have answered, or will not.
    pub async fn finished(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    #[must_use]
    pub fn score(&self) -> Score {
        self.score.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask<R: Resolver>(
    settings: &ScreenSettings,
    dns: &R,
    client: IpAddr,
    domain: &str,
) -> (Vec<Ipv4Addr>, Duration) {
    let query = format!("{}.{domain}", dns::reversed(client).trim_end_matches('.'));
    let nothing = (Vec::new(), settings.dnsbl.min_ttl);
    match tokio::time::timeout(settings.dnsbl.timeout, dns.a(&query)).await {
        Err(_) => {
            let seconds = settings.dnsbl.timeout.as_secs();
            log(
                &settings.ident,
                &format!("warning: dnsblog reply timeout {seconds}s for {domain}"),
            );
            nothing
        }
        Ok(Ok(answer)) => {
            for address in &answer.records {
                log(
                    &settings.dnsblog_ident,
                    &format!("addr {client} listed by domain {domain} as {address}"),
                );
            }
            (answer.records, answer.ttl)
        }
        Ok(Err(Failure::NoDomain | Failure::NoData)) => nothing,
        Ok(Err(failure)) => {
            let why = lookup_text(&failure, &query, "A");
            let line = format!("warning: dnsblog_query: lookup error for DNS query {query}: {why}");
            log(&settings.dnsblog_ident, &line);
            nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Site;

    #[test]
    fn weights_add_up() {
        let weighted = |text: &str, weight| Weighted { site: Site::parse(text).unwrap(), weight };
        let mut score = Score::default();
        let second = Duration::from_secs(1);
        let bad = [weighted("a.test=127.0.0.[2..3]", 2), weighted("a.test=127.0.0.9", 5)];
        score.add(&bad, &[[127, 0, 0, 3].into()], second * 90, "a.test");
        score.add(&[weighted("b.test", 3)], &[[127, 0, 0, 1].into()], second * 70, "b.test");
        score.add(&[weighted("w.test", -4)], &[[127, 0, 0, 1].into()], second * 80, "w.test");
        assert_eq!((score.total, score.name.as_deref()), (1, Some("b.test")));
        assert_eq!(score.ttl(second * 60, second * 3600), second * 70);
        score.add(&[weighted("c.test", 9)], &[], second * 10, "c.test");
        assert_eq!(score.total, 1);
    }
}
