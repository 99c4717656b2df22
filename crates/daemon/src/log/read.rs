//! What the host's files say about the log: `maillog_file` of main.cf, `log_path` of dovecot.conf, and their facilities.

use std::path::{Path, PathBuf};

use config::dovecot::{self, Config};
use config::postfix::{self, Host};
use config::{Place, Problems};

use crate::plan::{Log, LogFile, LogStyle};

/// Facilities of syslog(3), by their numbers.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// The number of a facility; what is none is told, and counts as mail.
pub fn facility(setting: &str, name: &str, place: Option<Place>, problems: &mut Problems) -> u8 {
    let name = name.to_ascii_lowercase();
    let found = FACILITIES.iter().position(|known| *known == name && !name.is_empty());
    found.and_then(|number| u8::try_from(number).ok()).unwrap_or_else(|| {
        problems
            .error(place, format!("{setting}: \"{name}\" is no facility"))
            .instead("write mail, daemon, auth, user or local0 to local7");
        2
    })
}

impl Log {
    /// The log of a daemon that stands in for one of Postfix's; `ident` is for lines that name none.
    pub fn of_postfix(host: &Host, ident: String, problems: &mut Problems) -> Self {
        let main = host.main();
        let name = main.get(postfix::SYSLOG_FACILITY, problems);
        let place = main.place(postfix::SYSLOG_FACILITY);
        let facility = facility("syslog_facility", &name, place, problems);
        let files = maillog(host, problems).into_iter().collect();
        Self { ident, facility, files, ..Self::default() }
    }

    /// The log of a daemon that stands in for one of Dovecot's.
    pub fn of_dovecot(config: &Config, problems: &mut Problems) -> Self {
        let view = config.global();
        let name = view.get(dovecot::SYSLOG_FACILITY, problems);
        let place = view.place(dovecot::SYSLOG_FACILITY);
        let facility = facility("syslog_facility", &name, place, problems);
        let ident = view.get(dovecot::INSTANCE_NAME, problems);
        Self { ident, facility, files: log_paths(config, problems), ..Self::default() }
    }

    /// For a daemon that stands in for both: Dovecot's lines as `dovecot` says, all others as this one does.
    #[must_use]
    pub fn beside(self, dovecot: Self) -> Self {
        let of_dovecot = dovecot.files.into_iter();
        let of_dovecot = of_dovecot.map(|file| LogFile { ident: dovecot.ident.clone(), ..file });
        Self { files: of_dovecot.chain(self.files).collect(), ..self }
    }
}

/// `maillog_file`, where it may be (`maillog_file_prefixes`).
fn maillog(host: &Host, problems: &mut Problems) -> Option<LogFile> {
    let main = host.main();
    let path = main.get(postfix::MAILLOG_FILE, problems);
    if path.is_empty() {
        return None;
    }
    let place = main.place(postfix::MAILLOG_FILE);
    let prefixes = main.get(postfix::MAILLOG_FILE_PREFIXES, problems);
    if !prefixes.iter().any(|prefix| Path::new(&path).starts_with(prefix.as_str())) {
        let what = format!("maillog_file: {path} is below no directory of maillog_file_prefixes");
        problems.error(place, what).instead("add its directory to maillog_file_prefixes");
        return None;
    }
    let text = main.get(postfix::MAILLOG_FILE_PERMISSIONS, problems);
    let mode = match text.as_str() {
        "0600" | "600" => 0o600,
        "0640" | "640" => 0o640,
        "0644" | "644" => 0o644,
        other => {
            let place = main.place(postfix::MAILLOG_FILE_PERMISSIONS);
            let what = format!("maillog_file_permissions: {other} is none that Postfix allows");
            problems.error(place, what).instead("write 0600, 0640 or 0644");
            return None;
        }
    };
    let name = main.get(postfix::MYHOSTNAME, problems);
    let style = LogStyle::Postfix { host: name.split('.').next().unwrap_or_default().to_owned() };
    let path = PathBuf::from(path);
    Some(LogFile { path, style, ident: String::new(), priorities: (0, 7), mode, place })
}

