//! Options as Perl's Getopt::Long reads them with bundling, and getopt(3): `-b 2048`, `-b2048`, `-rt`, `--bits=2048`.

/// An option: its letter or nothing, its long name or nothing, whether a value follows.
pub type Known = (char, &'static str, bool);

/// Reads `words`. Each option comes as its first name; `--no-NAME` and `--noNAME` come as `!NAME`.
///
/// # Errors
///
/// `Err` with the word that is no option.
pub fn read(words: &[String], known: &[Known]) -> Result<Vec<(String, String)>, String> {
    let mut options = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = |inline: Option<&str>| match inline {
            Some(text) => Some(text.to_owned()),
            None => rest.next().cloned(),
        };
        if let Some(long) = word.strip_prefix("--") {
            let (name, inline) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let positive = name.strip_prefix("no-").or_else(|| name.strip_prefix("no"));
            if let Some((letter, name, takes)) = known.iter().find(|(_, long, _)| *long == name) {
                let text =
                    if *takes { value(inline).ok_or_else(|| word.clone())? } else { String::new() };
                options.push((shown(*letter, name), text));
            } else if let Some((letter, name, false)) =
                known.iter().find(|(_, long, _)| Some(*long) == positive && !long.is_empty())
            {
                options.push((format!("!{}", shown(*letter, name)), String::new()));
            } else {
                return Err(word.clone());
            }
            continue;
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            return Err(word.clone());
        };
        for (at, letter) in letters.char_indices() {
            let found = known.iter().find(|(one, ..)| *one == letter && letter != '\0');
            let Some((_, name, takes)) = found else { return Err(word.clone()) };
            if *takes {
                let after = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                let text = value(Some(after).filter(|text| !text.is_empty()));
                options.push((shown(letter, name), text.ok_or_else(|| word.clone())?));
                break;
            }
            options.push((shown(letter, name), String::new()));
        }
    }
    Ok(options)
}

fn shown(letter: char, name: &str) -> String {
    if letter == '\0' { name.to_owned() } else { letter.to_string() }
}
