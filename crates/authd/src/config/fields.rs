//! `name=value name=value`: the fields that a passdb or userdb is given in the configuration.

use super::template;
use crate::settings::Field;
use ::config::{Place, Problems};

/// Reads fields that are divided by blanks. A word without `=` is a flag.
pub fn read(text: &str, setting: &str, place: &Place, problems: &mut Problems) -> Vec<Field> {
    let words = text.split_ascii_whitespace();
    let fields = words.filter_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value = template(value, Some(place.clone()), setting, problems)?;
        Some(Field { name: name.to_owned(), value })
    });
    fields.collect()
}

/// Turns names of users and groups into numbers: the workers cannot look groups up.
pub fn resolve(fields: &mut [Field], place: &Place, problems: &mut Problems) {
    for field in fields {
        let name = field.value.text();
        if !field.value.is_literal() || name.is_empty() || name.parse::<u32>().is_ok() {
            continue;
        }
        let number = match field.name.trim_start_matches("userdb_") {
            "uid" => daemon::Account::named(name).map(|account| account.uid),
            "gid" => daemon::privileges::group(name),
            _ => continue,
        };
        match number {
            Ok(number) => {
                if let Ok(value) = crate::template::Template::parse(&number.to_string()) {
                    field.value = value;
                }
            }
            Err(why) => {
                let text = format!("{}={name}: {why}", field.name);
                problems.error(place.clone(), text).instead("write its number, or add it");
            }
        }
    }
}
