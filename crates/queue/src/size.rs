//! The first record of a queue file: where the content is and what the queue manager should know.

use crate::records::Damage;

/// Six fields in a fixed width, so that it can be written over in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeRecord {
    /// Octets of the content segment in the file, from the data offset to the `X` record.
    pub content_length: i64,
    /// The first octet after the `M` record.
    pub data_offset: i64,
    pub recipients: i64,
    /// [`SizeRecord::MIXED`] and the NOTIFY bits, one to the left.
    pub qmgr_flags: i64,
    /// The size that is logged and told to the next hop.
    pub message_size: i64,
    pub smtputf8: i64,
}

impl SizeRecord {
    /// Recipients stand among other records: all of the file must be scanned for them.
    pub const MIXED: i64 = 1;
    /// Octets of the data.
    pub const LENGTH: usize = 95;

    #[must_use]
    pub fn print(&self) -> String {
        format!(
            "{:15} {:15} {:15} {:15} {:15} {:15}",
            self.content_length,
            self.data_offset,
            self.recipients,
            self.qmgr_flags,
            self.message_size,
            self.smtputf8
        )
    }

    /// Takes the forms of 1 and of 3 to 6 fields that older versions wrote.
    ///
    /// # Errors
    ///
    /// [`Damage::Malformed`].
    pub fn parse(data: &[u8]) -> Result<Self, Damage> {
        let bad = || Damage::Malformed("size");
        let text = std::str::from_utf8(data).map_err(|_| bad())?;
        let numbers = text
            .split_ascii_whitespace()
            .map(|word| word.parse::<i64>().ok().filter(|&number| number >= 0))
            .collect::<Option<Vec<i64>>>()
            .ok_or_else(bad)?;
        let mut fields = [0; 6];
        if !matches!(numbers.len(), 1 | 3..=6) {
            return Err(bad());
        }
        fields.iter_mut().zip(&numbers).for_each(|(field, number)| *field = *number);
        let [content_length, data_offset, recipients, qmgr_flags, size, smtputf8] = fields;
        let message_size = if numbers.len() >= 5 { size } else { content_length };
        Ok(Self { content_length, data_offset, recipients, qmgr_flags, message_size, smtputf8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_captured_record_is_printed_back() {
        let captured = "            296             757               2               8             296               0";
        let size = SizeRecord::parse(captured.as_bytes()).unwrap();
        assert_eq!((size.content_length, size.data_offset, size.recipients), (296, 757, 2));
        assert_eq!(size.print(), captured);
        assert_eq!(captured.len(), SizeRecord::LENGTH);
        assert_eq!(SizeRecord::parse(b"  12").unwrap().message_size, 12);
        for bad in ["", "1 2", "1 2 3 4 5 6 7", "a b c", "-1 2 3"] {
            assert!(SizeRecord::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
