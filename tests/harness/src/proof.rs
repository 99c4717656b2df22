//! What a test leaves out while `cargo xtask proofs` tries whether it notices that a setting is forgotten.

/// The setting that our programs leave out.
pub fn forgotten() -> Option<String> {
    let forgotten = std::env::var("THEORIS_FORGET").ok()?;
    forgotten.split_once(' ').map(|(_, name)| name.to_owned())
}

/// Leaves the cases that set the forgotten setting. All stay where none does, since it then is in what they share.
pub fn keep_concerned<C>(cases: &mut Vec<C>, sets: impl Fn(&C, &str) -> bool) {
    if let Some(forgotten) = forgotten()
        && cases.iter().any(|case| sets(case, &forgotten))
    {
        cases.retain(|case| sets(case, &forgotten));
    }
}

/// One problem is enough to show that a setting is missed.
pub fn is_found<P>(problems: &[P]) -> bool {
    !problems.is_empty() && forgotten().is_some()
}
