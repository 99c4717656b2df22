//! The words of notices: built in, or from `bounce_template_file` (bounce(5)).
//!
//! Everything is read and expanded when the daemon starts, so a fault is told with its file and line
//! before any mail depends on it. A template with a fault is not used; the built-in one stands for it.

use std::path::Path;
use std::time::Duration;

use config::files::why;
use config::postfix::{self, View};
use config::text::Sourced;
use config::{Files, Place, Problems};
use serde::{Deserialize, Serialize};

/// What a notice is about; each has its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failure,
    Delay,
    Success,
    /// `sendmail -bv` and `-v`.
    Verify,
}

const KINDS: [Kind; 4] = [Kind::Failure, Kind::Delay, Kind::Success, Kind::Verify];

/// One template with its names expanded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub charset: String,
    pub from: String,
    pub subject: String,
    /// Of what the postmaster gets; nothing where it never gets any.
    pub postmaster_subject: Option<String>,
    pub text: Vec<String>,
    /// The file is no UTF-8: each character of the text stands for one octet.
    pub octets: bool,
}

impl Template {
    /// The lines of the text as they stand in the file.
    pub fn lines(&self) -> impl Iterator<Item = Vec<u8>> {
        self.text.iter().map(|line| match self.octets {
            true => line.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect(),
            false => line.clone().into_bytes(),
        })
    }
}

/// One for each [`Kind`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Templates([Template; 4]);

impl Templates {
    #[must_use]
    pub const fn of(&self, kind: Kind) -> &Template {
        let [failure, delay, success, verify] = &self.0;
        match kind {
            Kind::Failure => failure,
            Kind::Delay => delay,
            Kind::Success => success,
            Kind::Verify => verify,
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Delay => "delay",
            Self::Success => "success",
            Self::Verify => "verify",
        }
    }
}

/// A template as it is written: lines with their numbers.
struct Written {
    kind: Kind,
    lines: Vec<(usize, String)>,
}

/// The templates that the host's notices use.
pub fn read(view: &View<'_>, files: &dyn Files, problems: &mut Problems) -> Templates {
    let obsolete =
        view.get(postfix::HEADER_FROM_FORMAT, problems).trim().eq_ignore_ascii_case("obsolete");
    let mut words = Words { view, problems };
    let mut templates = Templates(KINDS.map(|kind| words.built_in(kind, obsolete)));
    let path = view.get(postfix::BOUNCE_TEMPLATE_FILE, words.problems);
    if path.is_empty() {
        return templates;
    }
    let content = match files.read(Path::new(&path)) {
        Ok(content) => content,
        Err(error) => {
            let place = view.place(postfix::BOUNCE_TEMPLATE_FILE);
            words.problems.error(place, format!("open {path}: {}", why(&error)));
            return templates;
        }
    };
    let file = Place::file(Path::new(&path));
    let octets = std::str::from_utf8(&content).is_err();
    let text = match String::from_utf8(content) {
        Ok(text) => text,
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    };
    for written in split(&text, &file, words.problems) {
        let own = words.template(&written, templates.of(written.kind), &file);
        if let (Some(own), Some(known)) = (own, templates.0.get_mut(written.kind as usize)) {
            *known = Template { octets, ..own };
        }
    }
    templates
}

/// Divides a file into its `name = <<EOF` … `EOF`.
fn split(text: &str, file: &Place, problems: &mut Problems) -> Vec<Written> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        let place = file.at_line(number);
        let line = line.trim_ascii_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            problems
                .error(place, format!("missing '=' after attribute name: \"{line}\""))
                .instead("write failure_template = <<EOF, the text, and a line EOF");
            return found;
        };
        let (name, value) = (name.trim_ascii(), value.trim_ascii());
        let mut body = vec![(number, value.to_owned())];
        if let Some(end) = value.strip_prefix("<<") {
            let end = end.trim_ascii_start();
            if !end.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                let what = if end.is_empty() { "missing" } else { "malformed" };
                problems
                    .error(place, format!("{what} end marker after <<"))
                    .instead("write <<EOF, and a line EOF after the text");
                return found;
            }
            body.clear();
            let mut closed = false;
            for (number, line) in lines.by_ref() {
                if line == end {
                    closed = true;
                    break;
                }
                body.push((number, line.to_owned()));
            }
            if !closed {
                problems.warning(place.clone(), format!("missing \"{end}\" end marker"));
            }
        }
        let kind = name.strip_suffix("_template").unwrap_or_default();
        match KINDS.into_iter().find(|known| known.name() == kind) {
            Some(kind) => found.push(Written { kind, lines: body }),
            None => {
                let what = format!("unknown template name: {name} -- ignoring this template");
                problems.warning(place, what).instead(
                    "write failure_template, delay_template, success_template or verify_template",
                );
            }
        }
    }
    found
}

