//! Milters: what a filter hears, and what its answers do to the client, the message and the log.
//!
//! Every case runs over Postfix's smtpd and cleanup, each of them with the other of ours, and both of ours. What
//! Postfix alone does is the measure; the replies that are written here must be its own.

mod cases;
mod filter;
mod sites;

use harness::{proof, skip};
use protocol::milter::{Reply, Steps, reply_code};

use filter::{Act, Filter, Script, letters};
use sites::{PAIRS, Site, masked};

/// What a client sends after the greeting.
const DIALOGUE: &[&str] = &[
    "EHLO client.example",
    "MAIL FROM:<alice@example.com> SIZE=500",
    "RCPT TO:<bob@sink.test>",
    "RCPT TO:<many@example.com> NOTIFY=NEVER",
    "DATA",
    CONTENT,
    "QUIT",
];

const CONTENT: &str = "Received: from elsewhere\r\n\tby nobody; whenever\r\nFrom: Alice <alice@example.com>\r\n\
    To: bob@sink.test\r\nSubject:nospace\r\nX-A: 1\r\nX-Two:  two\r\nX-A: 2\r\nX-Tab:\tt\r\nX-Fold:\r\n folded\r\n\
    x-a: 3\r\nX-Long: a line that is longer than a pointer record\r\n and goes on\r\n\
    Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <fixed@example.com>\r\n\r\nline one\r\n..dot\r\n\r\nlast\r\n.";

/// Where a message ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Queued,
    Held,
    Gone,
}

struct Case {
    name: String,
    service: &'static str,
    scripts: [Script; 2],
    commands: Vec<&'static str>,
    /// How Postfix's replies begin: greeting, EHLO, MAIL, …
    replies: Vec<&'static str>,
    fate: Fate,
    /// What the first filter hears, by letters.
    heard: Option<&'static str>,
}

/// What came of a case.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    replies: Vec<String>,
    heard: [Vec<String>; 2],
    queued: Vec<(String, String)>,
    log: Vec<String>,
}

fn case(name: impl Into<String>, service: &'static str) -> Case {
    Case {
        name: name.into(),
        service,
        scripts: Default::default(),
        commands: DIALOGUE.to_vec(),
        replies: Vec::new(),
        fate: Fate::Queued,
        heard: None,
    }
}

impl Case {
    /// The first filter does this at an event.
    fn on(mut self, letter: char, acts: impl IntoIterator<Item = Act>) -> Self {
        self.scripts[0].acts.insert(letter, acts.into_iter().collect());
        self
    }

    fn say(self, letter: char, reply: Reply) -> Self {
        self.on(letter, [Act::Say(reply)])
    }

    /// It makes edits at the end and accepts.
    fn edits(self, edits: impl IntoIterator<Item = Reply>) -> Self {
        let acts: Vec<Act> = edits.into_iter().chain([Reply::Accept]).map(Act::Say).collect();
        self.on('E', acts)
    }

    fn steps(mut self, steps: Steps) -> Self {
        self.scripts[0].negotiation.steps = steps;
        self
    }

    fn second(mut self, letter: char, reply: Reply) -> Self {
        self.scripts[1].acts.insert(letter, vec![Act::Say(reply)]);
        self
    }