/// `log_path` for what is wrong, `info_log_path` for information, `debug_log_path` for the rest: each, when it is empty,
/// as the one before. `syslog` is the journal.
fn log_paths(config: &Config, problems: &mut Problems) -> Vec<LogFile> {
    let view = config.global();
    let time = view.get(dovecot::LOG_TIMESTAMP, problems);
    if message::date::format_as(&time, 0).is_none() {
        let place = view.place(dovecot::LOG_TIMESTAMP);
        let what =
            format!("log_timestamp: \"{time}\" is no form of strftime(3) that is known here");
        problems.error(place, what).instead("write \"%b %d %H:%M:%S \"");
    }
    let mut path = view.get(dovecot::LOG_PATH, problems);
    let mut place = view.place(dovecot::LOG_PATH);
    let mut files: Vec<LogFile> = Vec::new();
    let information = view.get(dovecot::INFO_LOG_PATH, problems);
    let debugging = view.get(dovecot::DEBUG_LOG_PATH, problems);
    for (own, own_place, priorities) in [
        (String::new(), None, (0, 4)),
        (information, view.place(dovecot::INFO_LOG_PATH), (5, 6)),
        (debugging, view.place(dovecot::DEBUG_LOG_PATH), (7, 7)),
    ] {
        if !own.is_empty() {
            (path, place) = (own, own_place);
        }
        match files.last_mut() {
            _ if path.is_empty() || path == "syslog" => {}
            Some(last) if last.path == Path::new(&path) => last.priorities.1 = priorities.1,
            _ => files.push(LogFile {
                path: PathBuf::from(&path),
                style: LogStyle::Dovecot { time: time.clone() },
                ident: String::new(),
                priorities,
                mode: 0o600,
                place: place.clone(),
            }),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    fn of_main(main: &str) -> (Log, String) {
        let main = format!("myhostname = mail.example.com\n{main}");
        let files = Memory::with([("/p/main.cf", main.as_str()), ("/p/master.cf", "")]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        (Log::of_postfix(&host, "postfix/x".into(), &mut problems), problems.to_string())
    }

    fn of_dovecot_conf(text: &str) -> (Log, String) {
        let mut problems = Problems::default();
        let config = Config::read(&Memory::with([("/d", text)]), "/d".as_ref(), &mut problems);
        (Log::of_dovecot(&config, &mut problems), problems.to_string())
    }

    /// Path, priorities, mode.
    fn shown(log: &Log) -> Vec<(&str, (u8, u8), u32)> {
        let files = log.files.iter();
        files.map(|file| (file.path.to_str().unwrap(), file.priorities, file.mode)).collect()
    }

    #[test]
    fn maillog_file_takes_all_lines() {
        assert!(of_main("").0.files.is_empty());
        let (log, told) = of_main("maillog_file = /dev/stdout\n");
        assert_eq!((shown(&log), told.as_str()), (vec![("/dev/stdout", (0, 7), 0o600)], ""));
        assert_eq!(log.files[0].style, LogStyle::Postfix { host: "mail".into() });
    }

    #[test]
    fn maillog_file_permissions_are_those_of_a_new_file() {
        let main = "maillog_file = /var/log/maillog\nmaillog_file_permissions = ";
        assert_eq!(of_main(&format!("{main}0640\n")).0.files[0].mode, 0o640);
        let (log, told) = of_main(&format!("{main}0666\n"));
        assert!(
            log.files.is_empty() && told.contains("/p/main.cf:3: maillog_file_permissions: 0666"),
            "{told}"
        );
    }

    #[test]
    fn maillog_file_stands_below_one_of_its_prefixes() {
        let (log, told) = of_main("maillog_file = /srv/maillog\n");
        assert!(log.files.is_empty(), "{log:?}");
        assert!(told.contains("/p/main.cf:2: maillog_file: /srv/maillog is below no"), "{told}");
        let (log, told) = of_main("maillog_file = /srv/maillog\nmaillog_file_prefixes = /srv\n");
        assert_eq!((shown(&log).len(), told.as_str()), (1, ""));
    }

    #[test]
    fn facilities_are_read() {
        assert_eq!(of_main("").0.facility, 2);
        assert_eq!(of_main("syslog_facility = local3\n").0.facility, 19);
        let (_, told) = of_main("syslog_facility = loca3\n");
        assert!(told.contains("/p/main.cf:2: syslog_facility: \"loca3\" is no facility"), "{told}");
        assert_eq!(of_dovecot_conf("syslog_facility = daemon\n").0.facility, 3);
    }

    #[test]
    fn each_log_path_stands_in_for_the_next() {
        let all = |text: &str| {
            let (log, told) = of_dovecot_conf(text);
            assert_eq!(told, "");
            log
        };
        assert!(all("").files.is_empty());
        assert_eq!(shown(&all("log_path = /dev/stderr\n")), [("/dev/stderr", (0, 7), 0o600)]);
        assert_eq!(shown(&all("info_log_path = /i\n")), [("/i", (5, 7), 0o600)]);
        assert_eq!(
            shown(&all("log_path = /e\ninfo_log_path = /i\ndebug_log_path = /d\n")),
            [("/e", (0, 4), 0o600), ("/i", (5, 6), 0o600), ("/d", (7, 7), 0o600)]
        );
        let log = all("log_path = /e\ninfo_log_path = syslog\ndebug_log_path = /d\n");
        assert_eq!(shown(&log), [("/e", (0, 4), 0o600), ("/d", (7, 7), 0o600)]);
    }

    #[test]
    fn log_timestamp_stands_before_each_line() {
        let (log, _) = of_dovecot_conf("log_path = /e\nlog_timestamp = \"%Y-%m-%d \"\n");
        assert_eq!(log.files[0].style, LogStyle::Dovecot { time: "%Y-%m-%d ".into() });
        let (_, told) = of_dovecot_conf("log_path = /e\nlog_timestamp = \"%\"\n");
        assert!(told.contains("/d:2: log_timestamp: "), "{told}");
    }

    #[test]
    fn dovecots_lines_have_files_of_their_own() {
        let postfix = of_main("maillog_file = /var/log/maillog\n").0;
        let dovecot = of_dovecot_conf("log_path = /var/log/dovecot.log\ninstance_name = d\n").0;
        let both = postfix.beside(dovecot);
        let files: Vec<_> = both
            .files
            .iter()
            .map(|file| (file.path.to_str().unwrap(), file.ident.as_str()))
            .collect();
        assert_eq!(files, [("/var/log/dovecot.log", "d"), ("/var/log/maillog", "")]);
        assert_eq!(both.ident, "postfix/x");
    }
}
