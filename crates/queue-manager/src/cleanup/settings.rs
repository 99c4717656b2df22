//! What cleanup obeys.

use std::time::Duration;

use config::Problems;
use config::postfix::{self, View};
use neighbours::milter;
use routing::{Maps, TableName};
use serde::{Deserialize, Serialize};

use crate::plan::Asked;
use crate::rewrite;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub routing: routing::settings::Settings,
    pub checks: Checks,
    pub limits: Limits,
    pub classes: Classes,
    pub bcc: Bcc,
    pub always_add_missing_headers: bool,
    /// `undisclosed_recipients_header`; empty: none is added.
    pub undisclosed: String,
    /// `header_from_format = obsolete`: the name behind the address, in parentheses.
    pub obsolete_from: bool,
    /// `message_drop_headers`, in lower case.
    pub drop: Vec<String>,
    pub delay_warning: Duration,
    pub original_recipient: bool,
    pub replace_stray_cr_lf: bool,
    pub mime: bool,
    pub strict: Strict,
    /// `detect_8bit_encoding_header`: Content-Transfer-Encoding tells the encoding.
    pub detect_8bit: bool,
    pub smtputf8: bool,
    /// `message_reject_characters`, `message_strip_characters`, decoded.
    pub reject_characters: Vec<u8>,
    pub strip_characters: Vec<u8>,
    pub ipc_timeout: Duration,
    pub milters: OwnMilters,
}

/// `non_smtpd_milters`, and what every filter is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OwnMilters {
    pub filters: milter::Settings,
    /// `milter_macro_daemon_name`
    pub daemon_name: String,
    /// `milter_macro_v`
    pub version: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checks {
    pub header: Maps,
    pub mime_header: Maps,
    pub nested_header: Maps,
    pub body: Maps,
    pub body_size: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Octets of the queue file; 0 is none.
    pub message_size: u64,
    pub header_size: usize,
    pub line_length: usize,
    pub hops: usize,
    pub duplicates: usize,
    pub mime_nesting: usize,
    pub mime_boundary: usize,
    /// `header_address_token_limit`: addresses of one field that are rewritten.
    pub addresses: usize,
}

/// Which breaches of MIME are refused.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Strict {
    /// 8-bit octets in header fields.
    pub header: bool,
    /// 8-bit octets in a body that was not announced as such.
    pub body: bool,
    /// An encoding of a composite body.
    pub encoding: bool,
    /// Multiparts nested too deep.
    pub nesting: bool,
}

/// To which addresses canonical maps and masquerading apply.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Classes {
    pub canonical: Vec<String>,
    pub sender_canonical: Vec<String>,
    pub recipient_canonical: Vec<String>,
    pub masquerade: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bcc {
    pub always: String,
    pub sender: Maps,
    pub recipient: Maps,
}

impl Settings {
    /// Every table that cleanup may ask.
    pub fn tables(&self) -> Maps {
        let routing = self.routing.tables();
        let maps = [
            &routing,
            &self.checks.header,
            &self.checks.mime_header,
            &self.checks.nested_header,
            &self.checks.body,
            &self.bcc.sender,
            &self.bcc.recipient,
        ];
        let mut names: Vec<TableName> = maps.into_iter().flat_map(Maps::iter).cloned().collect();
        names.sort();
        names.dedup();
        names.into_iter().collect()
    }
}

/// The settings of one cleanup service, as JSON for its worker.
pub fn read(asked: &Asked<'_>, problems: &mut Problems) -> serde_json::Value {
    let view = &asked.view;
    let mut none = Problems::default();
    let settings = Settings {
        routing: routing::settings::Settings::read(view, asked.files, &mut none),
        strict: strict(view, problems),
        checks: checks(view, problems),
        limits: limits(view, problems),
        classes: Classes {
            canonical: words(view.get(postfix::CANONICAL_CLASSES, problems)),
            sender_canonical: words(view.get(postfix::SENDER_CANONICAL_CLASSES, problems)),
            recipient_canonical: words(view.get(postfix::RECIPIENT_CANONICAL_CLASSES, problems)),
            masquerade: words(view.get(postfix::MASQUERADE_CLASSES, problems)),
        },
        bcc: Bcc {
            always: view.get(postfix::ALWAYS_BCC, problems),
            sender: Maps::of(&view.get(postfix::SENDER_BCC_MAPS, problems)),
            recipient: Maps::of(&view.get(postfix::RECIPIENT_BCC_MAPS, problems)),
        },
        always_add_missing_headers: view.get(postfix::ALWAYS_ADD_MISSING_HEADERS, problems),
        undisclosed: view.get(postfix::UNDISCLOSED_RECIPIENTS_HEADER, problems),
        obsolete_from: view
            .get(postfix::HEADER_FROM_FORMAT, problems)
            .trim()
            .eq_ignore_ascii_case("obsolete"),
        drop: words(view.get(postfix::MESSAGE_DROP_HEADERS, problems))
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        delay_warning: view.get(postfix::DELAY_WARNING_TIME, problems),
        original_recipient: view.get(postfix::ENABLE_ORIGINAL_RECIPIENT, problems),
        replace_stray_cr_lf: view.get(postfix::CLEANUP_REPLACE_STRAY_CR_LF, problems),
        detect_8bit: view.get(postfix::DETECT_8BIT_ENCODING_HEADER, problems),
        mime: !view.get(postfix::DISABLE_MIME_INPUT_PROCESSING, problems),
        smtputf8: view.get(postfix::SMTPUTF8_ENABLE, problems),
        reject_characters: unescape(&view.get(postfix::MESSAGE_REJECT_CHARACTERS, problems)),
        strip_characters: unescape(&view.get(postfix::MESSAGE_STRIP_CHARACTERS, problems)),
        ipc_timeout: view.get(postfix::IPC_TIMEOUT, problems),
        milters: milters(view, problems),
    };
    problems.extend(none);
    serde_json::to_value(settings).unwrap_or_default()
}

