//! Makes the typed constants of each product from its register.
//!
//! A row marked `supported` or `differs` becomes `pub const NAME: Setting<Kind>`; every row becomes a
//! `Fact`. So code that names a setting which we do not obey does not compile.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, error, fs};

type Outcome<T> = Result<T, Box<dyn error::Error>>;

const COLUMNS: &str = "name\tsince\tuntil\ttype\tdefault\treaders\tmark\tignored\tsentence\ttest";

fn main() -> Outcome<()> {
    println!("cargo::rerun-if-changed=build.rs");
    for product in ["postfix", "dovecot", "opendkim"] {
        let table = format!("register/{product}.tsv");
        println!("cargo::rerun-if-changed={table}");
        let text = fs::read_to_string(&table)?;
        let code = constants(&text).map_err(|problem| format!("{table}:{problem}"))?;
        let out = env::var("OUT_DIR")?;
        fs::write(Path::new(&out).join(format!("{product}.rs")), code)?;
    }
    Ok(())
}

fn constants(table: &str) -> Outcome<String> {
    let mut facts = String::new();
    let mut names = String::new();
    let mut seen = BTreeSet::new();
    let mut previous = "";
    for (index, line) in table.lines().enumerate() {
        if index == 0 {
            if line != COLUMNS {
                return Err(format!("1: the columns must be {COLUMNS:?}").into());
            }
            continue;
        }
        let number = index + 1;
        let row: Vec<&str> = line.split('\t').collect();
        let &[name, since, until, kind, default, readers, mark, ignored, sentence, test] =
            row.as_slice()
        else {
            return Err(format!("{number}: {} columns instead of 10", row.len()).into());
        };
        if name <= previous {
            return Err(format!(
                "{number}: {name} must come before {previous}: rows are sorted by name"
            )
            .into());
        }
        previous = name;
        let mark = mark_of(mark).ok_or_else(|| format!("{number}: unknown mark {mark}"))?;
        let ignored = match ignored {
            "tell" => "Tell",
            "refuse" => "Refuse",
            other => {
                return Err(format!("{number}: ignored must be tell or refuse, not {other}").into());
            }
        };
        let (kind, detail) = kind.split_once(' ').unwrap_or((kind, ""));
        let typed = kind_of(kind).ok_or_else(|| format!("{number}: unknown type {kind}"))?;
        writeln!(
            facts,
            "    Fact {{ name: {name:?}, since: {since:?}, until: {until:?}, kind: {kind:?}, detail: {detail:?}, default: {default:?}, \
             readers: {readers:?}, mark: Mark::{mark}, ignored: Ignored::{ignored}, sentence: {sentence:?}, test: {test:?} }},"
        )?;
        // Settings of Dovecot 2.4 are read in the words of 2.3.
        if matches!(mark, "Supported" | "Differs") && since != "2.4" {
            let constant = constant_name(name);
            if !seen.insert(constant.clone()) {
                return Err(format!("{number}: two settings would be called {constant}").into());
            }
            let about = format!("`{name}`");
            writeln!(
                names,
                "#[doc = {about:?}]\npub const {constant}: Setting<kind::{typed}> = Setting::of(&FACTS[{}]);",
                index - 1
            )?;
        }
    }
    Ok(format!(
        "/// Every known setting, sorted by name.\npub static FACTS: &[Fact] = &[\n{facts}];\n\n{names}"
    ))
}

fn mark_of(mark: &str) -> Option<&'static str> {
    Some(match mark {
        "supported" => "Supported",
        "differs" => "Differs",
        "harmless" => "Harmless",
        "unsupported" => "Unsupported",
        _ => return None,
    })
}

fn kind_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "bool" => "Bool",
        "integer" => "Integer",
        "time" => "Time",
        "size" => "Size",
        "text" => "Text",
        "raw" => "Raw",
        "list" => "List",
        "choice" => "Choice",
        "maps" => "Maps",
        "matches" => "Matches",
        "networks" => "Networks",
        "restrictions" => "Restrictions",
        "mode" => "Mode",
        "file" => "File",
        "section" => "Section",
        _ => return None,
    })
}

/// `service/unix_listener/mode` is SERVICE_UNIX_LISTENER_MODE, `2bounce_notice_recipient` N2BOUNCE_NOTICE_RECIPIENT.
fn constant_name(name: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let constant: String = name.chars().map(word).collect();
    if constant.starts_with(|c: char| c.is_ascii_digit()) {
        format!("N{constant}")
    } else {
        constant
    }
}
