//! The report for people.

use std::fmt::Write as _;

use config::inventory::Meaning;

use super::report::{Finding, Level, PlankReport, Product, Report, Setting, State};
use crate::command::shown::{Paint, Tone, escaped};

/// The whole text. `all` shows also the settings that are obeyed.
pub fn text(report: &Report, paint: Paint, all: bool) -> String {
    let mut page = Page { text: String::new(), paint };
    page.line(&format!(
        "theoris {} looks at {}, {}",
        report.version,
        escaped(&report.host),
        escaped(&report.system)
    ));
    page.heading("Files");
    report.products.iter().for_each(|product| page.product(product));
    page.heading("Planks");
    report.planks.iter().for_each(|plank| page.plank(plank));
    let of = |level: Level| report.findings.iter().filter(move |one| one.level == level);
    page.findings("What stands in the way", of(Level::Critical));
    page.findings(
        "To know before adopting",
        report.findings.iter().filter(|one| one.level != Level::Critical),
    );
    page.findings("What is wrong with the host, whoever serves it", report.mistakes.iter());
    for (heading, meanings) in [
        ("Settings that are refused", &[Meaning::Refused][..]),
        ("Settings that are not obeyed", &[Meaning::Ignored]),
        ("Settings that differ", &[Meaning::Differs]),
        ("Settings that nothing reads", &[Meaning::Unknown]),
        ("Settings that are harmless", &[Meaning::Harmless]),
        ("Settings that are not obeyed and have their default", &[Meaning::Default]),
        ("Settings that are obeyed", &[Meaning::Obeyed]),
    ] {
        let quiet = matches!(meanings, [Meaning::Obeyed | Meaning::Default]);
        if all || !quiet {
            let of = |setting: &&Setting| meanings.contains(&setting.meaning);
            page.settings(heading, &report.settings.iter().filter(of).collect::<Vec<_>>());
        }
    }
    page.text
}

/// A finding with its place, and below it how to mend it.
pub fn finding(finding: &Finding, paint: Paint) -> String {
    let (tone, word) = match finding.level {
        Level::Critical => (Tone::Bad, "critical"),
        Level::Warning => (Tone::Warning, "warning"),
        Level::Note => (Tone::Quiet, "note"),
    };
    let word = paint.tone(tone, &format!("{word:<9}"));
    let planks: Vec<&str> = finding.planks.iter().map(|plank| plank.name()).collect();
    let planks = match planks.len() {
        0 | 8 => String::new(),
        _ => format!(" ({})", planks.join(", ")),
    };
    let place = finding.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
    let line = format!("{place}{}", finding.text);
    let mut text = format!("  {word} {}{planks}\n", escaped(&line));
    if let Some(mend) = &finding.mend {
        text.push_str(&format!("            {}\n", escaped(mend)));
    }
    text
}

struct Page {
    text: String,
    paint: Paint,
}

impl Page {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}", line.trim_end());
    }

    fn heading(&mut self, heading: &str) {
        let heading = self.paint.tone(Tone::Heading, heading);
        self.line("");
        self.line(&heading);
    }

    fn product(&mut self, product: &Product) {
        let version = product.version.as_deref().unwrap_or_default();
        let name = format!("{} {}", product.name, escaped(version));
        let path = escaped(&product.path);
        let counted = &product.coverage;
        if !product.installed {
            let text = self.paint.tone(Tone::Quiet, &format!("not installed: {path} is not there"));
            return self.line(&format!("  {name:<18} {text}"));
        }
        let mut parts = Vec::new();
        for (count, what) in [
            (counted.obeyed, "obeyed"),
            (counted.differ, "differ"),
            (counted.harmless, "harmless"),
            (counted.not_obeyed, "not obeyed"),
            (counted.refused, "refused"),
            (counted.unknown, "read by nothing"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let tone = if counted.percent == 100 { Tone::Good } else { Tone::Warning };
        let percent = self.paint.tone(tone, &format!("{:>3} %", counted.percent));
        self.line(&format!(
            "  {name:<18} {percent} of {} settings hold: {}  {path}",
            counted.settings,
            parts.join(", ")
        ));
    }

    fn plank(&mut self, plank: &PlankReport) {
        let (tone, word) = match (plank.state, plank.warnings) {
            (State::Ours, _) => (Tone::Good, "ours"),
            (State::Ready, 0) => (Tone::Good, "ready"),
            (State::Ready, _) => (Tone::Warning, "ready"),
            (State::Blocked, _) => (Tone::Bad, "blocked"),
            (State::Unchecked, _) => (Tone::Warning, "unchecked"),
            (State::Absent, _) => (Tone::Quiet, "absent"),
        };
        let mut counted = Vec::new();
        for (count, one, many) in
            [(plank.obstacles, "obstacle", "obstacles"), (plank.warnings, "warning", "warnings")]
        {
            match count {
                0 => {}
                1 => counted.push(format!("1 {one}")),
                count => counted.push(format!("{count} {many}")),
            }
        }
        let counted = counted.join(", ");
        let word = self.paint.tone(tone, &format!("{word:<10}"));
        self.line(&format!("  {:<10}{word}{counted:<25} {}", plank.plank, escaped(&plank.what)));
    }

    fn findings<'f>(&mut self, heading: &str, findings: impl Iterator<Item = &'f Finding>) {
        let mut findings = findings.peekable();
        if findings.peek().is_none() {
            return;
        }
        self.heading(heading);
        for finding in findings {
            self.text.push_str(&self::finding(finding, self.paint));
        }
    }

    fn settings(&mut self, heading: &str, settings: &[&Setting]) {
        if settings.is_empty() {
            return;
        }
        self.heading(heading);
        let shown: Vec<(String, String)> = settings
            .iter()
            .map(|setting| {
                let of = if setting.of.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", setting.of)
                };
                (escaped(&setting.place.to_string()), escaped(&format!("{}{of}", setting.name)))
            })
            .collect();
        let width = |text: fn(&(String, String)) -> &String, most: usize| {
            shown.iter().map(|pair| text(pair).chars().count()).max().unwrap_or(0).min(most)
        };
        let (place, name) = (width(|pair| &pair.0, 44), width(|pair| &pair.1, 40));
        for (setting, (at, what)) in settings.iter().zip(&shown) {
            self.line(&format!("  {at:<place$}  {what:<name$}  {}", escaped(&setting.sentence)));
        }
    }
}
