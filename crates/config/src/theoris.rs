//! theoris.toml: what the originals have no setting for. Every key has a default; an unknown key is refused.
//!
//! The file is the lowest layer over the defaults, then the environment (`THEORIS__SMTPD__DEBUG=true`),
//! then `--set smtpd.debug=true`.

use std::net::{IpAddr, SocketAddr};
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
    /// Where control sockets are made; without this directory there are none.
    pub run_directory: PathBuf,
    /// What happens to a worker that does what its role does not need.
    pub sandbox: SandboxMode,
    pub authd: Daemon,
    pub dkim_milter: Daemon,
    pub imapd: Daemon,
    pub lmtp_delivery: Daemon,
    pub pop3d: Daemon,
    pub queue_manager: Daemon,
    pub resolver: Resolver,
    pub smtp_delivery: Daemon,
    pub smtpd: Daemon,
}

impl Default for Theoris {
    fn default() -> Self {
        Self {
            run_directory: "/run/theoris".into(),
            sandbox: SandboxMode::default(),
            authd: Daemon::default(),
            dkim_milter: Daemon::default(),
            imapd: Daemon::default(),
            lmtp_delivery: Daemon::default(),
            pop3d: Daemon::default(),
            queue_manager: Daemon::default(),
            resolver: Resolver::default(),
            smtp_delivery: Daemon::default(),
            smtpd: Daemon::default(),
        }
    }
}

/// How strictly workers are kept in their sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// What a worker's role does not need fails.
    #[default]
    On,
    /// Files and ports as with `on`; an unneeded system call is only noted in the kernel's log.
    Log,
    /// An unneeded system call ends the worker: for tests.
    Kill,
    /// Only `no_new_privs`.
    Off,
}

/// `[smtpd]`, `[imapd]`, …: what every daemon has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Daemon {
    /// Where Prometheus may ask, such as `127.0.0.1:9154`; empty: only the control socket tells.
    pub metrics: Address,
    /// Log debugging lines too.
    pub debug: bool,
    /// Seconds that connections may go on in the old workers after a reload.
    pub reload_grace: u32,
    /// Seconds that connections may go on after SIGTERM.
    pub stop_grace: u32,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { metrics: Address(None), debug: false, reload_grace: 3600, stop_grace: 10 }
    }
}

/// `[resolver]`: whom to ask for names, where `/etc/resolv.conf` does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resolver {
    /// Name servers in the order of asking, such as `["127.0.0.1:5353"]`; the port is 53 if none is given. Empty:
    /// those of `/etc/resolv.conf`.
    pub servers: Vec<Server>,
    /// Seconds to wait for one server's answer; 0: as `/etc/resolv.conf` says, else 5.
    pub timeout: Few,
    /// How often all servers are asked; 0: as `/etc/resolv.conf` says, else 2.
    pub attempts: Few,
}

/// A small number, 0 to 60; 0 stands for what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Few(u8);

impl Few {
    pub fn positive(self) -> Option<u8> {
        Some(self.0).filter(|number| *number > 0)
    }
}

impl TryFrom<u32> for Few {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match u8::try_from(number) {
            Ok(few @ 0..=60) => Ok(Self(few)),
            _ => Err(format!("{number} is not between 0 and 60")),
        }
    }
}

impl From<Few> for u32 {
    fn from(few: Few) -> Self {
        few.0.into()
    }
}

/// The address of a name server, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server(pub SocketAddr);

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = text.parse::<SocketAddr>();
        let alone = || text.parse::<IpAddr>().map(|address| (address, 53).into());
        match with_port.or_else(|_| alone()) {
            Ok(server) => Ok(Self(server)),
            Err(_) => Err(format!("\"{text}\" is no address of a name server")),
        }
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.0.to_string()
    }
}

/// An IP address and port, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub Option<SocketAddr>);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self(None)),
            text => text
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|_| format!("\"{text}\" is no address with a port")),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.map(|address| address.to_string()).unwrap_or_default()
    }
}

