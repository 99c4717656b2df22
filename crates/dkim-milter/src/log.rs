//! OpenDKIM's log lines.

use crate::outcome::Level;
use crate::settings::Settings;

/// Logs under OpenDKIM's name; without `Syslog` nothing but faults that the operator has to mend.
pub fn write(settings: &Settings, lines: Vec<(Level, String)>) {
    if !settings.log.syslog {
        return;
    }
    let ident = settings.log.name.as_str();
    for (level, text) in lines {
        match level {
            Level::Error => tracing::error!(target: "mail", ident, "{text}"),
            Level::Warning => tracing::warn!(target: "mail", ident, "{text}"),
            Level::Notice => tracing::info!(target: "mail", ident, priority = 5_u64, "{text}"),
            Level::Info => tracing::info!(target: "mail", ident, "{text}"),
            Level::Debug => tracing::debug!(target: "mail", ident, "{text}"),
        }
    }
}
