//! Rewriting to the canonical `user@domain` form, as trivial-rewrite(8) does it.

use serde::{Deserialize, Serialize};

use crate::tokens::{Token, first, internal, last, scan, scan_address};

/// Whose addresses are rewritten (`rewrite_context`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Mail that this system made or took in submission: bare names are completed.
    Local,
    /// Mail of strangers: completed with `remote_header_rewrite_domain` only, if that is set.
    Remote,
}

/// The settings that rewriting obeys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rewriting {
    pub myorigin: String,
    pub mydomain: String,
    pub remote_header_rewrite_domain: String,
    pub append_at_myorigin: bool,
    pub append_dot_mydomain: bool,
    pub swap_bangpath: bool,
    pub percent_hack: bool,
}

impl Rewriting {
    /// Rewrites an address in external form. Nothing stays nothing.
    #[must_use]
    pub fn rewrite(&self, context: Context, address: &str) -> String {
        if address.is_empty() {
            return String::new();
        }
        let mut tokens = scan_address(address);
        self.rewrite_tokens(context, &mut tokens);
        mail_types::quote_822(&internal(&tokens))
    }

    pub(crate) fn rewrite_tokens(&self, context: Context, tokens: &mut Vec<Token>) {
        let (origin, domain) = match context {
            Context::Local => (&self.myorigin, &self.mydomain),
            Context::Remote => {
                (&self.remote_header_rewrite_domain, &self.remote_header_rewrite_domain)
            }
        };
        match tokens.as_slice() {
            [] => return,
            [Token::Quoted(empty)] if empty.is_empty() => return,
            [Token::Sign('@')] => {
                *tokens = vec![Token::Quoted(String::new())];
                return;
            }
            _ => {}
        }
        strip_source_route(tokens);
        if last(tokens, '@').is_none() {
            self.complete(tokens, origin);
        }
        if self.append_dot_mydomain && !domain.is_empty() && has_bare_domain(tokens) {
            tokens.push(Token::Sign('.'));
            tokens.extend(scan(domain));
        }
        strip_trailing_dot(tokens);
    }

    /// Gives an address without `@` its domain.
    fn complete(&self, tokens: &mut Vec<Token>, origin: &str) {
        let bang = first(tokens, '!').filter(|_| self.swap_bangpath);
        let percent = last(tokens, '%').filter(|_| self.percent_hack);
        if let Some(bang) = bang {
            let mut local = tokens.split_off(bang);
            local.remove(0);
            local.push(Token::Sign('@'));
            local.append(tokens);
            *tokens = local;
        } else if let Some(percent) = percent {
            if let Some(sign) = tokens.get_mut(percent) {
                *sign = Token::Sign('@');
            }
        } else if self.append_at_myorigin && !origin.is_empty() {
            tokens.push(Token::Sign('@'));
            tokens.extend(scan(origin));
        }
    }
}

/// `@a,@b:user@domain` is `user@domain`.
fn strip_source_route(tokens: &mut Vec<Token>) {
    if tokens.first().is_some_and(|token| token.is('@'))
        && let Some(colon) = first(tokens, ':')
        && colon + 1 < tokens.len()
    {
        tokens.drain(..=colon);
    }
}

fn has_bare_domain(tokens: &[Token]) -> bool {
    let Some(at) = last(tokens, '@') else { return false };
    let domain = tokens.get(at + 1..).unwrap_or_default();
    !domain.is_empty()
        && !domain.iter().any(|token| token.is('.') || matches!(token, Token::Literal(_)))
}

/// One dot at the end goes; `..` and `@.` are left, so that a diagnostic shows what was written.
pub(crate) fn strip_trailing_dot(tokens: &mut Vec<Token>) {
    if let [.., before, Token::Sign('.')] = tokens.as_slice()
        && !before.is('.')
        && !before.is('@')
    {
        tokens.pop();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Context, Rewriting};

    pub(crate) fn rewriting() -> Rewriting {
        Rewriting {
            myorigin: "mail.example.test".into(),
            mydomain: "example.test".into(),
            remote_header_rewrite_domain: String::new(),
            append_at_myorigin: true,
            append_dot_mydomain: true,
            swap_bangpath: true,
            percent_hack: true,
        }
    }

    /// Answers of Postfix 3.7.11's trivial-rewrite to `rewrite` requests.
    #[test]
    fn addresses_become_user_at_domain() {
        let rewriting = rewriting();
        for (address, rewritten) in [
            ("user", "user@mail.example.test"),
            ("user@host", "user@host.example.test"),
            ("user@host.dom.", "user@host.dom"),
            ("user@host..", "user@host.."),
            ("host!user", "user@host.example.test"),
            ("a.b!c!user", "c!user@a.b"),
            ("user%dom.x", "user@dom.x"),
            ("a%b%c.x", "a%b@c.x"),
            ("@a.x,@b.x:user@c.x", "user@c.x"),
            ("\"a b\"", "\"a b\"@mail.example.test"),
            ("user@[192.0.2.1]", "user@[192.0.2.1]"),
            ("\"\"", "\"\""),
            ("@", "\"\""),
            ("user@", "user@"),
            ("a b@c.d", "\"a b\"@c.d"),
            ("<u@v.w>", "\"<u\"@v.w>"),
            ("u (c)@v.w", "\"u (c)\"@v.w"),
            ("x@y@z.w", "\"x@y\"@z.w"),
            ("a,b@c.d", "\"a, b\"@c.d"),
            ("a..b@c.d", "\"a..b\"@c.d"),
            ("ü@x.y", "ü@x.y"),
            ("@a:x", "x@mail.example.test"),
        ] {
            assert_eq!(rewriting.rewrite(Context::Local, address), rewritten, "{address}");
        }
        assert_eq!(rewriting.rewrite(Context::Remote, "user"), "user");
        assert_eq!(rewriting.rewrite(Context::Remote, "user@host"), "user@host");
    }
}