struct Words<'v, 'p> {
    view: &'v View<'v>,
    problems: &'p mut Problems,
}

impl Words<'_, '_> {
    fn built_in(&mut self, kind: Kind, obsolete: bool) -> Template {
        let (subject, postmaster) = match kind {
            Kind::Failure => {
                ("Undelivered Mail Returned to Sender", Some("Postmaster Copy: Undelivered Mail"))
            }
            Kind::Delay => {
                ("Delayed Mail (still being retried)", Some("Postmaster Warning: Delayed Mail"))
            }
            Kind::Success => ("Successful Mail Delivery Report", None),
            Kind::Verify => ("Mail Delivery Status Report", None),
        };
        let lines = text(kind);
        Template {
            charset: "us-ascii".into(),
            // Without a domain: cleanup completes it as it completes any other.
            from: match obsolete {
                true => "MAILER-DAEMON (Mail Delivery System)".into(),
                false => "Mail Delivery System <MAILER-DAEMON>".into(),
            },
            subject: subject.into(),
            postmaster_subject: postmaster.map(str::to_owned),
            text: lines.lines().filter_map(|line| self.expanded(kind, line, None)).collect(),
            octets: false,
        }
    }

    /// Reads one template; nothing if it is at fault.
    fn template(&mut self, written: &Written, known: &Template, file: &Place) -> Option<Template> {
        let mut own = known.clone();
        let mut lines = written.lines.iter();
        let name = written.kind.name();
        let mut first = None;
        for (number, line) in lines.by_ref() {
            let Some((label, value)) = header(line) else {
                first = Some((*number, line));
                break;
            };
            let value = value.trim_ascii_start();
            let lower = label.to_ascii_lowercase();
            let fault = if value.is_empty() {
                Some(format!("empty \"{label}\" header value in {name} template"))
            } else if !value.is_ascii() {
                Some(format!("non-ASCII \"{label}\" header value in {name} template"))
            } else if lower == "postmaster-subject" && own.postmaster_subject.is_none() {
                Some(format!("inapplicable \"{label}\" header label in {name} template"))
            } else {
                let field = match lower.as_str() {
                    "charset" => Some(&mut own.charset),
                    "from" => Some(&mut own.from),
                    "subject" => Some(&mut own.subject),
                    "postmaster-subject" => own.postmaster_subject.as_mut(),
                    _ => None,
                };
                match field {
                    Some(field) => {
                        value.clone_into(field);
                        None
                    }
                    None => Some(format!("unknown \"{label}\" header label in {name} template")),
                }
            };
            if let Some(fault) = fault {
                return self.ignore(file.at_line(*number), &fault);
            }
        }
        let text: Vec<(usize, &String)> = first
            .into_iter()
            .chain(lines.map(|(number, line)| (*number, line)))
            .skip_while(|(_, line)| line.trim_ascii().is_empty())
            .collect();
        if text.is_empty() {
            let at = written.lines.first().map_or(0, |(number, _)| *number);
            return self
                .ignore(file.at_line(at), &format!("missing message text in {name} template"));
        }
        let foreign = text.iter().find(|(_, line)| !line.is_ascii());
        if let Some((number, _)) = foreign
            && own.charset.eq_ignore_ascii_case("us-ascii")
        {
            let fault = format!("8-bit message text in {name} template");
            self.ignore(file.at_line(*number), &fault);
            return None;
        }
        own.text.clear();
        for (number, line) in text {
            own.text.push(self.expanded(written.kind, line, Some(file.at_line(number)))?);
        }
        Some(own)
    }

    fn ignore(&mut self, place: Place, fault: &str) -> Option<Template> {
        self.problems.warning(place, format!("{fault} -- ignoring this template"));
        None
    }

    /// One line with its names expanded; nothing, and a problem, if that cannot be.
    fn expanded(&mut self, kind: Kind, line: &str, place: Option<Place>) -> Option<String> {
        let line = self.with_times(kind, line, place.as_ref())?;
        let text = match &place {
            Some(place) => Sourced::new(line, place),
            None => Sourced::built_in(line),
        };
        match self.view.expand(&text) {
            Ok(text) => Some(text.as_str().to_owned()),
            Err(error) => {
                let name = kind.name();
                self.problems
                    .error(place, format!("bad $name syntax in {name} template: {error}"))
                    .instead(error.instead());
                None
            }
        }
    }

