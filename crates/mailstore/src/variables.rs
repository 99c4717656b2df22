//! Dovecot's %-variables about a user, as `mail_location` and `mail_home` have them.

use std::path::Path;

/// Whose mail it is.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// The full name, after `auth_username_format`.
    pub name: &'a str,
    pub home: Option<&'a Path>,
    pub uid: u32,
    pub gid: u32,
    /// `imap`, `pop3`, `lmtp`.
    pub service: &'a str,
}

/// A text with a variable that says nothing here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown variable %{0}")]
pub struct UnknownVariable(pub String);

/// Expands `%u %n %d %h %i %s %%`, `%{user}` and its like, with the modifiers `L` `U` `T` and a width
/// such as `%2.256` left to the few hosts that hash: those are refused.
///
/// # Errors
///
/// [`UnknownVariable`]; nothing is guessed about where mail goes.
pub fn expand(text: &str, user: &User<'_>) -> Result<String, UnknownVariable> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut modifiers = String::new();
        let value = loop {
            match characters.next() {
                Some(modifier @ ('L' | 'U' | 'T')) => modifiers.push(modifier),
                Some('{') => {
                    let name: String = characters.by_ref().take_while(|&c| c != '}').collect();
                    break user.value(&name).ok_or(UnknownVariable(format!("{{{name}}}")))?;
                }
                Some('%') => break "%".to_owned(),
                Some(letter) => {
                    let name = letter.to_string();
                    break user.value(&name).ok_or(UnknownVariable(name))?;
                }
                None => return Err(UnknownVariable(String::new())),
            }
        };
        let value = modifiers.chars().fold(value, |value, modifier| match modifier {
            'L' => value.to_lowercase(),
            'U' => value.to_uppercase(),
            _ => value.trim().to_owned(),
        });
        out.push_str(&value);
    }
    Ok(out)
}

impl User<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let (local, domain) = self.name.rsplit_once('@').unwrap_or((self.name, ""));
        Some(match name {
            "u" | "user" => self.name.to_owned(),
            "n" | "username" => local.to_owned(),
            "d" | "domain" => domain.to_owned(),
            "h" | "home" => self.home?.display().to_string(),
            "i" | "uid" => self.uid.to_string(),
            "gid" => self.gid.to_string(),
            "s" | "service" => self.service.to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_expanded() {
        let user = User {
            name: "Info@Example.com",
            home: Some(Path::new("/home/info")),
            uid: 5000,
            gid: 5001,
            service: "lmtp",
        };
        for (text, expected) in [
            (
                "maildir:/var/mail/vhosts/%d/%n/Maildir",
                Ok("maildir:/var/mail/vhosts/Example.com/Info/Maildir"),
            ),
            ("%Lu:%{home}:%i:%%", Ok("info@example.com:/home/info:5000:%")),
            ("%Ld", Ok("example.com")),
            ("%1Mu", Err("1")),
            ("%{env:HOME}", Err("{env:HOME}")),
            ("%", Err("")),
        ] {
            let expected = expected.map(str::to_owned).map_err(|name| UnknownVariable(name.into()));
            assert_eq!(expand(text, &user), expected, "{text}");
        }
    }
}
