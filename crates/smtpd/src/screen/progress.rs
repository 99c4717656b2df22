//! Which tests a client has to pass, has passed and has failed: postscreen's own rules, without a socket.

use super::settings::{Reaction, ScreenSettings};

/// The tests, in the order of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    Greet,
    Dnsbl,
    Pipelining,
    NonSmtp,
    BareNewline,
}

pub const TESTS: [Test; 5] =
    [Test::Greet, Test::Dnsbl, Test::Pipelining, Test::NonSmtp, Test::BareNewline];
const DEEP: [Test; 3] = [Test::Pipelining, Test::NonSmtp, Test::BareNewline];

/// When each test expires, in seconds since 1970.
pub type Expiry = [u64; 5];

/// The test has never been passed.
pub const NEW: u64 = 0;
/// It was switched off when the client was last seen.
pub const DISABLED: u64 = 1;

/// A set of tests.
type Set = [bool; 5];

/// One client's way through the tests.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub expiry: Expiry,
    /// Some enabled test has never been passed.
    pub new: bool,
    todo: Set,
    pass: Set,
    fail: Set,
    skip: Set,
    /// On the deny list, or at an address where no client gets past the tests.
    barred: bool,
    /// It will not reach the SMTP server in this session.
    pub kept_out: bool,
    /// What each RCPT hears.
    pub refusal: Option<String>,
}

/// What a client hears who passes only in its next session, and at the end of a session that was cut.
pub const LATER: &str = "450 4.3.2 Service currently unavailable";

impl Progress {
    /// What is to be done for a client whose tests expire then.
    #[must_use]
    pub fn begin(settings: &ScreenSettings, expiry: Expiry, now: u64) -> Self {
        let enabled = enabled(settings);
        let mut progress = Self { expiry, new: expiry.contains(&NEW), ..Self::default() };
        for test in TESTS {
            let at = test as usize;
            progress.todo[at] = enabled[at] && now > expiry[at];
        }
        progress
    }

    #[must_use]
    pub fn is_todo(&self, test: Test) -> bool {
        self.todo[test as usize]
    }

    #[must_use]
    pub fn has_early(&self) -> bool {
        self.is_todo(Test::Greet) || self.is_todo(Test::Dnsbl)
    }

    /// Something is to be done, or has failed.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        !self.todo.contains(&true) && !self.has_failed()
    }

    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.fail.contains(&true) || self.barred
    }

    #[must_use]
    pub fn failed(&self, test: Test) -> bool {
        self.fail[test as usize]
    }

    pub fn bar(&mut self) {
        self.barred = true;
        self.kept_out = true;
    }

    /// The deny list or a test says no. `Drop` is the caller's to carry out.
    pub fn deny(&mut self, reaction: Reaction, refusal: &str) {
        match reaction {
            Reaction::Ignore => {}
            Reaction::Enforce | Reaction::Drop => {
                self.barred = true;
                self.kept_out = true;
                self.refusal = Some(refusal.to_owned());
            }
        }
    }

    pub fn passed(&mut self, test: Test, until: u64) {
        self.pass[test as usize] = true;
        self.expiry[test as usize] = until;
    }

    /// A test before the greeting has failed; with `Ignore` it counts for nothing.
    pub fn failed_early(&mut self, test: Test, reaction: Reaction, refusal: &str) {
        if reaction == Reaction::Ignore {
            return;
        }
        self.fail[test as usize] = true;
        self.kept_out = true;
        self.refusal = Some(refusal.to_owned());
    }

    /// A test after the greeting has failed; it is not done again in this session. With `Ignore` the client
    /// has peace until the next test of any kind expires.
    pub fn failed_deep(&mut self, test: Test, reaction: Reaction, soon: u64) {
        let at = test as usize;
        self.skip[at] = true;
        self.pass[at] = false;
        if reaction == Reaction::Ignore {
            self.passed(test, soon);
            return;
        }
        self.fail[at] = true;
        self.expiry[at] = DISABLED;
        self.kept_out = true;
        self.refusal = Some("550 5.5.1 Protocol error".to_owned());
    }

    /// Whether a deep test is still watching.
    #[must_use]
    pub fn watches(&self, test: Test) -> bool {
        self.todo[test as usize] && !self.skip[test as usize]
    }

    /// RCPT: who has come so far without a failure has passed the deep tests.
    pub fn reached_recipient(&mut self, settings: &ScreenSettings, now: u64) {
        for test in DEEP {
            let at = test as usize;
            if self.todo[at] && !self.pass[at] && !self.fail[at] {
                self.passed(test, now + deep(settings, test).ttl.as_secs());
            }
        }
    }

    /// A good score passes all other tests until `until`.
    pub fn pass_all_but_dnsbl(&mut self, until: u64) {
        for test in TESTS {
            let at = test as usize;
            if test == Test::Dnsbl {
                continue;
            }
            if self.todo[at] {
                self.pass[at] = true;
            }
            self.expiry[at] = self.expiry[at].max(until);
        }
    }

    /// A client that has failed is watched for everything else, too.
    pub fn begin_deep(&mut self) {
        if self.has_failed() {
            DEEP.into_iter().for_each(|test| self.todo[test as usize] = true);
        }
    }

    /// It has to go through the dialogue that leads nowhere.
    #[must_use]
    pub fn needs_dialogue(&self) -> bool {
        self.kept_out
            || DEEP.into_iter().any(|test| self.todo[test as usize] && !self.pass[test as usize])
    }

    #[must_use]
    pub fn is_passed(&self, test: Test) -> bool {
        self.pass[test as usize]
    }

    /// All that was to be done is done, and well: `PASS NEW` or `PASS OLD`.
    #[must_use]
    pub fn is_blessed(&self) -> bool {
        !self.has_failed()
            && self.pass.contains(&true)
            && self.pass.iter().zip(self.todo).all(|(&pass, todo)| pass == todo)
    }

    /// What the cache keeps of it, if there is anything new.
    #[must_use]
    pub fn to_keep(&self, settings: &ScreenSettings) -> Option<Expiry> {
        if self.has_failed() || !self.pass.contains(&true) {
            return None;
        }
        let enabled = enabled(settings);
        let mut kept = self.expiry;
        for (at, expiry) in kept.iter_mut().enumerate() {
            if *expiry == NEW && !enabled[at] {
                *expiry = DISABLED;
            }
        }
        Some(kept)
    }
}

fn enabled(settings: &ScreenSettings) -> Set {
    [
        !settings.greet_banner.is_empty(),
        !settings.sites.is_empty(),
        settings.pipelining.enabled,
        settings.non_smtp.enabled,
        settings.bare_newline.enabled,
    ]
}

pub fn deep(settings: &ScreenSettings, test: Test) -> super::settings::Deep {
    match test {
        Test::Pipelining => settings.pipelining,
        Test::NonSmtp => settings.non_smtp,
        Test::BareNewline => settings.bare_newline,
        Test::Greet | Test::Dnsbl => settings.greet,
    }
}