impl Theoris {
    /// The table of the daemon of this name.
    pub fn daemon(&self, name: &str) -> Option<&Daemon> {
        Some(match name {
            "authd" => &self.authd,
            "dkim-milter" => &self.dkim_milter,
            "imapd" => &self.imapd,
            "lmtp-delivery" => &self.lmtp_delivery,
            "pop3d" => &self.pop3d,
            "queue-manager" => &self.queue_manager,
            "smtp-delivery" => &self.smtp_delivery,
            "smtpd" => &self.smtpd,
            _ => return None,
        })
    }
}

/// One key and its value, from wherever.
struct Given {
    path: String,
    value: Value,
    place: Option<Place>,
    /// What to call it where there is no file: `--set smtpd.debug`.
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
        let mut found = Problems::default();
        let mut given = from_file(files, path, must_exist, &mut found);
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
        let theoris = layered(given, &mut found);
        problems.extend(found.by_place());
        theoris
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
        Value::String(_, text) if text.is_empty() => "\"127.0.0.1:9154\"".to_owned(),
        Value::String(_, text) => format!("{text:?}"),
        Value::Bool(_, value) => value.to_string(),
        Value::Array(..) => "[\"127.0.0.1:53\"]".to_owned(),
        other => other
            .deserialize::<u64>()
            .map_or_else(|_| "its default".to_owned(), |number| number.to_string()),
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
            "[smtpd]\nmetrics = \"127.0.0.1:9154\"\nreload-grace = 1\n[imapd]\nstop-grace = 3\n";
        let (theoris, problems) = read(
            file,
            &[("THEORIS__SMTPD__RELOAD_GRACE", "2"), ("THEORIS_X", "y")],
            &["imapd.stop-grace=4"],
        );
        assert_eq!(problems, "");
        assert_eq!((theoris.smtpd.reload_grace, theoris.imapd.stop_grace), (2, 4));
        assert_eq!(
            theoris.daemon("smtpd").unwrap().metrics.0,
            Some("127.0.0.1:9154".parse().unwrap())
        );
        assert_eq!(read("", &[], &[]), (Theoris::default(), String::new()));
    }

    #[test]
    fn name_servers_are_told_with_or_without_a_port() {
        let (theoris, problems) =
            read("[resolver]\nservers = [\"127.0.0.9:5353\", \"::1\"]\ntimeout = 2\n", &[], &[]);
        assert_eq!(problems, "");
        let servers: Vec<String> =
            theoris.resolver.servers.iter().map(|server| server.0.to_string()).collect();
        assert_eq!(servers, ["127.0.0.9:5353", "[::1]:53"]);
        assert_eq!(
            (theoris.resolver.timeout.positive(), theoris.resolver.attempts.positive()),
            (Some(2), None)
        );
        insta::assert_snapshot!(
            read("[resolver]\nservers = [\"localhost\"]\nattempts = 99\n", &[], &[]).1,
            @r#"
            /t:2: resolver.servers: "localhost" is no address of a name server; write something like ["127.0.0.1:53"]
            /t:3: resolver.attempts: 99 is not between 0 and 60; write something like 0
            "#
        );
    }

    #[test]
    fn all_faults_are_told_with_their_lines() {
        let file = "run-directry = \"/x\"\n[smtpd]\nreload-grace = \"soon\"\nmetrics = \"nowhere\"\ndebug = 1\n[smtdp]\ndebug = true\n";
        insta::assert_snapshot!(read(file, &[("THEORIS__IMAPD__DEBG", "1")], &["x", "pop3d.stop-grace=-1"]).1, @r#"
        --set x: no =; write --set name=value
        /t:1: unknown key run-directry; did you mean run-directory?
        /t:3: smtpd.reload-grace: invalid type: found string "soon", expected u32; write something like 3600
        /t:4: smtpd.metrics: "nowhere" is no address with a port; write something like "127.0.0.1:9154"
        /t:5: smtpd.debug: invalid type: found signed int `1`, expected a boolean; write something like false
        /t:7: unknown key smtdp.debug; did you mean smtpd.debug?
        THEORIS__IMAPD__DEBG: unknown key imapd.debg; did you mean imapd.debug?
        --set pop3d.stop-grace: pop3d.stop-grace: invalid value signed int `-1`, expected u32; write something like 10
        "#);
        insta::assert_snapshot!(read("a = 1\nb = = 2\n", &[], &[]).1, @"/t:2: extra `=`, expected nothing; write TOML: key = value");
    }
}
