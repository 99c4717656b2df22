//! What the login conversation tells the session: how the login is to be answered.

/// The tag of the command that logged in, and whether the client had asked for capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub tag: String,
    pub asked: bool,
}

impl Greeting {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        format!("{}{}", if self.asked { '+' } else { '-' }, self.tag).into_bytes()
    }

    #[must_use]
    pub fn read(octets: &[u8]) -> Self {
        let text = String::from_utf8_lossy(octets);
        let mut characters = text.chars();
        let asked = characters.next() == Some('+');
        Self { tag: characters.as_str().to_owned(), asked }
    }

    /// Untagged capabilities for a client that asked for them, else a code in the answer.
    #[must_use]
    pub fn text(&self, capabilities: &str) -> String {
        let tag = &self.tag;
        if self.asked {
            format!("* CAPABILITY {capabilities}\r\n{tag} OK Logged in\r\n")
        } else {
            format!("{tag} OK [CAPABILITY {capabilities}] Logged in\r\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_travel() {
        for asked in [true, false] {
            let greeting = Greeting { tag: "a1".into(), asked };
            assert_eq!(Greeting::read(&greeting.write()), greeting);
        }
        let greeting = Greeting { tag: "a1".into(), asked: false };
        assert_eq!(greeting.text("X"), "a1 OK [CAPABILITY X] Logged in\r\n");
    }
}