    /// Puts the values of `$delay_warning_time_hours` and its like in, and looks whether all other
    /// names mean something.
    fn with_times(&mut self, kind: Kind, line: &str, place: Option<&Place>) -> Option<String> {
        let mut out = String::new();
        let mut rest = line;
        while let Some(at) = rest.find('$') {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let open = after[1..].trim_start_matches(['{', '(']);
            let opened = after.len() - open.len();
            let length =
                open.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(open.len());
            let (name, after_name) = open.split_at(length);
            if let Some(after) = after.strip_prefix("$$") {
                out.push_str("$$");
                rest = after;
                continue;
            }
            if let Some(value) = self.time(kind, name, place)? {
                out.push_str(&value);
                rest = match opened {
                    1 => after_name,
                    _ => after_name.strip_prefix(['}', ')']).unwrap_or(after_name),
                };
                continue;
            }
            let tested = after_name.trim_start().starts_with(['?', ':']) && opened > 1;
            if !name.is_empty() && !tested && self.view.text(name, self.problems).is_none() {
                let kind = kind.name();
                self.problems
                    .error(place.cloned(), format!("undefined $name in {kind} template: {name}"))
                    .instead("write the name of a setting, or $$ for a dollar sign");
                return None;
            }
            out.push_str(&after[..opened + length]);
            rest = after_name;
        }
        out.push_str(rest);
        Some(out)
    }

    /// The value of a name such as `maximal_queue_lifetime_days`; `None`, a fault, stops the line;
    /// `Some(None)` is no such name.
    fn time(&mut self, kind: Kind, name: &str, place: Option<&Place>) -> Option<Option<String>> {
        let view = self.view;
        let (setting, unit, time, at) = if let Some(unit) = name.strip_prefix("delay_warning_time_")
        {
            let time = view.get(postfix::DELAY_WARNING_TIME, self.problems);
            ("delay_warning_time", unit, time, view.place(postfix::DELAY_WARNING_TIME))
        } else if let Some(unit) = name.strip_prefix("maximal_queue_lifetime_") {
            let time = view.get(postfix::MAXIMAL_QUEUE_LIFETIME, self.problems);
            ("maximal_queue_lifetime", unit, time, view.place(postfix::MAXIMAL_QUEUE_LIFETIME))
        } else {
            return Some(None);
        };
        let place = place.cloned().or(at);
        let Some(divisor) = seconds_in(unit) else {
            self.problems
                .error(place, format!("unrecognized suffix \"{unit}\" in parameter \"{name}\""))
                .instead(format!("write ${setting}_hours, or _seconds, _minutes, _days, _weeks"));
            return None;
        };
        let value = time.as_secs() / divisor;
        let template = kind.name();
        if value > 999 && divisor < 86_400 {
            let what = format!(
                "excessive result \"{value}\" in {template} template conversion of parameter \"{name}\""
            );
            self.problems.warning(place, what).instead("use a larger unit of time");
        } else if value == 0 && time > Duration::ZERO && divisor > 1 {
            let what =
                format!("zero result in {template} template conversion of parameter \"{name}\"");
            self.problems.warning(place, what).instead("use a smaller unit of time");
        }
        Some(Some(value.to_string()))
    }
}

fn seconds_in(unit: &str) -> Option<u64> {
    match unit {
        "seconds" => Some(1),
        "minutes" => Some(60),
        "hours" => Some(3_600),
        "days" => Some(86_400),
        "weeks" => Some(604_800),
        _ => None,
    }
}

/// `Label: value`, if the line is a header line.
fn header(line: &str) -> Option<(&str, &str)> {
    let (label, value) = line.split_once(':')?;
    let label = label.trim_end_matches([' ', '\t']);
    let plain = !label.is_empty() && label.bytes().all(|octet| octet.is_ascii_graphic());
    plain.then_some((label, value))
}