    fn commands(mut self, commands: &[&'static str]) -> Self {
        self.commands = commands.to_vec();
        self
    }

    fn replies(mut self, replies: &[&'static str]) -> Self {
        self.replies = replies.to_vec();
        self
    }

    fn fate(mut self, fate: Fate) -> Self {
        self.fate = fate;
        self
    }

    fn heard(mut self, letters: &'static str) -> Self {
        self.heard = Some(letters);
        self
    }

    /// What Postfix does must be what the case says.
    fn judge(&self, outcome: &Outcome) -> Vec<String> {
        let mut problems = Vec::new();
        for (number, wanted) in self.replies.iter().enumerate() {
            let got = outcome.replies.get(number).map_or("", String::as_str);
            if !got.starts_with(wanted) {
                problems.push(format!("wanted reply {number} {wanted:?}, got {got:?}"));
            }
        }
        let fate = match outcome.queued.first() {
            None => Fate::Gone,
            Some((queue, _)) if queue == "hold" => Fate::Held,
            Some(_) => Fate::Queued,
        };
        if fate != self.fate {
            problems.push(format!("wanted {:?}, got {fate:?}", self.fate));
        }
        if let Some(wanted) = self.heard {
            let got = letters(&outcome.heard[0]);
            if got != wanted {
                problems.push(format!("wanted the filter to hear {wanted}, it heard {got}"));
            }
        }
        problems
    }
}

struct Rig {
    sites: [Site; 2],
    filters: [Filter; 2],
}

impl Rig {
    fn start() -> Self {
        let filters = [Filter::start(), Filter::start()];
        Self { sites: [Site::start(false, &filters), Site::start(true, &filters)], filters }
    }

    /// `lines`: how many log lines to wait for.
    fn play(&self, case: &Case, site: usize, ours: bool, lines: usize) -> Outcome {
        self.outcome(case, site, lines, |site| site.talk(case.service, ours, &case.commands))
    }

    fn outcome(
        &self,
        case: &Case,
        site: usize,
        lines: usize,
        act: impl FnOnce(&Site) -> (Vec<String>, Vec<String>),
    ) -> Outcome {
        for (filter, script) in self.filters.iter().zip(&case.scripts) {
            filter.play(script);
        }
        let site = &self.sites[site];
        let mark = site.mark();
        let (replies, ids) = act(site);
        let heard = self
            .filters
            .each_ref()
            .map(|filter| filter.heard().into_iter().map(|line| masked(&line)).collect());
        let queued = ids.iter().filter_map(|id| site.queued(id)).collect();
        Outcome { replies, heard, queued, log: site.told(&mark, lines) }
    }
}

fn run(mut cases: Vec<Case>) {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    proof::keep_concerned(&mut cases, |case, name| sites::sets(case.service, name));
    let rig = Rig::start();
    let only = std::env::var("THEORIS_CASE").unwrap_or_default();
    let mut problems = Vec::new();
    'cases: for case in cases.iter().filter(|case| case.name.contains(&only)) {
        let mut theirs = Outcome::default();
        for (number, (pair, site, ours)) in PAIRS.into_iter().enumerate() {
            let outcome = rig.play(case, site, ours, theirs.log.len());
            if number == 0 {
                let found = case.judge(&outcome);
                problems.extend(
                    found.iter().map(|found| format!("{}: {found}\n{outcome:#?}", case.name)),
                );
                theirs = outcome;
            } else if outcome != theirs {
                problems.push(difference(&format!("{}: {pair}", case.name), &theirs, &outcome));
            }
            if proof::is_found(&problems) {
                break 'cases;
            }
        }
    }
    println!("{} cases", cases.len());
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

fn difference(name: &str, theirs: &Outcome, ours: &Outcome) -> String {
    let lines = |outcome: &Outcome| -> Vec<String> {
        format!("{outcome:#?}").replace("\\n", "\n        ").lines().map(str::to_owned).collect()
    };
    let (theirs, ours) = (lines(theirs), lines(ours));
    let missing = theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("- {line}"));
    let added = ours.iter().filter(|line| !theirs.contains(line)).map(|line| format!("+ {line}"));
    let shown: Vec<String> = missing.chain(added).collect();
    if shown.is_empty() {
        return format!("{name}: another order\n{}\n{}", theirs.join("\n"), ours.join("\n"));
    }
    format!("{name}\n{}", shown.join("\n"))
}

#[test]
fn replies() {
    run(cases::replies());
}

#[test]
fn failures() {
    run(cases::failures());
}

#[test]
fn failures_at_every_stage() {
    run(cases::stages());
}

#[test]
fn impossible_edits() {
    run(cases::impossible());
}

#[test]
fn macros() {
    run(cases::macros());
}

#[test]
fn edits() {
    run(cases::edits());
}

#[test]
fn chains() {
    run(cases::chains());
}

#[test]
fn maps() {
    run(cases::maps());
}

/// `non_smtpd_milters`: cleanup plays the client for mail of the command line.
#[test]
fn submitted() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let rig = Rig::start();
    let mut problems = Vec::new();
    for case in cases::submitted() {
        let text = CONTENT.replace("\r\n", "\n").replace("\n.", "\n");
        let play = |site: usize, lines: usize| {
            rig.outcome(&case, site, lines, |site| (Vec::new(), vec![site.submit(&text)]))
        };
        let theirs = play(0, 0);
        let ours = play(1, theirs.log.len());
        let found = case.judge(&theirs);
        problems.extend(found.iter().map(|found| format!("{}: {found}\n{theirs:#?}", case.name)));
        if ours != theirs {
            problems.push(difference(&case.name, &theirs, &ours));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

fn reject() -> Reply {
    Reply::Reject
}

fn code(code: u16, text: &str) -> Reply {
    reply_code(code, "", text)
}
