//! Telling of what we do not obey, in the same words for every file.

use crate::register::{Fact, Ignored};
use crate::{Place, Problems};

/// Values that say what happens here, where that is not what the original does by itself.
const HERE: &[(&str, &str)] = &[
    ("biff", "no"),
    ("lmtp_log_tls_feature_status", "no"),
    ("mailbox_list_drop_noselect", "no"),
    ("mailbox_list_normalize_names_to_nfc", "no"),
    ("requiretls_enable", "no"),
    ("smtp_log_tls_feature_status", "no"),
    ("tls_required_enable", "no"),
];

/// Whether a file that sets this loses nothing: it says what happens here, or what the original does by itself.
/// `is` tells whether the file's value is another one.
pub fn holds_anyway(fact: &Fact, default: &str, is: impl Fn(&str) -> bool) -> bool {
    match HERE.iter().find(|(name, _)| *name == fact.name) {
        // Who writes the default would else be refused, and who leaves it out would not.
        Some((_, here)) => is(here) || (fact.ignored == Ignored::Refuse && is(default)),
        None => is(default),
    }
}

/// Tells that `name`, whose row is `fact`, is not obeyed, and what happens instead. `original` is who would obey it.
pub fn tell(name: &str, fact: &Fact, at: &Place, original: &str, problems: &mut Problems) {
    let what = format!("{name}: {}", fact.sentence);
    match fact.ignored {
        Ignored::Tell => {
            problems.warning(at.clone(), what);
        }
        Ignored::Refuse => {
            let instead = format!("remove the line, or keep this service with {original} for now");
            problems.error(at.clone(), what).instead(instead);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Problems;
    use crate::files::Memory;
    use crate::inventory::Meaning;
    use crate::postfix::Host;

    #[test]
    fn a_value_that_says_what_happens_here_is_not_told() {
        for (line, meaning, told) in [
            ("biff = no", Meaning::Default, false),
            ("biff = yes", Meaning::Ignored, true),
            ("tls_required_enable = no", Meaning::Default, false),
            ("tls_required_enable = yes", Meaning::Default, false),
            ("smtpd_tls_ask_ccert = no", Meaning::Default, false),
            ("smtpd_tls_ask_ccert = yes", Meaning::Ignored, true),
        ] {
            let files = Memory::with([("/p/main.cf", format!("{line}\n"))]);
            let host = Host::read(&files, "/p".as_ref(), &mut Problems::default());
            assert_eq!(host.inventory()[0].meaning(), meaning, "{line}");
            let mut problems = Problems::default();
            host.report_unsupported(&["local", "smtpd", "smtp", "cleanup"], &mut problems);
            assert_eq!(!problems.to_string().is_empty(), told, "{line}: {problems}");
        }
    }
}
