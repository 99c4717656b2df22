//! From a table's name to where its content comes from.

use std::path::PathBuf;

use config::postfix::foreign_table_type;
use routing::TableName;
use routing::tables::unbraced;

use crate::cidr::Cidr;
use crate::content::{Account, Content};
use crate::fixed::{self, Fixed};
use crate::inline::{self, braced_items};
use crate::pattern::{Flavour, Patterns};
use crate::source::{Line, Note, lines};

/// Where the content of a table comes from.
pub enum Spec {
    File { path: PathBuf, form: Form, commit: Commit },
    Ready(Content, Vec<Note>),
    Union(Vec<TableName>),
    Pipe(Vec<TableName>),
    Accounts(Account),
}

/// The syntax of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Postmap,
    Aliases,
    Cidr,
    Patterns(Flavour),
}

/// When a change of the text takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// At once.
    Text,
    /// When the indexed file beside it is renewed (`postmap`, `newaliases`), if there is one.
    Index(PathBuf),
}

impl Spec {
    /// Understands `name`. `aliases` says that the setting it stands in holds alias(5) files.
    ///
    /// # Errors
    ///
    /// Postfix's text for what is wrong with the name.
    pub fn parse(name: &TableName, aliases: bool) -> Result<Self, String> {
        let whole = name.as_str();
        let (kind, rest) =
            whole.split_once(':').filter(|(_, rest)| !rest.is_empty()).ok_or_else(|| {
                format!("open dictionary: expecting \"type:name\" form instead of \"{whole}\"")
            })?;
        let form = if aliases { Form::Aliases } else { Form::Postmap };
        let indexed = |ending: &str| Self::File {
            path: rest.into(),
            form,
            commit: Commit::Index(format!("{rest}.{ending}").into()),
        };
        match kind {
            "hash" | "btree" => Ok(indexed("db")),
            "lmdb" => Ok(indexed("lmdb")),
            "cdb" => Ok(indexed("cdb")),
            "texthash" => Ok(Self::file(rest, Form::Postmap)),
            "cidr" => Ok(Self::written_out(rest, Form::Cidr)),
            "regexp" => Ok(Self::written_out(rest, Form::Patterns(Flavour::Regexp))),
            "pcre" => Ok(Self::written_out(rest, Form::Patterns(Flavour::Pcre))),
            "static" => Ok(Self::Ready(Content::Static(unbraced(rest).to_owned()), Vec::new())),
            "inline" => Ok(Self::Ready(Content::Fixed(inline::parse(rest)?), Vec::new())),
            "fail" => {
                Ok(Self::Ready(Content::Fails("lookup error: fail table".to_owned()), Vec::new()))
            }
            "randmap" => {
                let answers = list_of(kind, rest, "value")?;
                let answers = answers.iter().map(|&item| unbraced(item).to_owned()).collect();
                Ok(Self::Ready(Content::Random(answers), Vec::new()))
            }
            "unionmap" => Ok(Self::Union(names(kind, rest)?)),
            "pipemap" => Ok(Self::Pipe(names(kind, rest)?)),
            "proxy" => Self::parse(&TableName::new(rest), aliases),
            "unix" => match rest {
                "passwd.byname" => Ok(Self::Accounts(Account::User)),
                "group.byname" => Ok(Self::Accounts(Account::Group)),
                other => Err(format!("unknown table: unix:{other}")),
            },
            "nis" if foreign_table_type(kind).is_none() => {
                Ok(Self::Ready(Content::Fixed(Fixed::new()), Vec::new()))
            }
            other => Err(foreign_table_type(other)
                .unwrap_or_else(|| format!("unsupported dictionary type: {other}"))),
        }
    }

    fn file(path: &str, form: Form) -> Self {
        Self::File { path: path.into(), form, commit: Commit::Text }
    }

    /// `{{rule} {rule}}` in the setting itself (Postfix 3.7 and later), or a file.
    fn written_out(rest: &str, form: Form) -> Self {
        let Some(items) = braced_items(rest) else { return Self::file(rest, form) };
        let lines = items
            .iter()
            .enumerate()
            .map(|(at, item)| Line { number: at + 1, text: unbraced(item).to_owned() })
            .collect();
        let (content, notes) = form.read_lines(lines, Vec::new());
        Self::Ready(content, notes)
    }
}

