//! Session ids as Dovecot prints them: 128 bits in base64, with counters behind.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A new id, 22 characters.
pub fn new(hostname: &str) -> String {
    let hex = mailstore::host::guid(hostname);
    let nibble =
        |at: usize| hex.as_bytes().get(at).and_then(|&digit| char::from(digit).to_digit(16));
    let bits = |at: usize| {
        // Six bits from bit `at` on; beyond the end they are zero.
        (at..at + 6).fold(0, |value, bit| {
            let nibble = nibble(bit / 4).unwrap_or(0);
            (value << 1) | ((nibble >> (3 - bit % 4)) & 1)
        })
    };
    (0..22).map(|digit| char::from(ALPHABET[bits(digit * 6) as usize])).collect()
}

/// Of the n-th transaction of the connection and, in it, the n-th recipient.
pub fn numbered(id: &str, transaction: u32, recipient: u32) -> String {
    let transaction = if transaction > 1 { format!(":T{transaction}") } else { String::new() };
    let recipient = if recipient > 1 { format!(":R{recipient}") } else { String::new() };
    format!("{id}{transaction}{recipient}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_dovecots() {
        let id = new("mx1.example.com");
        assert_eq!(id.len(), 22);
        assert_ne!(id, new("mx1.example.com"));
        assert_eq!(numbered("X", 1, 1), "X");
        assert_eq!(numbered("X", 3, 2), "X:T3:R2");
    }
}
