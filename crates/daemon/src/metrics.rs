//! Counters, gauges and histograms of a process, and their sum over all processes as Prometheus text.
//!
//! Our own because the sum is made in the control worker: samples travel as values, and the totals
//! of a worker that has gone are kept, so that a counter never falls when workers come and go.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Series in one family; what a peer could invent as a label must not fill the memory.
const MOST_SERIES: usize = 500;
/// Upper bounds of histogram buckets, in milliseconds.
const BOUNDS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000, 300_000];

static FAMILIES: LazyLock<Mutex<BTreeMap<String, Family>>> = LazyLock::new(Mutex::default);

struct Family {
    help: String,
    kind: Kind,
    series: BTreeMap<Labels, Series>,
}

type Labels = Vec<(String, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that also falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn add(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something takes.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// The counter of that name; the daemon's name is put before it.
pub fn counter(name: &str, help: &str) -> Counter {
    counter_with(name, help, &[])
}

/// One counter of a family that is told apart by labels.
pub fn counter_with(name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
    let new = || Series::Counter(Counter::default());
    let found = with_series(name, help, Kind::Counter, labels, new, |series| match series {
        Series::Counter(counter) => Some(counter.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

pub fn gauge(name: &str, help: &str) -> Gauge {
    gauge_with(name, help, &[])
}

pub fn gauge_with(name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
    let new = || Series::Gauge(Gauge::default());
    let found = with_series(name, help, Kind::Gauge, labels, new, |series| match series {
        Series::Gauge(gauge) => Some(gauge.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// A histogram of durations; its name should end in `_seconds`.
pub fn histogram(name: &str, help: &str, labels: &[(&str, &str)]) -> Histogram {
    let new = || Series::Histogram(Histogram::default());
    let found = with_series(name, help, Kind::Histogram, labels, new, |series| match series {
        Series::Histogram(histogram) => Some(histogram.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn families() -> MutexGuard<'static, BTreeMap<String, Family>> {
    FAMILIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A family that is full, or that has this name with another kind, gives a series that is not shown.
fn with_series<T>(
    name: &str,
    help: &str,
    kind: Kind,
    labels: &[(&str, &str)],
    new: impl FnOnce() -> Series,
    pick: impl FnOnce(&Series) -> Option<T>,
) -> Option<T> {
    let mut labels: Labels =
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.sort();
    let mut families = families();
    let family = families.entry(name.to_owned()).or_insert_with(|| Family {
        help: help.to_owned(),
        kind,
        series: BTreeMap::new(),
    });
    if family.series.len() >= MOST_SERIES && !family.series.contains_key(&labels) {
        return None;
    }
    pick(family.series.entry(labels).or_insert_with(new))
}

/// The values of one process, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    families: BTreeMap<String, FamilyValues>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FamilyValues {
    help: String,
    kind: Kind,
    series: Vec<(Labels, Vec<i64>)>,
}

/// What this process has counted so far.
pub fn snapshot() -> Snapshot {
    let load =
        |number: &AtomicU64| i64::try_from(number.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
    let values = |series: &Series| match series {
        Series::Counter(counter) => vec![load(&counter.0)],
        Series::Gauge(gauge) => vec![gauge.get()],
        Series::Histogram(Histogram(buckets)) => {
            buckets.counts.iter().chain([&buckets.sum_us]).map(load).collect()
        }
    };
    let families = families();
    let families = families.iter().map(|(name, family)| {
        let series = family.series.iter().map(|(labels, series)| (labels.clone(), values(series)));
        let help = family.help.clone();
        (name.clone(), FamilyValues { help, kind: family.kind, series: series.collect() })
    });
    Snapshot { families: families.collect() }
}

impl Snapshot {
    /// Adds the values of another process.
    pub fn add(&mut self, other: &Self) {
        for (name, theirs) in &other.families {
            let ours = self.families.entry(name.clone()).or_insert_with(|| FamilyValues {
                help: theirs.help.clone(),
                kind: theirs.kind,
                series: Vec::new(),
            });
            for (labels, values) in &theirs.series {
                let room = ours.series.len() < MOST_SERIES;
                match ours.series.iter_mut().find(|(known, _)| known == labels) {
                    Some((_, sum)) => {
                        for (sum, value) in sum.iter_mut().zip(values) {
                            *sum = sum.saturating_add(*value);
                        }
                    }
                    None if room => {
                        ours.series.push((labels.clone(), values.clone()));
                    }
                    None => {}
                }
            }
        }
    }

    /// What remains of a process that has gone: its gauges stand for nothing any more.
    #[must_use]
    pub fn without_gauges(mut self) -> Self {
        self.families.retain(|_, family| family.kind != Kind::Gauge);
        self
    }

    /// Prometheus's text format 0.0.4; `prefix` is the daemon's name.
    pub fn prometheus(&self, prefix: &str) -> String {
        let prefix = prefix.replace('-', "_");
        let mut text = String::new();
        for (name, family) in &self.families {
            let name = format!("theoris_{prefix}_{name}");
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, values) in &family.series {
                match family.kind {
                    Kind::Histogram => print_histogram(&mut text, &name, labels, values),
                    _ => {
                        let value = values.first().copied().unwrap_or_default();
                        let _ = writeln!(text, "{name}{} {value}", print_labels(labels, None));
                    }
                }
            }
        }
        text
    }
}

fn print_histogram(text: &mut String, name: &str, labels: &Labels, values: &[i64]) {
    let (counts, sum) = values.split_at(values.len().saturating_sub(1));
    let mut total = 0_i64;
    for (index, count) in counts.iter().enumerate() {
        total = total.saturating_add(*count);
        let bound = BOUNDS.get(index).map_or("+Inf".to_owned(), |ms| seconds(ms * 1000));
        let _ = writeln!(text, "{name}_bucket{} {total}", print_labels(labels, Some(&bound)));
    }
    let sum = seconds(sum.first().and_then(|us| u64::try_from(*us).ok()).unwrap_or_default());
    let labels = print_labels(labels, None);
    let _ = writeln!(text, "{name}_sum{labels} {sum}\n{name}_count{labels} {total}");
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn print_labels(labels: &Labels, bound: Option<&str>) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut parts: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    parts.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_processes_print_as_prometheus_text() {
        counter_with("test_total", "Things.", &[("kind", "a\"b")]).add(2);
        gauge("test_open", "Open things.").set(3);
        histogram("test_seconds", "How long.", &[]).observe(Duration::from_millis(30));
        let keep = |name: &String| name.starts_with("test_");
        let mut one = snapshot();
        one.families.retain(|name, _| keep(name));
        let mut sum = one.clone();
        sum.add(&one);
        sum.add(&one.clone().without_gauges());
        let buckets = "theoris_echo_d_test_seconds_bucket";
        let text = sum.prometheus("echo-d");
        assert!(
            text.contains(&format!("{buckets}{{le=\"0.025\"}} 0\n{buckets}{{le=\"0.05\"}} 3\n"))
        );
        assert!(text.contains(&format!("{buckets}{{le=\"+Inf\"}} 3\n")));
        let rest: Vec<&str> = text.lines().filter(|line| !line.contains("_bucket")).collect();
        insta::assert_snapshot!(rest.join("\n"), @r#"
        # HELP theoris_echo_d_test_open Open things.
        # TYPE theoris_echo_d_test_open gauge
        theoris_echo_d_test_open 6
        # HELP theoris_echo_d_test_seconds How long.
        # TYPE theoris_echo_d_test_seconds histogram
        theoris_echo_d_test_seconds_sum 0.09
        theoris_echo_d_test_seconds_count 3
        # HELP theoris_echo_d_test_total Things.
        # TYPE theoris_echo_d_test_total counter
        theoris_echo_d_test_total{kind="a\"b"} 6
        "#);
    }
}
