//! theoris.toml: what the originals have no setting for. Every key has a default; an unknown key is refused.
//!
//! The file is the lowest layer over the defaults, then the environment (`THEORIS__RESOLVER__TIMEOUT=5`),
//! then `--set resolver.timeout=5`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use figment::value::Value;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::files::why;
use crate::suggest::nearest;
use crate::{Files, Place, Problems};

/// The whole of theoris.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Theoris {
    /// Where control sockets are made.
    pub run_directory: PathBuf,
    pub metrics: Metrics,
    pub sandbox: Sandbox,
    pub resolver: Resolver,
    pub limits: Limits,
}

impl Default for Theoris {
    fn default() -> Self {
        Self {
            run_directory: "/run/theoris".into(),
            metrics: Metrics::default(),
            sandbox: Sandbox::default(),
            resolver: Resolver::default(),
            limits: Limits::default(),
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// Where Prometheus may ask, such as `127.0.0.1:9154`; empty: only the control socket tells.
    pub listen: String,
}

/// `[sandbox]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sandbox {
    /// Landlock and seccomp in the workers.
    pub enabled: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[resolver]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resolver {
    /// DNS servers to ask instead of those in /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Seconds for one question.
    pub timeout: u32,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: 5 }
    }
}

/// `[limits]`: of each daemon, where the host's files have no word for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Threads of a worker.
    pub threads: usize,
    /// Seconds that an old generation of workers may take to finish its connections after a reload.
    pub drain: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: 2, drain: 3600 }
    }
}

/// One key and its value, from wherever.
struct Given {
    path: String,
    value: Value,
    place: Option<Place>,
    /// What to call it where there is no file: `--set resolver.timeout`.
    source: String,
}

impl Theoris {
    /// Reads the file (a missing one is no fault unless `must_exist`), the environment's
    /// `THEORIS__…` variables and the `--set` arguments over the defaults.
    pub fn read(
        files: &dyn Files,
        (path, must_exist): (&Path, bool),
        environment: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
        problems: &mut Problems,
    ) -> Self {
        let mut given = from_file(files, path, must_exist, problems);
        for (name, text) in environment {
            if let Some(key) = name.strip_prefix("THEORIS__") {
                let path = key.to_ascii_lowercase().replace("__", ".").replace('_', "-");
                given.push(Given {
                    path,
                    value: parsed(&text),
                    place: None,
                    source: format!("{name}: "),
                });
            }
        }
        for set in sets {
            match set.split_once('=') {
                Some((key, text)) => {
                    let source = format!("--set {key}: ");
                    given.push(Given {
                        path: key.trim().to_owned(),
                        value: parsed(text.trim()),
                        place: None,
                        source,
                    });
                }
                None => problems
                    .error(None, format!("--set {set}: no ="))
                    .instead("write --set name=value"),
            }
        }
        layered(given, problems)
    }
}

fn parsed(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| Value::from(text))
}

/// Puts each value over the defaults; one that does not fit is a problem, and left out.
fn layered(given: Vec<Given>, problems: &mut Problems) -> Theoris {
    let known = keys();
    let mut figment = Figment::from(Serialized::defaults(Theoris::default()));
    for Given { path, value, place, source } in given {
        if !known.contains(&path) {
            let meant = nearest(&path, known.iter().map(String::as_str));
            let instead =
                meant.map_or("remove it".to_owned(), |meant| format!("did you mean {meant}?"));
            problems.error(place, format!("{source}unknown key {path}")).instead(instead);
            continue;
        }
        let with = figment.clone().merge(Serialized::global(&path, value));
        match with.extract::<Theoris>() {
            Ok(_) => figment = with,
            Err(error) => {
                let default =
                    Figment::from(Serialized::defaults(Theoris::default())).find_value(&path);
                let like = default.map(|value| example(&value)).unwrap_or_default();
                problems
                    .error(place, format!("{source}{path}: {}", error.kind))
                    .instead(format!("write something like {like}"));
            }
        }
    }
    figment.extract().unwrap_or_default()
}

fn example(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Array(..) => "[\"192.0.2.1:53\"]".to_owned(),
        Value::Bool(_, value) => value.to_string(),
        other => {
            other.to_i128().map_or_else(|| "its default".to_owned(), |number| number.to_string())
        }
    }
}

