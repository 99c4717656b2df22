//! What a pipe(8) service obeys: the attributes behind the command in master.cf.

use std::time::Duration;

use config::postfix::{self, Argument, Host, Service, View};
use config::{Place, Problems};
use daemon::Account;
use daemon::privileges::{group, is_root};
use serde::{Deserialize, Serialize};

use crate::agent::settings::environment;

/// One pipe service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PipeSettings {
    pub uid: u32,
    pub gid: u32,
    pub argv: Vec<String>,
    pub directory: String,
    pub environment: Vec<(String, String)>,
    pub time_limit: Duration,
    pub eol: String,
    pub null_sender: String,
    /// Octets; 0 is no limit.
    pub size_limit: i64,
    // flags=
    /// `B`
    pub blank: bool,
    /// `D`
    pub delivered_to: bool,
    /// `F`
    pub from_line: bool,
    /// `O`
    pub original_to: bool,
    /// `R`
    pub return_path: bool,
    /// `X`
    pub is_final: bool,
    /// `.`
    pub dot: bool,
    /// `>`
    pub quote: bool,
    /// `h`
    pub fold_host: bool,
    /// `u`
    pub fold_user: bool,
    /// `q`
    pub quote_addresses: bool,
}

impl PipeSettings {
    /// `None` for a service that cannot be served; the problem says why. A user that there is not is
    /// no error: Debian's master.cf comes with services for programs that are not installed.
    pub fn read(
        host: &Host,
        service: &Service,
        view: &View<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut settings = Self {
            eol: "\n".to_owned(),
            null_sender: "MAILER-DAEMON".to_owned(),
            environment: environment(host, view, problems),
            time_limit: time_limit(host, service, view, problems),
            ..Self::default()
        };
        let mut user = None;
        let mut operands = service.operands.iter();
        while let Some(operand) = operands.next() {
            let Some((name, value)) = operand.as_str().split_once('=') else {
                let text = format!("pipe: unknown attribute name: {}", operand.as_str());
                problems.error(operand.at.clone(), text);
                return None;
            };
            match name.to_ascii_lowercase().as_str() {
                "flags" => settings.flags(value, operand, problems),
                "user" => user = Some((value, operand.at.clone())),
                "directory" => value.clone_into(&mut settings.directory),
                "eol" => settings.eol = unescaped(value),
                "null_sender" => value.clone_into(&mut settings.null_sender),
                "size" => settings.size_limit = size(value, operand, problems),
                "argv" => {
                    settings.argv.push(value.to_owned());
                    settings.argv.extend(operands.by_ref().map(|word| word.as_str().to_owned()));
                }
                other => {
                    let text = match other {
                        "chroot" => "pipe: chroot= is not supported".to_owned(),
                        other => format!("pipe: unknown attribute name: {other}"),
                    };
                    problems.error(operand.at.clone(), text);
                    return None;
                }
            }
        }
        let place = service.operands.first().and_then(|word| word.at.clone());
        let Some((user, at)) = user else {
            problems.error(place, "pipe: missing user= attribute");
            return None;
        };
        if settings.argv.is_empty() {
            problems.error(place, "pipe: missing argv= attribute");
            return None;
        }
        let owner = host.main().get(postfix::MAIL_OWNER, problems);
        settings.become_user(user, &owner, at, problems).then_some(settings)
    }

    fn flags(&mut self, flags: &str, operand: &Argument, problems: &mut Problems) {
        for flag in flags.chars() {
            match flag {
                'B' => self.blank = true,
                'D' => self.delivered_to = true,
                'F' => self.from_line = true,
                'O' => self.original_to = true,
                'R' => self.return_path = true,
                'X' => self.is_final = true,
                '.' => self.dot = true,
                '>' => self.quote = true,
                'h' => self.fold_host = true,
                'u' => self.fold_user = true,
                'q' => self.quote_addresses = true,
                other => {
                    problems.error(operand.at.clone(), format!("pipe: unknown flag: {other}"));
                }
            }
        }
    }

    /// Whether the command can be run as `user[:group]`.
    fn become_user(
        &mut self,
        text: &str,
        owner: &str,
        at: Option<Place>,
        problems: &mut Problems,
    ) -> bool {
        let (user, named) = text.split_once(':').unwrap_or((text, ""));
        let account = match Account::named(user) {
            Ok(account) => account,
            Err(why) => {
                problems
                    .warning(at, format!("pipe: user={text}: {why}: the service is not served"));
                return false;
            }
        };
        (self.uid, self.gid) = (account.uid, account.gid);
        if !named.is_empty() {
            match group(named) {
                Ok(number) => self.gid = number,
                Err(why) => {
                    problems.warning(
                        at,
                        format!("pipe: user={text}: {why}: the service is not served"),
                    );
                    return false;
                }
            }
        }
        if !is_root() {
            return true;
        }
        let owner = Account::named(owner).ok();
        let owns = |of: fn(&Account) -> u32, id: u32| owner.as_ref().is_some_and(|o| of(o) == id);
        let fault = match (self.uid, self.gid) {
            (0, _) => "specifies root privileges",
            (_, 0) => "specifies privileged group id 0",
            (uid, gid) if owns(|o| o.uid, uid) || owns(|o| o.gid, gid) => {
                "specifies mail system owner"
            }
            _ => return true,
        };
        problems.error(at, format!("pipe: user={text} {fault}"));
        false
    }
}

/// `<service>_time_limit`, else `command_time_limit`.
fn time_limit(
    host: &Host,
    service: &Service,
    view: &View<'_>,
    problems: &mut Problems,
) -> Duration {
    let own = format!("{}_time_limit", service.name);
    let general = view.get(postfix::COMMAND_TIME_LIMIT, problems);
    let Some(text) = host.main().text(&own, problems) else { return general };
    let text = text.as_str();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => 0,
    };
    match digits.parse::<u64>() {
        Ok(number) if unit > 0 => Duration::from_secs(number.saturating_mul(unit)),
        _ => {
            let place = host.main().written(&own).and_then(|raw| raw.place().cloned());
            problems.error(place, format!("{own}: bad time value: {text}"));
            general
        }
    }
}

fn size(value: &str, operand: &Argument, problems: &mut Problems) -> i64 {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match value[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => -1,
    };
    match digits.parse::<i64>() {
        Ok(number) if number >= 0 && factor > 0 => number.saturating_mul(factor),
        _ => {
            problems.error(operand.at.clone(), format!("pipe: bad size= value: {value}"));
            0
        }
    }
}

/// Backslash and a letter, or up to three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(digit @ '0'..='7') => {
                let mut value = digit.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(next) = rest.peek().and_then(|c| c.to_digit(8)) else { break };
                    value = value * 8 + next;
                    rest.next();
                }
                out.extend(char::from_u32(value & 0xff));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_unescaped() {
        assert_eq!(unescaped("\\r\\n"), "\r\n");
        assert_eq!(unescaped("\\012x\\\\"), "\nx\\");
    }
}
