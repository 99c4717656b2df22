//! `smtpd_milters`, `non_smtpd_milters` and the `milter_*` settings as values.

use std::time::Duration;

use config::Problems;
use config::postfix::kind::Kind;
use config::postfix::{self, View};
use config::register::Setting;
use protocol::milter::{Negotiation, Steps};
use protocol::postfix::milter::MacroLists;
use serde::{Deserialize, Serialize};

/// The filters of a session and what they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub filters: Vec<FilterSettings>,
    #[serde(with = "Lists")]
    pub macros: MacroLists,
    /// `milter_macro_defaults`: names with braces.
    pub defaults: Vec<(String, String)>,
}

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSettings {
    /// `inet:host:port`, `unix:path`, `local:path`.
    pub name: String,
    pub connect_timeout: Duration,
    pub command_timeout: Duration,
    pub content_timeout: Duration,
    /// `milter_protocol`.
    pub protocol: String,
    pub default_action: DefaultAction,
}

/// What happens when a filter cannot be talked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    Accept,
    Reject,
    #[default]
    Tempfail,
    Quarantine,
    Shutdown,
}

impl DefaultAction {
    /// Takes the words of main.cf in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Accept, Self::Reject, Self::Tempfail, Self::Quarantine, Self::Shutdown];
        all.into_iter().find(|action| action.name().eq_ignore_ascii_case(word))
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Tempfail => "tempfail",
            Self::Quarantine => "quarantine",
            Self::Shutdown => "shutdown",
        }
    }
}

/// serde's view of the protocol crate's type.
#[derive(Serialize, Deserialize)]
#[serde(remote = "MacroLists")]
struct Lists {
    connect: String,
    helo: String,
    mail: String,
    rcpt: String,
    data: String,
    end_of_header: String,
    end_of_data: String,
    unknown: String,
}

/// The `milter_*` settings as main.cf has them, macros expanded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Texts {
    pub connect_timeout: Duration,
    pub command_timeout: Duration,
    pub content_timeout: Duration,
    pub protocol: String,
    pub default_action: String,
    #[serde(with = "Lists")]
    pub macros: MacroLists,
    pub macro_defaults: String,
}

impl Texts {
    /// Reads the `milter_*` settings.
    pub fn read(view: &View<'_>, problems: &mut Problems) -> Self {
        Self {
            connect_timeout: view.get(postfix::MILTER_CONNECT_TIMEOUT, problems),
            command_timeout: view.get(postfix::MILTER_COMMAND_TIMEOUT, problems),
            content_timeout: view.get(postfix::MILTER_CONTENT_TIMEOUT, problems),
            protocol: view.get(postfix::MILTER_PROTOCOL, problems),
            default_action: view.get(postfix::MILTER_DEFAULT_ACTION, problems),
            macros: MacroLists {
                connect: view.get(postfix::MILTER_CONNECT_MACROS, problems),
                helo: view.get(postfix::MILTER_HELO_MACROS, problems),
                mail: view.get(postfix::MILTER_MAIL_MACROS, problems),
                rcpt: view.get(postfix::MILTER_RCPT_MACROS, problems),
                data: view.get(postfix::MILTER_DATA_MACROS, problems),
                end_of_header: view.get(postfix::MILTER_END_OF_HEADER_MACROS, problems),
                end_of_data: view.get(postfix::MILTER_END_OF_DATA_MACROS, problems),
                unknown: view.get(postfix::MILTER_UNKNOWN_COMMAND_MACROS, problems),
            },
            macro_defaults: view.get(postfix::MILTER_MACRO_DEFAULTS, problems),
        }
    }

    /// The filters that `list`, such as `smtpd_milters`, names; with a mistake in it there are none, and a problem.
    pub fn listed<K: Kind<Value = String>>(
        &self,
        view: &View<'_>,
        list: Setting<K>,
        problems: &mut Problems,
    ) -> Settings {
        let settings = self.settings(&view.get(list, problems));
        settings.unwrap_or_else(|problem| {
            problems
                .error(view.place(list), format!("{}: {problem}", list.name()))
                .instead(format!("{} = inet:localhost:8891", list.name()));
            Settings::default()
        })
    }