/// The names of all keys: `resolver.servers`.
fn keys() -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(value) = Value::serialize(Theoris::default()) {
        collect(&value, "", &mut names);
    }
    names
}

fn collect(value: &Value, path: &str, names: &mut Vec<String>) {
    match value.as_dict() {
        Some(inner) if !inner.is_empty() => {
            for (name, value) in inner {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(value, &path, names);
            }
        }
        _ => names.push(path.to_owned()),
    }
}

fn from_file(
    files: &dyn Files,
    path: &Path,
    must_exist: bool,
    problems: &mut Problems,
) -> Vec<Given> {
    let content = match files.read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Vec::new();
        }
        Err(error) => {
            problems
                .error(Place::file(path), format!("cannot read it: {}", why(&error)))
                .instead("name a readable file");
            return Vec::new();
        }
    };
    let text = match String::from_utf8(content) {
        Ok(text) => text,
        Err(_) => {
            problems.error(Place::file(path), "not UTF-8").instead("save the file as UTF-8");
            return Vec::new();
        }
    };
    let line_of =
        |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let mut given = Vec::new();
    match DeTable::parse(&text) {
        Ok(table) => leaves(table.get_ref(), "", &mut |key, offset, value| {
            given.push(Given {
                path: key,
                value,
                place: Some(Place::new(path, line_of(offset))),
                source: String::new(),
            });
        }),
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(span.start));
            problems
                .error(Place::new(path, line), error.message().to_owned())
                .instead("write TOML: key = value");
        }
    }
    given
}

fn leaves(table: &DeTable<'_>, path: &str, found: &mut dyn FnMut(String, usize, Value)) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match value.get_ref() {
            DeValue::Table(inner) => leaves(inner, &path, found),
            other => found(path, key.span().start, as_value(other)),
        }
    }
}

fn as_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => {
            Value::from(items.iter().map(|item| as_value(item.get_ref())).collect::<Vec<_>>())
        }
        DeValue::Table(_) => Value::from("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Memory;

    fn read(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> (Theoris, String) {
        let files = Memory::with([("/t", text)]);
        let mut problems = Problems::default();
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let theoris =
            Theoris::read(&files, ("/t".as_ref(), true), environment, &sets, &mut problems);
        (theoris, problems.to_string())
    }

    #[test]
    fn each_layer_goes_over_the_one_before() {
        let file =
            "[resolver]\nservers = [\"127.0.0.1:5353\"]\ntimeout = 1\n[limits]\nthreads = 3\n";
        let (theoris, problems) = read(
            file,
            &[("THEORIS__RESOLVER__TIMEOUT", "2"), ("THEORIS_X", "y")],
            &["limits.threads=4"],
        );
        assert_eq!(problems, "");
        assert_eq!((theoris.resolver.timeout, theoris.limits.threads), (2, 4));
        assert_eq!(theoris.resolver.servers, ["127.0.0.1:5353".parse().unwrap()]);
        assert_eq!(read("", &[], &[]), (Theoris::default(), String::new()));
    }

    #[test]
    fn all_faults_are_told_with_their_lines() {
        let file = "run-directry = \"/x\"\n[resolver]\ntimeout = \"soon\"\nservers = [\"nowhere\"]\n[sandbox]\nenabled = 1\n[sandbxo]\nenabled = true\n";
        insta::assert_snapshot!(read(file, &[("THEORIS__LIMITS__THREAD", "1")], &["x", "limits.drain=-1"]).1, @r#"
        --set x: no =; write --set name=value
        /t:4: resolver.servers: invalid socket address syntax; write something like ["192.0.2.1:53"]
        /t:3: resolver.timeout: invalid type: found string "soon", expected u32; write something like its default
        /t:1: unknown key run-directry; did you mean run-directory?
        /t:6: sandbox.enabled: invalid type: found signed int `1`, expected a boolean; write something like true
        /t:8: unknown key sandbxo.enabled; did you mean sandbox.enabled?
        THEORIS__LIMITS__THREAD: unknown key limits.thread; did you mean limits.threads?
        --set limits.drain: limits.drain: invalid value signed int `-1`, expected u32; write something like its default
        "#);
        insta::assert_snapshot!(read("a = 1\nb = = 2\n", &[], &[]).1, @"/t:2: extra `=`, expected nothing; write TOML: key = value");
    }
}
