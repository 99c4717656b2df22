//! DNS failures in Postfix's words, and which of several counts.

use dns::Failure;

/// As `getaddrinfo` words it.
#[must_use]
pub fn address_text(failure: &Failure) -> &'static str {
    match failure {
        Failure::NoDomain => "Name or service not known",
        Failure::NoData => "No address associated with hostname",
        _ => "Temporary failure in name resolution",
    }
}

/// As the whole reason of a failed lookup.
#[must_use]
pub fn lookup_text(failure: &Failure, name: &str, kind: &str) -> String {
    format!(
        "Host or domain name not found. Name service error for name={name} type={kind}: {}",
        failure.reason()
    )
}

/// The failure that counts of two: a temporary one outweighs an absence.
#[must_use]
pub fn softest(first: Failure, second: Failure) -> Failure {
    if second.is_temporary() || first.is_absence() { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_failure_outweighs_an_absence() {
        assert_eq!(softest(Failure::TimedOut, Failure::NoData), Failure::TimedOut);
        assert_eq!(softest(Failure::NoDomain, Failure::TimedOut), Failure::TimedOut);
        assert_eq!(softest(Failure::NoDomain, Failure::NoData), Failure::NoData);
    }
}
