//! How smtpd hands its milters to cleanup, in the middle of the envelope's records (`m`).
//!
//! The record says how many; then come attributes without an end, an empty answer, the filter's socket on one octet,
//! another empty answer, and so on for each filter; the server ends with a status. Both sides are here.

use super::attr::{AttrError, AttrList, AttrWriter, Fields, excerpt};

/// The macros that are sent at each stage: names divided by blanks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MacroLists {
    pub connect: String,
    pub helo: String,
    pub mail: String,
    pub rcpt: String,
    pub data: String,
    pub end_of_header: String,
    pub end_of_data: String,
    pub unknown: String,
}

/// A filter in the middle of its conversation. The words are those of Postfix's milter client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedMilter {
    /// `inet:host:port`, `unix:path`.
    pub name: String,
    pub version: u32,
    pub actions: u32,
    /// What the filter answered, and what its version does not know.
    pub steps: u32,
    pub withheld: u32,
    /// [`READY`] or [`ENVELOPE`].
    pub state: u32,
    /// Seconds.
    pub connect_timeout: u32,
    pub command_timeout: u32,
    pub content_timeout: u32,
    /// `milter_default_action`.
    pub action: String,
    /// Lists that the filter asked for; empty ones stand for the common list.
    pub macros: Option<MacroLists>,
}

/// No client has been told to the filter.
pub const READY: u32 = 3;
/// The filter waits for a transaction or is in one.
pub const ENVELOPE: u32 = 4;

/// Most filters that one message may have.
pub const MOST_MILTERS: usize = 100;

/// What is said once, before the first filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    pub macros: MacroLists,
    /// `milter_macro_defaults`: names with braces.
    pub defaults: Vec<(String, String)>,
}

impl MacroLists {
    fn write(&self, list: &mut AttrWriter) {
        for (name, value) in [
            ("conn_macros", &self.connect),
            ("helo_macros", &self.helo),
            ("mail_macros", &self.mail),
            ("rcpt_macros", &self.rcpt),
            ("data_macros", &self.data),
            ("eoh_macros", &self.end_of_header),
            ("eod_macros", &self.end_of_data),
            ("unk_macros", &self.unknown),
        ] {
            list.text(name, value);
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, AttrError> {
        Ok(Self {
            connect: fields.string("conn_macros")?,
            helo: fields.string("helo_macros")?,
            mail: fields.string("mail_macros")?,
            rcpt: fields.string("rcpt_macros")?,
            data: fields.string("data_macros")?,
            end_of_header: fields.string("eoh_macros")?,
            end_of_data: fields.string("eod_macros")?,
            unknown: fields.string("unk_macros")?,
        })
    }
}

impl Common {
    /// Without an end: the first filter follows in the same list.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        self.macros.write(&mut list);
        list.text("size", self.defaults.len().to_string());
        let mut bytes = list.unfinished();
        if !self.defaults.is_empty() {
            let mut table = AttrWriter::new();
            self.defaults.iter().for_each(|(name, value)| table.text(name, value));
            bytes.extend_from_slice(b"{\0");
            bytes.extend_from_slice(&table.unfinished());
            bytes.extend_from_slice(b"}\0");
        }
        bytes
    }
}

impl HandedMilter {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        list.text("milter_name", &self.name);
        list.uint("milter_version", self.version);
        list.uint("milter_actions", self.actions);
        list.uint("milter_events", self.steps);
        list.uint("milter_non_events", self.withheld);
        list.uint("milter_state", self.state);
        list.uint("milter_conn_timeout", self.connect_timeout);
        list.uint("milter_cmd_timeout", self.command_timeout);
        list.uint("milter_msg_timeout", self.content_timeout);
        list.text("milter_action", &self.action);
        list.uint("milter_macro_list", u32::from(self.macros.is_some()));
        if let Some(macros) = &self.macros {
            macros.write(&mut list);
        }
        list.end()
    }

