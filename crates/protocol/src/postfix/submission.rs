//! postdrop's answers to sendmail, on its standard output.

use mail_types::QueueId;

use super::attr::{AttrError, AttrList, AttrWriter};
use super::cleanup::Outcome;
use super::{Dialect, protocols};

/// postdrop's first words: where the message will lie.
#[must_use]
pub fn drop_greeting(dialect: Dialect, queue_id: &QueueId) -> Vec<u8> {
    let mut list = AttrWriter::new();
    if dialect.server_names_protocol() {
        list.text("protocol", protocols::POSTDROP);
    }
    list.text("queue_id", queue_id.as_str());
    list.end()
}

/// Takes the greeting of any version.
///
/// # Errors
///
/// [`AttrError`] if it is none of postdrop.
pub fn read_drop_greeting(list: &AttrList) -> Result<QueueId, AttrError> {
    let mut fields = list.fields();
    if fields.peek() == Some("protocol") {
        let name = fields.text("protocol")?;
        if name != protocols::POSTDROP {
            return Err(AttrError::Value { name: "protocol", value: super::attr::excerpt(name) });
        }
    }
    let id = fields.text("queue_id")?;
    let bad = |_| AttrError::Value { name: "queue_id", value: super::attr::excerpt(id) };
    let queue_id = QueueId::parse(id).map_err(bad)?;
    fields.finish()?;
    Ok(queue_id)
}

/// postdrop's last words have the form of cleanup's.
pub type DropOutcome = Outcome;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_greetings_are_read() {
        let id = QueueId::parse("640A99A4A51").unwrap();
        let new = drop_greeting(Dialect::V3_6, &id);
        assert_eq!(new, b"protocol\0postdrop_protocol\0queue_id\x00640A99A4A51\0\0");
        for bytes in [new, drop_greeting(Dialect::V3_5, &id)] {
            assert_eq!(read_drop_greeting(&AttrList::parse(&bytes).unwrap()), Ok(id.clone()));
        }
    }
}