/// What is wrong with a table, or with one that it is made of, that can never answer, whatever files hold: of its type the
/// original asks a server or a library that we have not, there is no such type, or the name itself is in bad syntax.
#[must_use]
pub fn unusable(name: &TableName) -> Option<String> {
    match Spec::parse(name, false) {
        Ok(Spec::Union(names) | Spec::Pipe(names)) => names.iter().find_map(unusable),
        Ok(_) => None,
        Err(why) => Some(why),
    }
}

impl Form {
    pub fn read(self, bytes: &[u8]) -> (Content, Vec<Note>) {
        match self {
            Self::Postmap => {
                let (table, notes) = fixed::parse(bytes);
                (Content::Fixed(table), notes)
            }
            Self::Aliases => {
                let (table, notes) = crate::alias::parse(bytes);
                (Content::Fixed(table), notes)
            }
            Self::Cidr | Self::Patterns(_) => {
                let mut notes = Vec::new();
                let lines = lines(bytes, &mut notes);
                self.read_lines(lines, notes)
            }
        }
    }

    fn read_lines(self, lines: Vec<Line>, mut notes: Vec<Note>) -> (Content, Vec<Note>) {
        let content = match self {
            Self::Patterns(flavour) => {
                Content::Patterns(Patterns::parse(flavour, lines, &mut notes))
            }
            _ => Content::Cidr(Cidr::parse(lines, &mut notes)),
        };
        (content, notes)
    }
}

fn list_of<'a>(kind: &str, rest: &'a str, item: &str) -> Result<Vec<&'a str>, String> {
    braced_items(rest)
        .filter(|items| !items.is_empty())
        .ok_or_else(|| format!("bad syntax: \"{kind}:{rest}\"; need \"{kind}:{{{item}...}}\""))
}

fn names(kind: &str, rest: &str) -> Result<Vec<TableName>, String> {
    let items = list_of(kind, rest, "type:name")?;
    Ok(items.into_iter().map(|item| TableName::new(unbraced(item))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `postconf -m` of Postfix 3.10 with everything that can be built in.
    const TYPES: &str = "btree cdb cidr dbm environ fail hash inline internal ldap lmdb memcache mongodb mysql nis nisplus pcre pgsql \
                         pipemap proxy randmap regexp sdbm socketmap sqlite static tcp texthash unionmap unix";

    #[test]
    fn each_type_of_postfix_is_asked_or_refused() {
        for kind in TYPES.split(' ') {
            let name = match kind {
                "inline" => "inline:{a=b}".to_owned(),
                "pipemap" | "unionmap" => format!("{kind}:{{static:a}}"),
                "proxy" => "proxy:hash:/x".to_owned(),
                "randmap" => "randmap:{a}".to_owned(),
                "unix" => "unix:passwd.byname".to_owned(),
                kind => format!("{kind}:/x"),
            };
            let why = unusable(&TableName::new(&name)).unwrap_or_default();
            let refused = why.starts_with(&format!("table type {kind} is not supported"));
            assert!(why.is_empty() || refused, "{name}: {why}");
        }
    }

    #[test]
    fn a_table_that_can_never_answer_is_known_by_its_name() {
        for (name, wanted) in [
            ("pipemap:{hash:/x, proxy:mongodb:/m}", "table type mongodb is not supported yet: "),
            ("hsah:/x", "unsupported dictionary type: hsah"),
            ("proxy:unionmap:{static:a, hsah:/x}", "unsupported dictionary type: hsah"),
            ("inline:{a}", "missing '=' after attribute name: "),
        ] {
            let why = unusable(&TableName::new(name)).unwrap_or_default();
            assert!(why.starts_with(wanted), "{name}: {why}");
        }
        assert_eq!(unusable(&TableName::new("hash:/no/such/file")), None);
    }

    /// As Postfix where no domain of NIS is set: the default of alias_maps names such a table.
    #[test]
    fn nis_without_a_domain_finds_nothing() {
        let domain = std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
        let none = matches!(domain.trim(), "" | "(none)");
        let spec = Spec::parse(&TableName::new("nis:mail.aliases"), true);
        let empty = matches!(spec, Ok(Spec::Ready(Content::Fixed(table), _)) if table.is_empty());
        assert_eq!(empty, none, "{domain}");
    }
}
