//! The client's half of the password mechanisms, for servers that were given a name and a password.

/// The response of PLAIN (RFC 4616) for a user who acts as himself.
#[must_use]
pub fn plain(user: &[u8], password: &[u8]) -> Vec<u8> {
    let mut response = Vec::with_capacity(user.len() + password.len() + 2);
    response.push(0);
    response.extend_from_slice(user);
    response.push(0);
    response.extend_from_slice(password);
    response
}
