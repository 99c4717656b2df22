//! `docs/settings.md`, made from the register.

use std::fmt::Write as _;

use crate::register::{Fact, Mark};
use crate::usage::PRODUCTS;

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         What Theoris does with each setting of Postfix 3.4 to 3.11, Dovecot 2.3 and 2.4, and OpenDKIM 2.11. \
         Made from `crates/config/register`; do not edit.\n\n\
         - **supported**: obeyed as the original does.\n\
         - **differs**: obeyed, with the difference told.\n\
         - **harmless**: about internals of the original that Theoris does not have.\n\
         - **unsupported**: not obeyed; the text tells what happens instead. *refused*: a daemon that would read it \
         does not start when the file sets it to something else than its default, since ignoring it would change what \
         is accepted, relayed, delivered or exposed.\n\n\
         Postfix's per-transport settings (`smtp_destination_rate_delay` and the like) have the mark of their `default_…`.\n",
    );
    for product in PRODUCTS {
        let count = |mark: Mark| product.facts.iter().filter(|fact| fact.mark == mark).count();
        let _ = write!(
            page,
            "\n## {}\n\n{} settings: {} supported, {} differ, {} harmless, {} unsupported.\n\n| setting | versions | mark | |\n|---|---|---|---|\n",
            product.name,
            product.facts.len(),
            count(Mark::Supported),
            count(Mark::Differs),
            count(Mark::Harmless),
            count(Mark::Unsupported)
        );
        for fact in product.facts {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                fact.name,
                versions(fact),
                mark(fact),
                cell(fact.sentence)
            );
        }
    }
    page
}

fn versions(fact: &Fact) -> String {
    match (fact.since, fact.until) {
        ("-", "-") => String::new(),
        ("-", until) => format!("to {until}"),
        (since, "-") => format!("from {since}"),
        (since, until) => format!("{since} to {until}"),
    }
}

fn mark(fact: &Fact) -> &'static str {
    use crate::register::Ignored::{Refuse, Tell};
    match (fact.mark, fact.ignored) {
        (Mark::Supported, _) => "supported",
        (Mark::Differs, _) => "differs",
        (Mark::Harmless, _) => "harmless",
        (Mark::Unsupported, Tell) => "unsupported",
        (Mark::Unsupported, Refuse) => "unsupported, refused",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/settings.md` is what the register says today; `THEORIS_BLESS=1` writes it.
    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        if std::env::var_os("THEORIS_BLESS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/settings.md is old: THEORIS_BLESS=1 cargo test -p config docs"
        );
    }
}
