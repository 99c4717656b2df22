//! What only IMAP's login conversation is told.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoginSettings {
    /// `imap_id_send`
    pub id_send: String,
    /// `imap_id_log`
    pub id_log: String,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self { id_send: "name *".to_owned(), id_log: String::new() }
    }
}
