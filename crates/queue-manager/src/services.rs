//! The services of master.cf that this daemon can take over.

use crate::plan::Takeover;
use crate::{bounce, cleanup, error, flush, pickup, rewrite, scheduler, showq};

/// One line for each; a program that is not here stays with Postfix.
pub const TAKEOVERS: &[Takeover] = &[
    cleanup::TAKEOVER,
    pickup::TAKEOVER,
    showq::TAKEOVER,
    scheduler::service::TAKEOVER,
    rewrite::TAKEOVER,
    bounce::TAKEOVER,
    flush::TAKEOVER,
    error::ERROR,
    error::DISCARD,
];

#[cfg(test)]
mod tests {
    use config::Problems;
    use config::files::Memory;
    use config::postfix::{Host, ServiceType};
    use queue::QueueDirectory;

    use crate::plan::{Asked, Shared, Takeover};
    use crate::{bounce, cleanup, error, flush, rewrite};

    /// The settings of a takeover's service under these lines of main.cf.
    fn read(takeover: &Takeover, line: &str) -> String {
        let (settings, problems) = read_and_check(takeover, line);
        assert!(!problems.has_errors(), "{problems:?}");
        settings
    }

    fn read_and_check(takeover: &Takeover, line: &str) -> (String, Problems) {
        let main = format!("relay_domains = z\n{line}\n");
        let master = format!("x unix - - n - - {}\n", takeover.command);
        let files = Memory::with([("/p/main.cf", main), ("/p/master.cf", master)]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let service = host.service("x", ServiceType::Unix).unwrap();
        let shared = Shared {
            queue: QueueDirectory::new("/q"),
            mail_version: "3.7.11".into(),
            myhostname: "mail.example.com".into(),
            syslog_name: "postfix".into(),
            owner: "postfix".into(),
        };
        let asked = Asked {
            host: &host,
            service,
            view: host.view(service),
            files: &files,
            shared: &shared,
        };
        let settings = (takeover.settings)(&asked, &mut problems);
        (settings.to_string(), problems)
    }

    fn each_changes(takeover: &Takeover, lines: &[&str]) {
        let plain = read(takeover, "");
        for line in lines {
            assert!(read(takeover, line) != plain, "{line}");
        }
    }

    #[test]
    fn every_setting_of_bounce_is_read() {
        let lines = [
            "myhostname = x.y",
            "mail_name = x",
            "delay_warning_time = 7h",
            "maximal_queue_lifetime = 7d",
            "double_bounce_sender = x",
            "notify_classes = bounce",
            "bounce_notice_recipient = x",
            "2bounce_notice_recipient = x",
            "delay_notice_recipient = x",
            "bounce_size_limit = 7",
            "backwards_bounce_logfile_compatibility = no",
            "internal_mail_filter_classes = bounce",
            "enable_threaded_bounces = yes",
            "header_from_format = obsolete",
            "smtputf8_enable = yes",
            "cleanup_service_name = x",
            "ipc_timeout = 7s",
            "defer_service_name = x",
            "trace_service_name = x",
        ];
        each_changes(&bounce::TAKEOVER, &lines);
    }

    #[test]
    fn every_setting_of_flush_and_the_small_agents_is_read() {
        let lines = [
            "fast_flush_domains = y",
            "parent_domain_matches_subdomains = x",
            "fast_flush_refresh_time = 7h",
            "queue_service_name = x",
        ];
        each_changes(&flush::TAKEOVER, &lines);
        let lines = ["soft_bounce = yes", "flush_service_name = x", "bounce_service_name = x"];
        each_changes(&error::ERROR, &lines);
        each_changes(&rewrite::TAKEOVER, &["ipc_timeout = 7s", "transport_maps = static:x:"]);
    }

    #[test]
    fn a_table_of_an_unknown_type_is_a_problem_at_its_place() {
        let main = "mydomain = a.b\ntransport_maps = nope:/x\n";
        let files = Memory::with([
            ("/p/main.cf", main),
            ("/p/master.cf", "rewrite unix - - n - - trivial-rewrite\n"),
        ]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let tables = host.main().get(config::postfix::TRANSPORT_MAPS, &mut problems);
        rewrite::check(&mut tables::Set::default(), &tables, &mut problems);
        let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["/p/main.cf:2: nope:/x: unsupported dictionary type: nope"]);
    }

    /// A missing table defers mail and a bad rule is skipped, as with Postfix: it starts.
    #[test]
    fn checks_that_cannot_be_asked_are_told_with_their_line() {
        let directory = tempfile::tempdir().unwrap();
        let bad = directory.path().join("bad");
        std::fs::write(&bad, "/^ok/ REJECT\n/(/ REJECT\n").unwrap();
        let said = |lines: &str| {
            let (_, problems) = read_and_check(&cleanup::TAKEOVER, lines);
            (problems.to_string().replace(&directory.path().display().to_string(), ""), problems)
        };
        let place = directory.path().display();
        let (text, problems) = said(&format!(
            "header_checks = pcre:{place}/none\nnested_header_checks =\nbody_checks = regexp:{place}/bad"
        ));
        assert!(!problems.has_errors(), "{text}");
        insta::assert_snapshot!(text, @"
        /p/main.cf:2: warning: pcre:/none: open database /none: No such file or directory
        /p/main.cf:4: warning: /bad:2: error in regex at offset 1: missing closing parenthesis
        ");
        let (text, problems) = said("mime_header_checks = pcer:/x");
        assert!(problems.has_errors(), "{text}");
        insta::assert_snapshot!(text, @"/p/main.cf:2: pcer:/x: unsupported dictionary type: pcer");
    }
}
