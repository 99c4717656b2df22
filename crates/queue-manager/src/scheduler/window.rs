//! How many deliveries may go to one destination at a time, learnt from how they end.

use serde::{Deserialize, Serialize};

/// How much one delivery's end counts (`*_destination_concurrency_positive_feedback` and its twin).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Feedback {
    Constant(f64),
    /// The number over the present window.
    OverWindow(f64),
    OverRootOfWindow(f64),
}

impl Feedback {
    /// Reads `N`, `N/M`, `N/concurrency`, `N/sqrt_concurrency`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let number: f64 = text.trim().parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number)
        };
        let Some((base, under)) = text.split_once('/') else {
            return number(text).map(Self::Constant);
        };
        let base = number(base)?;
        match under.trim() {
            "concurrency" => Some(Self::OverWindow(base)),
            "sqrt_concurrency" => Some(Self::OverRootOfWindow(base)),
            under => number(under).filter(|&n| n > 0.0).map(|n| Self::Constant(base / n)),
        }
        .filter(|feedback| feedback.at(1) <= 1.0)
    }

    fn at(self, window: u32) -> f64 {
        let window = f64::from(window.max(1));
        match self {
            Self::Constant(value) => value,
            Self::OverWindow(base) => base / window,
            Self::OverRootOfWindow(base) => base / window.sqrt(),
        }
    }
}

/// The settings of a transport that windows obey.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowLimits {
    pub initial: u32,
    /// 0 is no limit.
    pub most: u32,
    pub positive: Feedback,
    pub negative: Feedback,
    /// How many whole windows of failures make a destination dead; 0: never.
    pub failed_cohorts: f64,
}

/// The window of one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    size: u32,
    success: f64,
    failure: f64,
    failed_cohorts: f64,
}

impl Window {
    #[must_use]
    pub fn new(limits: &WindowLimits) -> Self {
        let most = if limits.most == 0 { u32::MAX } else { limits.most };
        Self {
            size: limits.initial.clamp(1, most),
            success: 0.0,
            failure: 0.0,
            failed_cohorts: 0.0,
        }
    }

    /// Zero: the destination is dead.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// A delivery ended well (for the destination, not for every recipient).
    pub fn success(&mut self, limits: &WindowLimits, busy: u32) {
        self.failed_cohorts = 0.0;
        let below_most = limits.most == 0 || self.size < limits.most;
        if below_most && self.size < busy.saturating_add(limits.initial) {
            let feedback = limits.positive.at(self.size);
            self.success += feedback;
            while self.success + feedback / 2.0 >= 1.0 {
                self.size = self.size.saturating_add(1);
                self.success -= 1.0;
                self.failure = 0.0;
            }
        }
        if limits.most > 0 {
            self.size = self.size.min(limits.most);
        }
    }

    /// A delivery failed because of the destination.
    pub fn failure(&mut self, limits: &WindowLimits) {
        if self.size == 0 {
            return;
        }
        self.failed_cohorts += 1.0 / f64::from(self.size);
        if limits.failed_cohorts > 0.0 && self.failed_cohorts >= limits.failed_cohorts {
            self.size = 0;
            return;
        }
        let feedback = limits.negative.at(self.size);
        self.failure -= feedback;
        while self.failure - feedback / 2.0 < 0.0 {
            self.size = self.size.saturating_sub(1);
            self.success = 0.0;
            self.failure += 1.0;
        }
        self.size = self.size.max(1);
    }

    /// The destination is tried again: nobody knows what it can bear now.
    pub fn revive(&mut self, limits: &WindowLimits, busy: u32) {
        *self = Self::new(limits);
        if busy > 0 {
            self.size = busy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Feedback, Window, WindowLimits};

    const LIMITS: WindowLimits = WindowLimits {
        initial: 5,
        most: 20,
        positive: Feedback::Constant(1.0),
        negative: Feedback::Constant(1.0),
        failed_cohorts: 1.0,
    };

    #[test]
    fn a_window_opens_with_success_and_closes_with_failure() {
        let mut window = Window::new(&LIMITS);
        assert_eq!(window.size(), 5);
        window.success(&LIMITS, 5);
        assert_eq!(window.size(), 6);
        window.success(&LIMITS, 1);
        assert_eq!(window.size(), 6, "not further than what is used, and the initial");
        for _ in 0..50 {
            window.success(&LIMITS, 20);
        }
        assert_eq!(window.size(), 20);
        window.failure(&LIMITS);
        assert!((1..20).contains(&window.size()));
        while window.size() > 0 {
            window.failure(&LIMITS);
        }
        window.revive(&LIMITS, 0);
        assert_eq!(window.size(), 5);
    }

    #[test]
    fn one_failure_of_a_single_delivery_is_a_whole_cohort() {
        let limits = WindowLimits { initial: 1, ..LIMITS };
        let mut window = Window::new(&limits);
        window.failure(&limits);
        assert_eq!(window.size(), 0);
        let patient = WindowLimits { failed_cohorts: 0.0, ..limits };
        let mut window = Window::new(&patient);
        window.failure(&patient);
        assert_eq!(window.size(), 1);
    }

    #[test]
    fn feedback_is_read_as_postfix_writes_it() {
        for (text, at_four) in [
            ("1", Some(1.0)),
            ("1/4", Some(0.25)),
            ("1/concurrency", Some(0.25)),
            ("1/sqrt_concurrency", Some(0.5)),
            ("2/concurrency", None),
            ("x", None),
            ("-1", None),
            ("1/0", None),
        ] {
            assert_eq!(Feedback::parse(text).map(|f| f.at(4)), at_four, "{text}");
        }
    }
}