const fn text(kind: Kind) -> &'static str {
    match kind {
        Kind::Failure => {
            "This is the mail system at host $myhostname.\n\n\
             I'm sorry to have to inform you that your message could not\n\
             be delivered to one or more recipients. It's attached below.\n\n\
             For further assistance, please send mail to postmaster.\n\n\
             If you do so, please include this problem report. You can\n\
             delete your own text from the attached returned message.\n\n\
             \x20                  The mail system\n"
        }
        Kind::Delay => {
            "This is the mail system at host $myhostname.\n\n\
             ####################################################################\n\
             # THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #\n\
             ####################################################################\n\n\
             Your message could not be delivered for more than $delay_warning_time_hours hour(s).\n\
             It will be retried until it is $maximal_queue_lifetime_days day(s) old.\n\n\
             For further assistance, please send mail to postmaster.\n\n\
             If you do so, please include this problem report. You can\n\
             delete your own text from the attached returned message.\n\n\
             \x20                  The mail system\n"
        }
        Kind::Success => {
            "This is the mail system at host $myhostname.\n\n\
             Your message was successfully delivered to the destination(s)\n\
             listed below. If the message was delivered to mailbox you will\n\
             receive no further notifications. Otherwise you may still receive\n\
             notifications of mail delivery errors from other systems.\n\n\
             \x20                  The mail system\n"
        }
        Kind::Verify => {
            "This is the mail system at host $myhostname.\n\n\
             Enclosed is the mail delivery report that you requested.\n\n\
             \x20                  The mail system\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;
    use config::postfix::Host;

    fn templates(main: &str, file: &str) -> (Templates, Vec<String>) {
        let main =
            format!("myhostname = m.example.com\n{main}bounce_template_file = /p/bounce.cf\n");
        let files = Memory::with([
            ("/p/main.cf", main.as_str()),
            ("/p/master.cf", "bounce unix - - n - - bounce\n"),
            ("/p/bounce.cf", file),
        ]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let mut problems = Problems::default();
        let read = read(&host.main(), &files, &mut problems);
        (read, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_template_of_the_host_stands_in_the_place_of_ours() {
        let file = "# mine\n\nfailure_template = <<END\nCharset: utf-8\nfrom: \"Post\" <post@x>\n\
                    SUBJECT: Sorry\n\n$$5 at ${myhostname}: $maximal_queue_lifetime_minutes\n\nb\u{e4}d\nEND\n";
        let (read, told) = templates("maximal_queue_lifetime = 10m\n", file);
        let failure = read.of(Kind::Failure);
        assert_eq!(failure.text, ["$5 at m.example.com: 10", "", "b\u{e4}d"]);
        assert_eq!(failure.charset, "utf-8");
        assert_eq!(
            (failure.from.as_str(), failure.subject.as_str()),
            ("\"Post\" <post@x>", "Sorry")
        );
        assert_eq!(
            failure.postmaster_subject.as_deref(),
            Some("Postmaster Copy: Undelivered Mail")
        );
        assert_eq!(read.of(Kind::Verify).subject, "Mail Delivery Status Report");
        assert_eq!(told.len(), 1, "{told:?}"); // ten minutes are no day for the built-in delay notice
    }

    #[test]
    fn faults_are_told_with_their_lines_and_the_built_in_text_stays() {
        let wrap = |text: &str| format!("delay_template = <<EOF\n{text}\nEOF\n");
        for (file, fault) in [
            (
                wrap("Subject:\n\ntext"),
                "/p/bounce.cf:2: empty \"Subject\" header value in delay template",
            ),
            (wrap("From: \u{e4}\n\ntext"), "/p/bounce.cf:2: non-ASCII \"From\" header value"),
            (
                wrap("X-Y: z\n\ntext"),
                "/p/bounce.cf:2: unknown \"X-Y\" header label in delay template",
            ),
            (wrap("Subject: x\n"), "/p/bounce.cf:2: missing message text in delay template"),
            (
                wrap("Subject: x\n\nt\n\u{e4}"),
                "/p/bounce.cf:5: 8-bit message text in delay template",
            ),
            (wrap("a\n$nosuch b"), "/p/bounce.cf:3: undefined $name in delay template: nosuch"),
            (wrap("${myhostname"), "/p/bounce.cf:2: bad $name syntax in delay template"),
            (wrap("$delay_warning_time_years"), "/p/bounce.cf:2: unrecognized suffix \"years\""),
            (
                wrap("$maximal_queue_lifetime_seconds"),
                "/p/bounce.cf:2: excessive result \"432000\"",
            ),
            (
                "other_template = <<EOF\nx\nEOF\n".into(),
                "/p/bounce.cf:1: unknown template name: other_template",
            ),
            ("delay_template = <<EOF\nx\n".into(), "/p/bounce.cf:1: missing \"EOF\" end marker"),
            ("delay_template = <<\nx\n".into(), "/p/bounce.cf:1: missing end marker after <<"),
            ("delay_template = <<'E'\nx\n".into(), "/p/bounce.cf:1: malformed end marker after <<"),
            ("nonsense\n".into(), "/p/bounce.cf:1: missing '=' after attribute name"),
            (
                "success_template = <<EOF\nPostmaster-Subject: x\n\ny\nEOF\n".into(),
                "/p/bounce.cf:2: inapplicable \"Postmaster-Subject\" header label in success template",
            ),
        ] {
            let (_, told) = templates("", &file);
            assert!(
                told.iter().any(|line| line.replace(": warning: ", ": ").starts_with(fault)),
                "{file}\n{told:?}"
            );
        }
        let (read, _) = templates("", &wrap("X-Y: z\n\ntext"));
        assert_eq!(read.of(Kind::Delay).text.len(), 15);
    }

    #[test]
    fn a_template_file_that_is_not_there_is_told_at_its_setting() {
        let files = Memory::with([
            ("/p/main.cf", "mydomain = x\nbounce_template_file = /p/none\n"),
            ("/p/master.cf", ""),
        ]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        read(&host.main(), &files, &mut problems);
        let told: Vec<_> = problems.errors().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("/p/main.cf:2: open /p/none: "), "{told:?}");
    }
}
