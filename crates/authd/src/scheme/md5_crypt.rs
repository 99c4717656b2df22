//! `$1$salt$hash`: Poul-Henning Kamp's MD5-crypt, which old password files still hold.

use crypto::{Digest, Hash};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The whole `$1$salt$hash` of a password. Of the salt eight bytes count.
pub(super) fn hash(password: &[u8], salt: &[u8]) -> String {
    let salt = &salt[..salt.len().min(8)];
    let mut first = Digest::new(Hash::Md5);
    first.update(&[password, b"$1$", salt].concat());
    let alternate = Hash::Md5.of(&[password, salt, password].concat());
    for chunk in password.chunks(16) {
        first.update(&alternate[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // PHK's code meant something else here; everybody has kept it
        first.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest = first.finish();
    for round in 0..1000 {
        let odd = round % 2 == 1;
        let mut next = Digest::new(Hash::Md5);
        next.update(if odd { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &digest } else { password });
        digest = next.finish();
    }
    let mut text = String::from("$1$");
    text.push_str(&String::from_utf8_lossy(salt));
    text.push('$');
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        let group = u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c]);
        encode(group, 4, &mut text);
    }
    encode(u32::from(digest[11]), 2, &mut text);
    text
}

fn encode(mut group: u32, digits: usize, text: &mut String) {
    for _ in 0..digits {
        text.push(char::from(ALPHABET[(group & 63) as usize]));
        group >>= 6;
    }
}
