//! The name that a client types becomes the name that is looked up.

use crate::settings::Realm;

/// Why a name is refused before anybody is asked. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("Empty username")]
    Empty,
    #[error("Username character disallowed by auth_username_chars: 0x{0:02x} (username: {1})")]
    Character(u8, String),
}

/// A name longer than this is no name.
const MAX_NAME: usize = 1024;

/// `auth_default_realm`, `auth_username_translation`, `auth_username_chars`, `auth_username_format`,
/// in this order.
///
/// # Errors
///
/// [`BadName`] as in Dovecot: a plain failure for the client.
pub fn normalise(realm: &Realm, typed: &str) -> Result<String, BadName> {
    let mut name = typed.to_owned();
    if !name.contains('@') && !realm.default_realm.is_empty() {
        name = format!("{name}@{}", realm.default_realm);
    }
    let translated: String = name.chars().map(|c| translate(realm, c)).collect();
    if !realm.username_chars.is_empty() {
        let allowed = realm.username_chars.as_bytes();
        if let Some(&byte) = translated.as_bytes().iter().find(|byte| !allowed.contains(byte)) {
            return Err(BadName::Character(byte, typed.chars().take(MAX_NAME).collect()));
        }
    }
    let formatted = match &realm.username_format {
        Some(format) => format.expand(|variable| name_variable(variable, &translated)),
        None => translated,
    };
    match formatted.len() {
        0 => Err(BadName::Empty),
        1..=MAX_NAME => Ok(formatted),
        _ => Err(BadName::Character(formatted.as_bytes()[MAX_NAME], "too long".into())),
    }
}

/// The variables that are parts of a name.
#[must_use]
pub fn name_variable(variable: &str, name: &str) -> String {
    let (local, domain) = name.split_once('@').unwrap_or((name, ""));
    match variable {
        "user" => name,
        "username" => local,
        "domain" | "domain_first" => domain,
        "domain_last" => name.rsplit_once('@').map_or("", |(_, last)| last),
        _ => "",
    }
    .to_owned()
}

/// Splits `login*master` into the master user who logs in and the user he wants to be.
#[must_use]
pub fn split_master(realm: &Realm, typed: &str) -> (String, Option<String>) {
    let separator = realm.master_user_separator;
    match separator.and_then(|separator| typed.split_once(separator)) {
        Some((login, master)) => (master.to_owned(), Some(login.to_owned())),
        None => (typed.to_owned(), None),
    }
}

fn translate(realm: &Realm, c: char) -> char {
    let mut pairs = realm.username_translation.chars();
    while let (Some(from), Some(to)) = (pairs.next(), pairs.next()) {
        if from == c {
            return to;
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    fn realm(format: &str) -> Realm {
        Realm { username_format: Template::parse(format).ok(), ..Realm::default() }
    }

    #[test]
    fn names_become_what_dovecot_makes_of_them() {
        for (format, typed, name) in [
            ("%Lu", "Info@Dokujo.com", "info@dokujo.com"),
            ("%Ln", "Info@Dokujo.com", "info"),
            ("%n", "Info@Dokujo.com", "Info"),
            ("%Lu", "info", "info"),
        ] {
            assert_eq!(normalise(&realm(format), typed).as_deref(), Ok(name), "{format} {typed}");
        }
        let translating = Realm { username_translation: "#@/@".into(), ..Realm::default() };
        assert_eq!(normalise(&translating, "a#b.example").as_deref(), Ok("a@b.example"));
        let default = Realm { default_realm: "example.com".into(), ..Realm::default() };
        assert_eq!(normalise(&default, "a").as_deref(), Ok("a@example.com"));
        assert_eq!(normalise(&default, "a@b").as_deref(), Ok("a@b"));
    }

    #[test]
    fn names_with_strange_characters_are_refused_in_dovecots_words() {
        let refused = normalise(&Realm::default(), "a/b").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Username character disallowed by auth_username_chars: 0x2f (username: a/b)"
        );
        assert_eq!(normalise(&Realm::default(), ""), Err(BadName::Empty));
        assert_eq!(normalise(&realm("%d"), "info"), Err(BadName::Empty));
        let all = Realm { username_chars: String::new(), ..Realm::default() };
        assert_eq!(normalise(&all, "é+x").as_deref(), Ok("é+x"));
        assert!(normalise(&all, &"x".repeat(2000)).is_err());
    }
}
