//! Groups of attributes that several protocols share.

use super::attr::{AttrError, AttrWriter, Fields};

/// A recipient as the queue manager hands it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// Before aliases were expanded; internal form.
    pub original: String,
    /// Internal form.
    pub address: String,
    /// Where its record stands in the queue file; -1 or 0: do not mark it.
    pub offset: i64,
    /// `rfc822;user@example.com`, or empty.
    pub dsn_original: String,
    /// Bits of `mail_types::Notify`.
    pub notify: u32,
}

impl Recipient {
    pub(super) fn write(&self, to: &mut AttrWriter) {
        to.text("original_recipient", &self.original);
        to.text("recipient", &self.address);
        to.long("offset", self.offset);
        to.text("dsn_orig_rcpt", &self.dsn_original);
        to.uint("notify_flags", self.notify);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, AttrError> {
        Ok(Self {
            original: fields.string("original_recipient")?,
            address: fields.string("recipient")?,
            offset: fields.long("offset")?,
            dsn_original: fields.string("dsn_orig_rcpt")?,
            notify: fields.uint("notify_flags")?,
        })
    }
}

/// What happened to a recipient or a destination, in the terms of a delivery status notification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dsn {
    /// `5.1.1`, or empty for "nothing to say".
    pub status: String,
    /// `smtp` or `x-unix`, with `diag_text`; or both empty.
    pub diag_type: String,
    pub diag_text: String,
    /// `dns`, with `mta_name`; or both empty.
    pub mta_type: String,
    pub mta_name: String,
    /// `failed`, `delayed`, `delivered`, `relayed`, `expanded`, `deliverable`, `undeliverable`.
    pub action: String,
    pub reason: String,
}

impl Dsn {
    /// A status of our own, without a remote party.
    #[must_use]
    pub fn local(status: &str, action: &str, reason: &str) -> Self {
        Self {
            status: status.to_owned(),
            action: action.to_owned(),
            reason: reason.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn write(&self, to: &mut AttrWriter) {
        to.text("status", &self.status);
        to.text("diag_type", &self.diag_type);
        to.text("diag_text", &self.diag_text);
        to.text("mta_type", &self.mta_type);
        to.text("mta_mname", &self.mta_name);
        to.text("action", &self.action);
        to.text("reason", &self.reason);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, AttrError> {
        Ok(Self {
            status: fields.string("status")?,
            diag_type: fields.string("diag_type")?,
            diag_text: fields.string("diag_text")?,
            mta_type: fields.string("mta_type")?,
            mta_name: fields.string("mta_mname")?,
            action: fields.string("action")?,
            reason: fields.string("reason")?,
        })
    }
}
