//! Old names that Dovecot 2.3 still reads, translated as it does, each told with what to write today.
//!
//! Read: dovecot, for all that daemons read.

use super::tree::{Section, Value};
use crate::Problems;

/// Puts today's settings in the place of old ones, in every block.
pub fn translate(section: &mut Section, problems: &mut Problems) {
    let written = std::mem::take(&mut section.settings);
    for (name, value) in written {
        match today(&name, &value, problems) {
            Some(settings) => section.settings.extend(settings),
            None => section.settings.push((name, value)),
        }
    }
    for inner in &mut section.sections {
        if !matches!(inner.kind.as_str(), "plugin" | "dict") {
            translate(inner, problems);
        }
    }
}

type Settings = Vec<(String, Value)>;

/// What an old setting means today; `None` when it is not an old one.
fn today(name: &str, value: &Value, problems: &mut Problems) -> Option<Settings> {
    let renamed = |new: &str, text: String| vec![(new.to_owned(), Value { text, ..value.clone() })];
    let (settings, instead) = match name {
        "ssl_protocols" => {
            let minimum = minimum_protocol(value, problems)?;
            let instead = format!("write ssl_min_protocol = {minimum}");
            (renamed("ssl_min_protocol", minimum.to_owned()), instead)
        }
        "ssl_disable" => {
            let text = if value.text.eq_ignore_ascii_case("yes") { "no" } else { "yes" };
            (renamed("ssl", text.to_owned()), format!("write ssl = {text}"))
        }
        "ssl_cert_file" | "ssl_key_file" | "ssl_ca_file" => {
            let new = name.trim_end_matches("_file");
            let file = Value {
                file: Some(value.text.clone().into()),
                text: format!("<{}", value.text),
                at: value.at.clone(),
            };
            (vec![(new.to_owned(), file)], format!("write {new} = <{}", value.text))
        }
        "fsync_disable" => {
            let text = if value.text.eq_ignore_ascii_case("yes") { "never" } else { "optimized" };
            (renamed("mail_fsync", text.to_owned()), format!("write mail_fsync = {text}"))
        }
        "ssl_parameters_regenerate"
        | "ssl_dh_parameters_length"
        | "login_dir"
        | "mail_log_max_lines_per_sec"
        | "maildir_copy_preserve_filename"
        | "director_consistent_hashing" => {
            (vec![(name.to_owned(), value.clone())], "remove the line".to_owned())
        }
        _ => return None,
    };
    problems.warning(value.at.clone(), format!("{name} is obsolete")).instead(instead);
    Some(settings)
}

const PROTOCOLS: [&str; 5] = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

/// The lowest protocol that `!SSLv3 !TLSv1 …`, or a list of allowed ones, leaves.
fn minimum_protocol(value: &Value, problems: &mut Problems) -> Option<&'static str> {
    let words: Vec<&str> =
        value.text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
    let only_some = words.iter().any(|word| !word.starts_with('!'));
    let mut allowed = [!only_some; PROTOCOLS.len()];
    for word in words {
        let name = word.trim_start_matches('!');
        match PROTOCOLS.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            Some(index) => allowed[index] = !word.starts_with('!'),
            None if name.eq_ignore_ascii_case("SSLv2") => {}
            None => {
                problems
                    .error(value.at.clone(), format!("ssl_protocols: unknown protocol \"{name}\""))
                    .instead("write ssl_min_protocol = TLSv1.2");
                return None;
            }
        }
    }
    let lowest =
        PROTOCOLS.into_iter().zip(allowed).find(|(_, allowed)| *allowed).map(|(name, _)| name);
    if lowest.is_none() {
        problems
            .error(value.at.clone(), "ssl_protocols leaves no protocol")
            .instead("write ssl_min_protocol = TLSv1.2");
    }
    lowest
}

#[cfg(test)]
mod tests {
    use crate::Problems;
    use crate::dovecot::{self, Config};
    use crate::files::Memory;
    use crate::inventory::Meaning;

    /// A report has a line for each of the file.
    #[test]
    fn what_is_obsolete_is_told_and_still_listed() {
        let names = [
            "director_consistent_hashing",
            "login_dir",
            "mail_log_max_lines_per_sec",
            "maildir_copy_preserve_filename",
            "ssl_dh_parameters_length",
            "ssl_parameters_regenerate",
        ];
        let text: String = names.iter().map(|name| format!("{name} = 1\n")).collect();
        let mut problems = Problems::default();
        let config = Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut problems);
        let listed: Vec<(String, Meaning)> =
            config.inventory().iter().map(|one| (one.name.clone(), one.meaning())).collect();
        assert_eq!(listed, names.map(|name| (name.to_owned(), Meaning::Harmless)));
        let told: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
        assert_eq!(told.len(), names.len(), "{problems}");
        assert!(told.iter().all(|line| line.contains(" is obsolete; remove the line")), "{told:?}");
    }

    #[test]
    fn ssl_protocols_becomes_the_lowest_protocol_left() {
        for (written, minimum) in [
            ("!SSLv2 !SSLv3 !TLSv1 !TLSv1.1", "TLSv1.2"),
            ("!SSLv3", "TLSv1"),
            ("TLSv1.2 TLSv1.3", "TLSv1.2"),
            ("!SSLv2,!SSLv3,!TLSv1", "TLSv1.1"),
        ] {
            let mut problems = Problems::default();
            let files = Memory::with([("/d", format!("ssl_protocols = {written}\n"))]);
            let config = Config::read(&files, "/d".as_ref(), &mut problems);
            assert_eq!(config.global().get(dovecot::SSL_MIN_PROTOCOL, &mut problems), minimum);
            assert_eq!(
                problems.to_string(),
                format!(
                    "/d:1: warning: ssl_protocols is obsolete; write ssl_min_protocol = {minimum}\n"
                )
            );
        }
    }
}