    /// Reads a list of filters, such as `inet:host:port, { unix:path, default_action=accept }`. `DISABLE` and nothing
    /// are no filters.
    ///
    /// # Errors
    ///
    /// What is wrong, for the administrator.
    pub fn settings(&self, names: &str) -> Result<Settings, String> {
        let defaults = defaults(&self.macro_defaults)?;
        let settings = Settings { filters: Vec::new(), macros: self.macros.clone(), defaults };
        if names.trim().eq_ignore_ascii_case("DISABLE") {
            return Ok(settings);
        }
        let filters =
            words(names)?.into_iter().map(|word| self.filter(&word)).collect::<Result<_, _>>()?;
        Ok(Settings { filters, ..settings })
    }

    fn filter(&self, word: &str) -> Result<FilterSettings, String> {
        let inner = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        let mut parts = words(inner.unwrap_or(word))?.into_iter();
        let name = parts.next().ok_or_else(|| format!("empty milter definition: {word:?}"))?;
        let mut filter = FilterSettings {
            name,
            connect_timeout: self.connect_timeout,
            command_timeout: self.command_timeout,
            content_timeout: self.content_timeout,
            protocol: self.protocol.clone(),
            default_action: action(&self.default_action)?,
        };
        for part in parts {
            let bare = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let (name, value) = bare
                .unwrap_or(&part)
                .split_once('=')
                .map(|(name, value)| (name.trim(), value.trim()))
                .ok_or_else(|| format!("missing \"=\" after attribute name: {part:?}"))?;
            match name {
                "connect_timeout" => filter.connect_timeout = time(value)?,
                "command_timeout" => filter.command_timeout = time(value)?,
                "content_timeout" => filter.content_timeout = time(value)?,
                "protocol" => value.clone_into(&mut filter.protocol),
                "default_action" => filter.default_action = action(value)?,
                _ => return Err(format!("unknown attribute name: {name:?} in {word:?}")),
            }
        }
        offer(&filter.protocol)?;
        check_endpoint(&filter.name)?;
        Ok(filter)
    }
}

fn check_endpoint(name: &str) -> Result<(), String> {
    match name.split_once(':') {
        Some(("inet" | "unix" | "local", endpoint)) if !endpoint.is_empty() => Ok(()),
        Some((transport, endpoint)) if !transport.is_empty() && !endpoint.is_empty() => {
            Err(format!("invalid transport name: {transport} in Milter service: {name}"))
        }
        _ => Err(format!("Milter service needs transport:endpoint instead of \"{name}\"")),
    }
}

fn action(word: &str) -> Result<DefaultAction, String> {
    DefaultAction::parse(word).ok_or_else(|| format!("unrecognized default action: {word}"))
}

