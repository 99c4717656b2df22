//! Macros: what the filters are told of the session, by name.

use bytes::Bytes;
use protocol::milter::MacroClass;
use protocol::postfix::milter::MacroLists;

/// Where values come from.
pub trait Macros: Sync {
    /// The value of a macro, whose name is without braces; nothing if it has none now.
    fn value(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String> + Sync> Macros for F {
    fn value(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// The names of a class.
pub(super) fn list(lists: &MacroLists, class: MacroClass) -> &str {
    match class {
        MacroClass::Connect => &lists.connect,
        MacroClass::Helo => &lists.helo,
        MacroClass::Mail => &lists.mail,
        MacroClass::Rcpt => &lists.rcpt,
        MacroClass::Data => &lists.data,
        MacroClass::Eoh => &lists.end_of_header,
        MacroClass::Eom => &lists.end_of_data,
        MacroClass::Unknown => &lists.unknown,
    }
}

/// Sets the names of a class.
pub(super) fn set(lists: &mut MacroLists, class: MacroClass, names: String) {
    let place = match class {
        MacroClass::Connect => &mut lists.connect,
        MacroClass::Helo => &mut lists.helo,
        MacroClass::Mail => &mut lists.mail,
        MacroClass::Rcpt => &mut lists.rcpt,
        MacroClass::Data => &mut lists.data,
        MacroClass::Eoh => &mut lists.end_of_header,
        MacroClass::Eom => &mut lists.end_of_data,
        MacroClass::Unknown => &mut lists.unknown,
    };
    *place = names;
}

/// Names and values for the wire: as the list spells them, and only those that have a value or a default.
pub(super) fn values(
    names: &str,
    defaults: &[(String, String)],
    macros: &impl Macros,
) -> Vec<(Bytes, Bytes)> {
    let words = names.split([' ', ',', '\t', '\r', '\n']).filter(|word| !word.is_empty());
    let value = |name: &str| {
        let bare = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        macros.value(bare).or_else(|| {
            let default = defaults.iter().find(|(known, _)| {
                known.strip_prefix('{').and_then(|known| known.strip_suffix('}')) == Some(bare)
            });
            default.map(|(_, value)| value.clone())
        })
    };
    words.filter_map(|name| Some((name.to_owned().into(), value(name)?.into()))).collect()
}
