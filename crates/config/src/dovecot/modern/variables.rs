//! `%{user | username | lower}`, put in the words of 2.3: `%Ln`.
//!
//! A lone `%` is itself in 2.4, so it becomes `%%`; `%%{` is a literal `%{`.

use super::super::kind::{Fault, fault};

/// What stands for a variable of 2.4, by what 2.3 calls it: a letter, or a long name.
const NAMES: &[(&str, &str)] = &[
    ("user", "u"),
    ("home", "h"),
    ("protocol", "s"),
    ("service", "s"),
    ("local_ip", "l"),
    ("remote_ip", "r"),
    ("local_port", "a"),
    ("remote_port", "b"),
    ("mechanism", "m"),
    ("secured", "c"),
    ("password", "w"),
    ("mail_pid", "e"),
    ("client_pid", "p"),
    ("process:pid", "{pid}"),
    ("process:uid", "i"),
    ("uid", "i"),
    ("gid", "{gid}"),
    ("session", "{session}"),
    ("hostname", "{hostname}"),
    ("system:hostname", "{hostname}"),
    ("original_user", "{orig_user}"),
    ("auth_user", "{auth_user}"),
    ("login_user", "{login_user}"),
    ("master_user", "{master_user}"),
    ("local_name", "{local_name}"),
    ("real_remote_ip", "{real_rip}"),
    ("real_local_ip", "{real_lip}"),
    ("real_remote_port", "{real_rport}"),
    ("real_local_port", "{real_lport}"),
    ("domain_first", "{domain_first}"),
    ("domain_last", "{domain_last}"),
    ("client_id", "{client_id}"),
    ("cert", "k"),
];
/// What only one setting has.
const OF_SETTING: &[(&str, &str, &str)] = &[
    ("login_log_format", "message", "$"),
    ("login_log_format", "elements", "s"),
    ("pop3_uidl_format", "uid", "u"),
    ("pop3_uidl_format", "uidvalidity", "v"),
    ("pop3_uidl_format", "md5", "m"),
    ("pop3_uidl_format", "filename", "f"),
    ("pop3_uidl_format", "guid", "g"),
    ("imap_logout_format", "input", "i"),
    ("imap_logout_format", "output", "o"),
    ("imap_logout_format", "deleted", "{deleted}"),
    ("imap_logout_format", "expunged", "{expunged}"),
    ("imap_logout_format", "trashed", "{trashed}"),
    ("imap_logout_format", "fetch_hdr_count", "{fetch_hdr_count}"),
    ("imap_logout_format", "fetch_hdr_bytes", "{fetch_hdr_bytes}"),
    ("imap_logout_format", "fetch_body_count", "{fetch_body_count}"),
    ("imap_logout_format", "fetch_body_bytes", "{fetch_body_bytes}"),
    ("pop3_logout_format", "input", "{input}"),
    ("pop3_logout_format", "output", "{output}"),
    ("pop3_logout_format", "top_count", "t"),
    ("pop3_logout_format", "top_bytes", "p"),
    ("pop3_logout_format", "retr_count", "r"),
    ("pop3_logout_format", "retr_bytes", "b"),
    ("pop3_logout_format", "deleted_count", "d"),
    ("pop3_logout_format", "deleted_bytes", "{deleted_bytes}"),
    ("pop3_logout_format", "message_count", "m"),
    ("pop3_logout_format", "message_bytes", "s"),
];

/// Variables that Dovecot fills in and we do not, by how their names begin.
const NOT_HERE: &[(&str, &str)] =
    &[("ldap", "no LDAP directory is asked"), ("owner_", "there are no shared namespaces")];

/// The text of `setting` in the words of 2.3.
///
/// # Errors
///
/// [`Fault`] for a variable or filter that we do not have, or a text that Dovecot does not take either.
pub fn translate(setting: &str, text: &str) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix("%{") {
            out.push_str("%%{");
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (expression, after) = inner
                .split_once('}')
                .ok_or_else(|| fault(format!("%{{{inner} has no }}"), "write the }"))?;
            out.push_str(&variable(setting, expression)?);
            rest = after;
        } else {
            out.push_str("%%");
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What is between `%{` and `}`.
fn variable(setting: &str, expression: &str) -> Result<String, Fault> {
    let mut parts = expression.split('|').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let mut parts = parts.peekable();
    let own = OF_SETTING.iter().find(|(of, known, _)| *of == setting && *known == name);
    let mut word = match own {
        Some((.., word)) => (*word).to_owned(),
        None => common(name).ok_or_else(|| unknown(name))?,
    };
    // `%{user | username}` is a variable of its own in 2.3.
    if let Some(&part) = parts.peek()
        && let Some(whole) = part_of_name(&word, part)
    {
        word = whole.to_owned();
        parts.next();
    }
    let (mut cut, mut modifiers) = (String::new(), String::new());
    while let Some(filter) = parts.next() {
        let (filter, argument) = match filter.split_once('(') {
            Some((filter, argument)) => {
                (filter.trim_end(), argument.trim_end_matches(')').replace(' ', ""))
            }
            None => (filter, String::new()),
        };
        match (filter, argument.as_str()) {
            ("lower", "") if cut.is_empty() => modifiers.push('L'),
            ("upper", "") if cut.is_empty() => modifiers.push('U'),
            ("reverse", "") if cut.is_empty() => modifiers.push('R'),
            ("text", "") => {}
            ("md5", "") if matches!(parts.peek(), Some(&("hexlify" | "hex"))) => {
                parts.next();
                modifiers.push('M');
            }
            ("hex", width) if cut.is_empty() && width.parse::<u8>().is_ok_and(|w| w < 100) => {
                cut = format!("0{width}");
                modifiers.push('X');
            }
            ("hex", "") => modifiers.push('X'),
            ("truncate", width) if cut.is_empty() && is_number(width) => width.clone_into(&mut cut),
            ("substr", range) if cut.is_empty() => cut = range_of(range)?,
            _ => {
                return Err(fault(
                    format!("%{{{expression}}}: the filter {filter} is not supported here"),
                    "use username, domain, lower, upper, reverse or substr",
                ));
            }
        }
    }
    Ok(format!("%{cut}{modifiers}{word}"))
}

fn common(name: &str) -> Option<String> {
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, word)| (*word).to_owned()).or_else(|| {
        let (provider, field) = name.split_once(':')?;
        (matches!(provider, "userdb" | "passdb" | "env") && !field.is_empty())
            .then(|| format!("{{{name}}}"))
    })
}