/// `30s`, `5m`, `1h`, `1d`, `1w`; a number alone is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("bad time value: {text:?}");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        "w" => 604_800,
        _ => return Err(bad()),
    };
    let seconds = number.parse::<u32>().map_err(|_| bad())?;
    match u64::from(seconds) * factor {
        0 => Err(bad()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// The first message of ours for this `milter_protocol`: a version, and perhaps `no_header_reply`.
pub(super) fn offer(protocol: &str) -> Result<Negotiation, String> {
    let bad = |word: &str| format!("bad protocol information: {word}");
    let mut offer = None;
    let mut more = Steps::default();
    for word in words(protocol)? {
        match (word.as_str(), &offer) {
            ("no_header_reply", _) => more = Steps::SILENT_HEADERS,
            (number, None) => {
                let version = number.parse().map_err(|_| bad(number))?;
                offer = Some(Negotiation::offer(version).ok_or_else(|| bad(number))?);
            }
            (other, Some(_)) => return Err(bad(other)),
        }
    }
    let mut offer = offer.ok_or("no protocol version information")?;
    offer.steps = offer.steps | more;
    Ok(offer)
}

/// `name=value`, `{name}=value` or `{ name = value }` each.
fn defaults(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut list: Vec<(String, String)> = Vec::new();
    for word in words(text)? {
        let inner = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        let pair = inner.filter(|inner| inner.contains('=')).unwrap_or(&word);
        let (name, value) = pair
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("malformed default macro entry: {word:?}"))?;
        let name = if name.starts_with('{') { name.to_owned() } else { format!("{{{name}}}") };
        if !list.iter().any(|(known, _)| *known == name) {
            list.push((name, value.to_owned()));
        }
    }
    Ok(list)
}

/// Words between commas and white space; braces keep what is inside together.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut list = Vec::new();
    let (mut word, mut depth) = (String::new(), 0_usize);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth =
                    depth.checked_sub(1).ok_or_else(|| format!("unexpected '}}' in {text:?}"))?
            }
            ' ' | ',' | '\t' | '\r' | '\n' if depth == 0 => {
                if !word.is_empty() {
                    list.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if depth > 0 {
        return Err(format!("missing '}}' in {text:?}"));
    }
    if !word.is_empty() {
        list.push(word);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        Texts {
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(30),
            content_timeout: Duration::from_secs(300),
            protocol: "6".into(),
            default_action: "tempfail".into(),
            macros: MacroLists::default(),
            macro_defaults: "a=1, {b}=2, { c = 3 4 }".into(),
        }
    }

    #[test]
    fn filters_have_settings_of_their_own() {
        let list = "inet:localhost:8891 { unix:/run/x, connect_timeout=10s, default_action = accept, \
            { command_timeout = 2m }, content_timeout=1h, protocol=4 }";
        // A blank around "=" needs braces, as in Postfix.
        assert!(texts().settings(list).is_err());
        let settings = texts().settings(&list.replace(" = accept", "=accept")).unwrap();
        let [first, second] = &settings.filters[..] else { panic!("{settings:?}") };
        assert_eq!(
            (first.name.as_str(), first.default_action),
            ("inet:localhost:8891", DefaultAction::Tempfail)
        );
        assert_eq!(
            (second.name.as_str(), second.default_action),
            ("unix:/run/x", DefaultAction::Accept)
        );
        assert_eq!(second.connect_timeout.as_secs(), 10);
        assert_eq!(second.command_timeout.as_secs(), 120);
        assert_eq!((second.content_timeout.as_secs(), second.protocol.as_str()), (3600, "4"));
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(settings.defaults, [named("{a}", "1"), named("{b}", "2"), named("{c}", "3 4")]);
        for none in ["", " ", "DISABLE", "disable"] {
            assert!(texts().settings(none).unwrap().filters.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (list, why) in [
            ("{ inet:h:1", "missing '}' in \"{ inet:h:1\""),
            ("inet:h:1}", "unexpected '}' in \"inet:h:1}\""),
            ("{}", "empty milter definition: \"{}\""),
            ("localhost", "Milter service needs transport:endpoint instead of \"localhost\""),
            ("tcp:h:1", "invalid transport name: tcp in Milter service: tcp:h:1"),
            (
                "{inet:h:1 timeout=3}",
                "unknown attribute name: \"timeout\" in \"{inet:h:1 timeout=3}\"",
            ),
            ("{inet:h:1 protocol=5}", "bad protocol information: 5"),
            ("{inet:h:1 {protocol=4 6}}", "bad protocol information: 6"),
            ("{inet:h:1 {protocol=no_header_reply}}", "no protocol version information"),
            ("{inet:h:1 default_action=maybe}", "unrecognized default action: maybe"),
            ("{inet:h:1 connect_timeout=0}", "bad time value: \"0\""),
        ] {
            assert_eq!(texts().settings(list), Err(why.to_owned()));
        }
    }
}