fn checks(view: &View<'_>, problems: &mut Problems) -> Checks {
    let mut tables = tables::Set::default();
    for setting in [
        postfix::HEADER_CHECKS,
        postfix::MIME_HEADER_CHECKS,
        postfix::NESTED_HEADER_CHECKS,
        postfix::BODY_CHECKS,
    ] {
        rewrite::check(&mut tables, &view.get(setting, problems), problems);
    }
    Checks {
        header: Maps::of(&view.get(postfix::HEADER_CHECKS, problems)),
        mime_header: Maps::of(&view.get(postfix::MIME_HEADER_CHECKS, problems)),
        nested_header: Maps::of(&view.get(postfix::NESTED_HEADER_CHECKS, problems)),
        body: Maps::of(&view.get(postfix::BODY_CHECKS, problems)),
        body_size: number(view.get(postfix::BODY_CHECKS_SIZE_LIMIT, problems)),
    }
}

fn strict(view: &View<'_>, problems: &mut Problems) -> Strict {
    let all = view.get(postfix::STRICT_8BITMIME, problems);
    let header = all | view.get(postfix::STRICT_7BIT_HEADERS, problems);
    let body = all | view.get(postfix::STRICT_8BITMIME_BODY, problems);
    let encoding = view.get(postfix::STRICT_MIME_ENCODING_DOMAIN, problems);
    let checks =
        [postfix::HEADER_CHECKS, postfix::MIME_HEADER_CHECKS, postfix::NESTED_HEADER_CHECKS]
            .into_iter()
            .any(|setting| !view.get(setting, problems).is_empty());
    Strict { header, body, encoding, nesting: header | body | encoding | checks }
}

fn limits(view: &View<'_>, problems: &mut Problems) -> Limits {
    Limits {
        message_size: view.get(postfix::MESSAGE_SIZE_LIMIT, problems),
        header_size: number(view.get(postfix::HEADER_SIZE_LIMIT, problems)),
        line_length: number(view.get(postfix::LINE_LENGTH_LIMIT, problems)),
        hops: number(view.get(postfix::HOPCOUNT_LIMIT, problems)),
        duplicates: number(view.get(postfix::DUPLICATE_FILTER_LIMIT, problems)),
        mime_nesting: number(view.get(postfix::MIME_NESTING_LIMIT, problems)),
        mime_boundary: number(view.get(postfix::MIME_BOUNDARY_LENGTH_LIMIT, problems)),
        addresses: number(view.get(postfix::HEADER_ADDRESS_TOKEN_LIMIT, problems)),
    }
}

fn milters(view: &View<'_>, problems: &mut Problems) -> OwnMilters {
    let texts = milter::Texts::read(view, problems);
    let filters = texts.listed(view, postfix::NON_SMTPD_MILTERS, problems);
    OwnMilters {
        filters,
        daemon_name: view.get(postfix::MILTER_MACRO_DAEMON_NAME, problems),
        version: view.get(postfix::MILTER_MACRO_V, problems),
    }
}

fn number<T: TryInto<usize>>(value: T) -> usize {
    value.try_into().unwrap_or(usize::MAX)
}

fn words(list: Vec<config::text::Word>) -> Vec<String> {
    list.into_iter().map(|word| word.text).collect()
}

/// `\0`, `\r`, `\\`, `\ooo` in a set of characters.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes().peekable();
    let mut result = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            result.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'a') => result.push(7),
            Some(b'b') => result.push(8),
            Some(b'f') => result.push(12),
            Some(b'n') => result.push(b'\n'),
            Some(b'r') => result.push(b'\r'),
            Some(b't') => result.push(b'\t'),
            Some(b'v') => result.push(11),
            Some(digit @ b'0'..=b'7') => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(next) = bytes.next_if(|next| (b'0'..=b'7').contains(next)) else {
                        break;
                    };
                    value = value * 8 + u32::from(next - b'0');
                }
                result.push(u8::try_from(value & 0xff).unwrap_or(0));
            }
            Some(other) => result.push(other),
            None => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_are_octets() {
        assert_eq!(unescape(r"\0\r\n\101x\\"), b"\0\r\nAx\\");
    }
}
