//! main.cf and master.cf as a plan: which services there are, where they listen, and what they obey.
//!
//! Where services of master.cf are marked as adopted, only those are ours; otherwise all inet services that run
//! smtpd are. What cannot be obeyed and would change who gets in is an error with its place; nothing is ignored in silence.

mod lent;
mod outside;
mod policy;
mod screen;
mod service;
mod tables;
mod tls;

use config::postfix::{self, Host, Service, ServiceType};
use config::theoris::Theoris;
use config::{Files as _, Place, Problems, files::Disk};
use daemon::{Account, Args, Listen, Log, Plan, Role};

use crate::settings::{Resolving, Settings};

/// Connections that one process serves at a time, over all services.
const CONNECTIONS: usize = 4000;

pub(crate) fn plan(args: &Args) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let directory = args.config_or("/etc/postfix");
    let host = Host::read(&Disk, &directory, &mut problems);
    let mut plan = read(&host, resolving(args), &mut problems);
    plan.watch.extend(["main.cf", "master.cf"].map(|name| directory.join(name)));
    plan.watch.push("/etc/hosts".into());
    plan.lent = lent::by(&host);
    plan.problems = problems.into_result()?;
    Ok(plan)
}

/// `[resolver]` of theoris.toml over resolv.conf. What is wrong with that file has been told elsewhere.
fn resolving(args: &Args) -> Resolving {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut told = Problems::default();
    let theoris = Theoris::read(&Disk, args.theoris_toml(), environment, &args.sets, &mut told);
    let resolv_conf = Disk.read("/etc/resolv.conf".as_ref()).unwrap_or_default();
    dns::Settings::new(&theoris.resolver, &String::from_utf8_lossy(&resolv_conf)).into()
}

