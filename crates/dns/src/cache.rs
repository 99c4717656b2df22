//! What was answered, for as long as its records may be kept; bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Answer, Data, Failure, Kind};

/// No answer is kept longer than this, whatever its records say.
const LONGEST: Duration = Duration::from_secs(86_400);
/// That there is nothing is not believed longer than this (RFC 2308 section 5 recommends 1 to 3 hours at most).
const LONGEST_ABSENCE: Duration = Duration::from_secs(900);

type Question = (String, Kind);

#[derive(Debug)]
pub struct Cache {
    kept: Mutex<HashMap<Question, Kept>>,
    most: usize,
}

#[derive(Debug)]
struct Kept {
    until: Instant,
    result: Result<Answer<Data>, Failure>,
}

impl Cache {
    /// Keeps up to `most` answers.
    pub fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    pub fn get(
        &self,
        name: &str,
        kind: Kind,
        now: Instant,
    ) -> Option<Result<Answer<Data>, Failure>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { until, result } = kept.get(&(name.to_owned(), kind))?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(result.clone().map(|answer| Answer { ttl: left, ..answer }))
    }

    pub fn put_answer(&self, name: &str, kind: Kind, answer: &Answer<Data>, now: Instant) {
        self.put(name, kind, Ok(answer.clone()), answer.ttl.min(LONGEST), now);
    }

    /// `failure` is one of absence.
    pub fn put_absence(
        &self,
        name: &str,
        kind: Kind,
        failure: &Failure,
        ttl: Duration,
        now: Instant,
    ) {
        self.put(name, kind, Err(failure.clone()), ttl.min(LONGEST_ABSENCE), now);
    }

    fn put(
        &self,
        name: &str,
        kind: Kind,
        result: Result<Answer<Data>, Failure>,
        ttl: Duration,
        now: Instant,
    ) {
        if ttl.is_zero() || self.most == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.most {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() >= self.most {
            // Full of living answers: half of them go, no matter which. A peer that makes us ask for many names
            // only costs us questions.
            let mut odd = false;
            kept.retain(|_, _| {
                odd = !odd;
                odd
            });
        }
        kept.insert((name.to_owned(), kind), Kept { until: now + ttl, result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ttl: u64) -> Answer<Data> {
        let ttl = Duration::from_secs(ttl);
        Answer {
            records: vec![Data::Txt(b"x".to_vec())],
            name: String::new(),
            ttl,
            authentic: false,
        }
    }

    #[test]
    fn an_answer_is_kept_as_long_as_its_records() {
        let cache = Cache::new(10);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        cache.put_answer("a", Kind::Txt, &answer(60), now);
        cache.put_answer("zero", Kind::Txt, &answer(0), now);
        cache.put_answer("eternal", Kind::Txt, &answer(u64::from(u32::MAX)), now);
        cache.put_absence("gone", Kind::Txt, &Failure::NoDomain, Duration::from_secs(86_400), now);
        assert_eq!(cache.get("a", Kind::Txt, after(20)), Some(Ok(answer(40))));
        assert_eq!(cache.get("a", Kind::Mx, after(20)), None);
        assert_eq!(cache.get("a", Kind::Txt, after(60)), None);
        assert_eq!(cache.get("zero", Kind::Txt, now), None);
        assert_eq!(cache.get("eternal", Kind::Txt, after(86_400)), None);
        assert_eq!(cache.get("gone", Kind::Txt, after(899)), Some(Err(Failure::NoDomain)));
        assert_eq!(cache.get("gone", Kind::Txt, after(900)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let cache = Cache::new(8);
        let now = Instant::now();
        for number in 0..1000 {
            cache.put_answer(&number.to_string(), Kind::Txt, &answer(60), now);
            assert!(cache.kept.lock().unwrap().len() <= 8);
        }
        assert!(cache.get("999", Kind::Txt, now).is_some());
    }
}