    /// Reads the list of a filter; the first one of a message has [`Common`] in front of it.
    ///
    /// # Errors
    ///
    /// [`AttrError`] if the list is another one.
    pub fn decode(list: &AttrList) -> Result<(Option<Common>, Self), AttrError> {
        let mut fields = list.fields();
        let common = match fields.peek() {
            Some("conn_macros") => Some(Common::read(&mut fields)?),
            _ => None,
        };
        let mut milter = Self {
            name: fields.string("milter_name")?,
            version: fields.uint("milter_version")?,
            actions: fields.uint("milter_actions")?,
            steps: fields.uint("milter_events")?,
            withheld: fields.uint("milter_non_events")?,
            state: fields.uint("milter_state")?,
            connect_timeout: fields.uint("milter_conn_timeout")?,
            command_timeout: fields.uint("milter_cmd_timeout")?,
            content_timeout: fields.uint("milter_msg_timeout")?,
            action: fields.string("milter_action")?,
            macros: None,
        };
        if fields.uint("milter_macro_list")? != 0 {
            milter.macros = Some(MacroLists::read(&mut fields)?);
        }
        fields.finish()?;
        Ok((common, milter))
    }
}

impl Common {
    fn read(fields: &mut Fields<'_>) -> Result<Self, AttrError> {
        let macros = MacroLists::read(fields)?;
        let size = fields.uint("size")?;
        let mut defaults = Vec::new();
        if size > 0 {
            defaults = fields.table()?;
            if u32::try_from(defaults.len()) != Ok(size) {
                return Err(AttrError::Value { name: "size", value: excerpt(&size.to_string()) });
            }
        }
        Ok(Self { macros, defaults })
    }
}

/// The server's empty answer before and after a socket.
#[must_use]
pub fn acknowledgement() -> Vec<u8> {
    let mut list = AttrWriter::new();
    list.text("dummy", "");
    list.end()
}

/// # Errors
///
/// [`AttrError`] if the list is no empty answer.
pub fn read_acknowledgement(list: &AttrList) -> Result<(), AttrError> {
    let mut fields = list.fields();
    fields.text("dummy")?;
    fields.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As captured from Postfix 3.7.11 with one filter.
    const CAPTURED: &[u8] = b"conn_macros\0j {daemon_name} {daemon_addr} v _\0helo_macros\0{tls_version}\0\
        mail_macros\0i\0rcpt_macros\0i\0data_macros\0i\0eoh_macros\0i\0eod_macros\0i\0unk_macros\0\0size\x000\0\
        milter_name\0inet:127.0.0.1:10030\0milter_version\x006\0milter_actions\x00511\0milter_events\x000\0\
        milter_non_events\x000\0milter_state\x004\0milter_conn_timeout\x0030\0milter_cmd_timeout\x0030\0\
        milter_msg_timeout\x00300\0milter_action\0tempfail\0milter_macro_list\x000\0\0";

    #[test]
    fn the_captured_list_is_read_and_written_back() {
        let (common, milter) = HandedMilter::decode(&AttrList::parse(CAPTURED).unwrap()).unwrap();
        let common = common.unwrap();
        assert_eq!((milter.state, milter.name.as_str()), (ENVELOPE, "inet:127.0.0.1:10030"));
        assert_eq!([common.encode(), milter.encode()].concat(), CAPTURED);
    }

    #[test]
    fn defaults_and_lists_of_a_filter_survive() {
        let common = Common {
            defaults: vec![("{a}".into(), "1".into()), ("{b}".into(), String::new())],
            ..Common::default()
        };
        let macros = MacroLists { end_of_header: "i {x}".into(), ..MacroLists::default() };
        let milter = HandedMilter { macros: Some(macros), ..HandedMilter::default() };
        let list = AttrList::parse(&[common.encode(), milter.encode()].concat()).unwrap();
        assert_eq!(HandedMilter::decode(&list), Ok((Some(common), milter.clone())));
        let list = AttrList::parse(&milter.encode()).unwrap();
        assert_eq!(HandedMilter::decode(&list), Ok((None, milter)));
    }
}
