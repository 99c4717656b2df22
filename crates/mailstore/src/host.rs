//! Names that no other process makes: Maildir file names and GUIDs.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's name as Dovecot puts it into file names and lock files.
#[must_use]
pub fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name: String = name
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_graphic() && !"/:,".contains(*c))
        .collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Microseconds since the epoch that this process has not handed out before.
fn unique_micros() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX / 2);
    let next = |last: u64| Some(now.max(last + 1));
    match LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
        Ok(last) | Err(last) => now.max(last + 1),
    }
}

/// A Maildir name that is new on this host: `1795295627.M885745P448.mx1.example.com`.
#[must_use]
pub fn unique_name(hostname: &str) -> String {
    let micros = unique_micros();
    format!("{}.M{}P{}.{hostname}", micros / 1_000_000, micros % 1_000_000, process::id())
}

/// A new 128-bit GUID in 32 hexadecimal digits, from time, process and host as Dovecot makes them.
#[must_use]
pub fn guid(hostname: &str) -> String {
    let micros = unique_micros();
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let host = hostname
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let micros = u32::try_from(micros * 1000).unwrap_or_default();
    let seconds = u32::try_from(seconds & 0xffff_ffff).unwrap_or_default();
    let bytes = [
        micros.to_le_bytes(),
        seconds.to_le_bytes(),
        process::id().to_le_bytes(),
        host.to_le_bytes(),
    ];
    bytes.iter().flatten().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_differ_even_within_a_microsecond() {
        let names: HashSet<String> = (0..1000).map(|_| unique_name("h")).collect();
        assert_eq!(names.len(), 1000);
        assert_eq!(guid("h").len(), 32);
        assert_ne!(guid("h"), guid("h"));
    }
}