/// The plan of a host that has been read.
fn read(host: &Host, resolving: Resolving, problems: &mut Problems) -> Plan {
    let screened = host.running("postscreen").any(|line| line.kind == ServiceType::Inet);
    let commands: &[&str] = if screened { &["smtpd", "postscreen"] } else { &["smtpd"] };
    host.report_unsupported(commands, problems);
    let main = host.main();
    let mut role = Role::new("smtpd");
    let mut plan = Plan::default();
    let mut settings = Settings { resolving, ..Settings::default() };
    let marked = lent::has_marks(host);
    let ours = |service: &&Service| {
        service.kind == ServiceType::Inet && (lent::is_ours(service) || !marked)
    };
    let direct = host.running("smtpd").filter(ours).map(|line| (line, None));
    let screens: Vec<&Service> = host.running("postscreen").filter(ours).collect();
    let passed = screens
        .into_iter()
        .filter_map(|line| screen::behind(host, line, problems).map(|behind| (line, Some(behind))));
    let lines: Vec<(&Service, Option<&Service>)> = passed.chain(direct).collect();
    for (line, behind) in lines {
        let service = behind.unwrap_or(line);
        let view = host.view(service);
        for address in postfix::listen::addresses(&host.view(line), line, problems) {
            plan.listeners.push(Listen::tcp(&line.name, address));
        }
        let identities = tls::plan(&view, service, problems);
        let mut read = service::read(host, service, identities.as_ref(), problems);
        if behind.is_some() {
            read.listener.clone_from(&line.name);
            let screen = screen::read(host, line, problems);
            let directory = screen.cache.as_deref().and_then(std::path::Path::parent);
            role.needs().write.extend(directory.map(std::path::Path::to_owned));
            read.screen = Some(screen);
        }
        tables::refuse_unusable(host, &read, &[view, host.view(line)], problems);
        settings.services.push(read);
        role.listeners.push(line.name.clone());
        role.tls.extend(identities);
    }
    if settings.services.is_empty() && !marked {
        problems
            .error(Place::file(host.directory().join("master.cf")), "no inet service runs smtpd")
            .instead("smtp inet n - y - - smtpd");
    }
    let owner = main.get(postfix::MAIL_OWNER, problems);
    if daemon::privileges::is_root() {
        match Account::named(&owner) {
            Ok(account) => role.account = Some(account),
            Err(error) => {
                let place = main.place(postfix::MAIL_OWNER);
                problems
                    .error(place, format!("mail_owner: {error}"))
                    .instead("name an existing user, such as postfix");
            }
        }
    }
    role.threads = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
    role.connections = CONNECTIONS;
    role.needs().network = true; // milters, name servers, filters
    role.needs().users = true; // unix:passwd.byname stands in the default of local_recipient_maps
    role.needs().read.push("/etc/hosts".into());
    role.opens_tables(host.table_files());
    let ident = format!("{}/smtpd", main.get(postfix::SYSLOG_NAME, problems));
    plan.log = Log::of_postfix(host, ident, problems);
    plan.roles.push(role.with_settings(&settings));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;

    const SMTPD: &str = "smtp inet n - n - - smtpd\n";
    /// It asks a filter, a policy server and Dovecot.
    const ASKING: &str = "smtpd_milters = inet:[::1]:1\nsmtpd_sasl_auth_enable = yes\n\
        smtpd_sasl_type = dovecot\nsmtpd_recipient_restrictions = check_policy_service inet:[::1]:1\n";
    const SCREENED: &str = "smtp inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n";

    fn planned(main: &str) -> (Plan, String) {
        planned_with(SMTPD, main)
    }

    fn planned_with(master: &str, main: &str) -> (Plan, String) {
        let files = Memory::with([("/p/main.cf", main), ("/p/master.cf", master)]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        (read(&host, Resolving::default(), &mut problems), problems.to_string())
    }

    #[test]
    fn only_the_protocols_of_inet_protocols_are_listened_on() {
        let (plan, _) = planned("inet_interfaces = loopback-only\ninet_protocols = ipv4\n");
        assert_eq!(plan.listeners, [Listen::tcp("smtp", ([127, 0, 0, 1], 25).into())]);
        let (plan, _) = planned("inet_interfaces = loopback-only\ninet_protocols = ipv6\n");
        let v4 = Listen::tcp("smtp", ([127, 0, 0, 1], 25).into());
        assert!(!plan.listeners.contains(&v4), "{:?}", plan.listeners);
    }

    #[test]
    fn limits_on_clients_are_read() {
        for (line, name, value) in [
            ("smtpd_client_connection_count_limit = 7", "connection_count", "7"),
            ("anvil_rate_time_unit = 7s", "window", r#"{"nanos":0,"secs":7}"#),
        ] {
            let (plan, _) = planned(line);
            let rates = &plan.roles[0].settings["services"][0]["rates"];
            assert_eq!(rates[name].to_string(), value, "{line}");
        }
    }

    #[test]
    fn settings_reach_the_worker() {
        let settings =
            |main: &str| planned(&format!("{ASKING}{main}\n")).0.roles[0].settings.clone();
        let plain = settings("");
        assert_eq!(settings(""), plain);
        for line in [
            "address_verify_poll_count = 7",
            "address_verify_poll_delay = 7s",
            "address_verify_service_name = x",
            "allow_untrusted_routing = yes",
            "milter_connect_timeout = 7s",
            "smtpd_error_sleep_time = 7s",
            "smtpd_policy_service_max_idle = 7s",
            "smtpd_policy_service_max_ttl = 7s",
            "smtpd_policy_service_retry_delay = 7s",
            "smtpd_sasl_security_options = noplaintext",
            "smtpd_soft_error_limit = 7",
        ] {
            assert_ne!(settings(line), plain, "{line}");
        }
    }

    #[test]
    fn settings_reach_the_screen() {
        let settings = |main: &str| planned_with(SCREENED, main).0.roles[0].settings.clone();
        let plain = settings("");
        assert_eq!(settings(""), plain);
        for line in [
            "data_directory = /x",
            "postscreen_bare_newline_ttl = 7s",
            "postscreen_cache_retention_time = 7s",
            "postscreen_dnsbl_max_ttl = 7s",
            "postscreen_dnsbl_min_ttl = 7s",
            "postscreen_dnsbl_timeout = 7s",
            "postscreen_dnsbl_ttl = 7",
            "postscreen_greet_ttl = 7s",
            "postscreen_greet_wait = 7s",
            "postscreen_non_smtp_command_ttl = 7s",
            "postscreen_pipelining_ttl = 7s",
        ] {
            assert_ne!(settings(line), plain, "{line}");
        }
    }

    #[test]
    fn stress_begins_where_postfix_would_run_no_more_processes() {
        let (plan, _) = planned("default_process_limit = 7\n");
        assert_eq!(plan.roles[0].settings["services"][0]["stress_at"], 7);
    }

    #[test]
    fn tls_without_encryption_is_refused() {
        let certificate = "smtpd_tls_cert_file = /x\n";
        for text in [
            "smtpd_tls_security_level = may\nsmtpd_tls_ciphers = null\n",
            "smtpd_tls_security_level = encrypt\nsmtpd_tls_mandatory_ciphers = null\n",
        ] {
            let (_, problems) = planned(&format!("{text}{certificate}"));
            assert!(problems.contains("asks for TLS without encryption"), "{text}: {problems}");
        }
    }

    /// Each of them would put off every client; what only others ask, such as trivial-rewrite, does not matter here.
    #[test]
    fn a_table_that_nobody_here_can_ask_is_told_with_its_line() {
        let told = |master: &str, main: &str| {
            let told = planned_with(master, main).1;
            told.lines().filter(|line| line.contains(" type")).map(str::to_owned).collect()
        };
        let main = "proxy_read_maps = $virtual_alias_maps ldap:/w\nown = socketmap:unix:/s:\n\
            virtual_alias_maps = hash:/x,\n  proxy:mysql:/a, ${own}v\n\
            alias_maps = nisplus:mail.aliases\nmynetworks = 127.0.0.1 !ldap:/n\n\
            smtpd_restriction_classes = rules\nrules = check_client_access mongodb:/r\n\
            transport_maps = ldap:/t\nrelay_domains = ldap:/r\nvirtual_mailbox_domains = pgsql:/m\n\
            smtp_tls_policy_maps = socketmap:unix:/s:t\nheader_checks = ldap:/h\n";
        let lines: Vec<String> = told(SMTPD, main);
        insta::assert_snapshot!(lines.join("\n"), @"
        /p/main.cf:6: ldap:/n: table type ldap is not supported yet: use a hash: or texthash: table
        /p/main.cf:5: nisplus:mail.aliases: table type nisplus is not supported: use a hash: or texthash: table
        /p/main.cf:4: proxy:mysql:/a: table type mysql is not supported yet: use a hash: or texthash: table
        /p/main.cf:2: socketmap:unix:/s:v: table type socketmap is not supported yet: use a hash: or texthash: table
        /p/main.cf:8: mongodb:/r: table type mongodb is not supported yet: use a hash: or texthash: table
        ");
        let misspelt = "virtual_alias_maps = hash:/x, hsah:/x\nmynetworks = 127.0.0.1\n\
            smtpd_client_restrictions = permit_mynetworks,\n  check_client_access cdir:/c\nheader_checks = regex:/h\n";
        let lines: Vec<String> = told(SMTPD, misspelt);
        insta::assert_snapshot!(lines.join("\n"), @"
        /p/main.cf:1: hsah:/x: unsupported dictionary type: hsah
        /p/main.cf:4: cdir:/c: unsupported dictionary type: cdir
        ");
        let screened = SCREENED
            .replace("postscreen\n", "postscreen\n -o postscreen_access_list=tcp:[::1]:1\n");
        let lines: Vec<String> =
            told(&screened, "virtual_alias_maps = pipemap:{hash:/x, static:y}\n");
        insta::assert_snapshot!(lines.join("\n"), @"/p/master.cf:2: tcp:[::1]:1: table type tcp is not supported yet: use a hash: or texthash: table");
    }

    #[test]
    fn workers_become_mail_owner() {
        if !daemon::privileges::is_root() {
            return; // an ordinary user stays who it is
        }
        let (plan, _) = planned("mail_owner = nobody\n");
        let uid = Account::named("nobody").unwrap().uid;
        assert_eq!(plan.roles[0].account.as_ref().map(|account| account.uid), Some(uid));
        let (_, problems) = planned("mail_owner = none-of-this-name\n");
        assert!(problems.contains("/p/main.cf:1: mail_owner: "), "{problems}");
    }
}