fn unknown(name: &str) -> Fault {
    if let Some((_, why)) = NOT_HERE.iter().find(|(start, _)| name.starts_with(start)) {
        return fault(
            format!("%{{{name}}}: {why}"),
            "take it out, or keep this service with Dovecot",
        );
    }
    let instead = match name {
        "u" => "write %{user}",
        "username" | "n" => "write %{user | username}",
        "domain" | "d" => "write %{user | domain}",
        "rip" | "r" => "write %{remote_ip}",
        "lip" | "l" => "write %{local_ip}",
        "mech" => "write %{mechanism}",
        "pid" => "write %{process:pid}",
        _ => "name a variable that Dovecot 2.4 has here",
    };
    fault(format!("unknown variable %{{{name}}}"), instead)
}

fn part_of_name(word: &str, filter: &str) -> Option<&'static str> {
    Some(match (word, filter) {
        ("u", "username") => "n",
        ("u", "domain") => "d",
        ("{orig_user}", "username") => "{orig_username}",
        ("{orig_user}", "domain") => "{orig_domain}",
        ("{auth_user}", "username") => "{auth_username}",
        ("{auth_user}", "domain") => "{auth_domain}",
        ("{login_user}", "username") => "{login_username}",
        ("{login_user}", "domain") => "{login_domain}",
        _ => return None,
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() < 4 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `substr(offset, width)` as `offset.width`.
fn range_of(range: &str) -> Result<String, Fault> {
    let (offset, width) = range.split_once(',').unwrap_or((range, "0"));
    let fine = |text: &str| is_number(text.strip_prefix('-').unwrap_or(text));
    if fine(offset) && fine(width) {
        return Ok(format!("{offset}.{width}"));
    }
    Err(fault(format!("substr({range}) is no offset and width"), "write substr(0, 1)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_those_of_2_3() {
        for (modern, old) in [
            ("%{user}", "%u"),
            ("%{ user|username|lower }", "%Ln"),
            ("/home/%{user | username}/%{user | domain | upper}", "/home/%n/%Ud"),
            ("%{home}/mail", "%h/mail"),
            ("%{user | substr(0, 1) }/%{user | username | lower | substr(1,1)}", "%0.1u/%1.1Ln"),
            ("100% of %%{user} %u", "100%% of %%{user} %%u"),
            ("%{protocol}(%{user})<%{process:pid}><%{session}>: ", "%s(%u)<%{pid}><%{session}>: "),
            (
                "%{userdb:x} %{original_user | domain} %{system:hostname}",
                "%{userdb:x} %{orig_domain} %{hostname}",
            ),
            ("%{user | md5 | hexlify}", "%Mu"),
        ] {
            assert_eq!(translate("mail_home", modern).as_deref(), Ok(old), "{modern}");
        }
        for (setting, modern, old) in [
            ("pop3_uidl_format", "%{uid | hex(8)}%{uidvalidity | hex(8)}", "%08Xu%08Xv"),
            ("login_log_format", "%{message}: %{elements}", "%$: %s"),
            ("imap_logout_format", "in=%{input} out=%{output}", "in=%i out=%o"),
        ] {
            assert_eq!(translate(setting, modern).as_deref(), Ok(old), "{modern}");
        }
    }

    #[test]
    fn what_we_cannot_say_is_told() {
        for (text, what) in [
            ("%{nonsense}", "unknown variable %{nonsense}"),
            ("%{ldap:mail | lower}", "%{ldap:mail}: no LDAP directory is asked"),
            ("%{owner_home}", "%{owner_home}: there are no shared namespaces"),
            ("%{user", "%{user has no }"),
            ("%{user | ldap_dn}", "%{user | ldap_dn}: the filter ldap_dn is not supported here"),
            ("%{user | substr(a)}", "substr(a) is no offset and width"),
        ] {
            assert_eq!(
                translate("mail_home", text).map_err(|fault| fault.what),
                Err(what.to_owned())
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "[%{}|() a-z0-9,-]{0,60}") {
            let _ = translate("mail_home", &text);
        }
    }
}
