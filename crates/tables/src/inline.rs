//! Tables written out in the setting itself: `inline:{k=v, {k = v w}}`.

use routing::tables::{split_list, unbraced};

use crate::fixed::{Fixed, fold};

/// Reads the part behind `inline:`.
///
/// # Errors
///
/// Postfix's text for what is wrong.
pub fn parse(text: &str) -> Result<Fixed, String> {
    let items = braced_items(text).filter(|items| !items.is_empty()).ok_or_else(|| {
        format!("bad syntax: \"inline:{text}\"; need \"inline:{{name=value...}}\"")
    })?;
    let mut table = Fixed::new();
    for item in items {
        let (name, value) = unbraced(item).split_once('=').ok_or_else(|| {
            format!(
                "missing '=' after attribute name: \"inline:{text}\"; need \"inline:{{name=value...}}\""
            )
        })?;
        // Unlike in a file, the last of two equal keys counts.
        table.insert(fold(name.trim()), value.trim().to_owned());
    }
    Ok(table)
}

/// The items of `{a, b {c d}}`; `None` without the outer braces.
pub fn braced_items(text: &str) -> Option<Vec<&str>> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    Some(split_list(inside))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn inline_tables_hold_blanks_only_in_braces() {
        let table = parse("{x=1,{y = 2 3}, Z=5}").unwrap();
        assert_eq!(
            (table["x"].as_str(), table["y"].as_str(), table["z"].as_str()),
            ("1", "2 3", "5")
        );
        insta::assert_snapshot!(parse("{x=a b}").unwrap_err(),
            @r#"missing '=' after attribute name: "inline:{x=a b}"; need "inline:{name=value...}""#);
        insta::assert_snapshot!(parse("{}").unwrap_err(), @r#"bad syntax: "inline:{}"; need "inline:{name=value...}""#);
    }
}
