//! Who may relay, and names that do not do.

use config::postfix::{Host, Pattern};
use config::{Problems, postfix};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let Some(host) = &files.postfix else { return };
    open_relay(host, found);
    names(host, found);
}

fn open_relay(host: &Host, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    for item in host.main().get(postfix::MYNETWORKS, &mut quiet) {
        let Pattern::Network(network) = &item.pattern else { continue };
        let shown = network.to_string();
        let length: u8 = shown.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(128);
        let everyone = length == 0 && !item.negated;
        let wide = !shown.starts_with("127.")
            && !shown.starts_with("10.")
            && !shown.starts_with('[')
            && length < 12;
        let at = item.at.clone().or_else(|| Some(super::place(host, "mynetworks")));
        if everyone {
            let text =
                format!("mynetworks has {shown}: everybody may relay mail through this host");
            found.push(
                Finding::critical(at, text)
                    .mend("list the networks of your own alone")
                    .of(Plank::SmtpIn),
            );
        } else if wide && !item.negated {
            let text = format!(
                "mynetworks has {shown}, a network of many: all in it may relay mail through this host"
            );
            found.push(
                Finding::warning(at, text)
                    .mend("list the networks of your own alone")
                    .of(Plank::SmtpIn),
            );
        }
    }
}

fn names(host: &Host, found: &mut Vec<Finding>) {
    let name = super::text(host, "myhostname");
    let fit = name.contains('.') && !name.ends_with(".localdomain") && !name.ends_with(".local");
    if !fit && host.running("smtp").next().is_some() {
        let text = format!(
            "myhostname is {name}, which is no name of a host in the DNS: other hosts may refuse its mail"
        );
        found.push(
            Finding::warning(super::place(host, "myhostname"), text)
                .mend("write myhostname = mail.YOUR-DOMAIN, the name that the address of this host has in the DNS"),
        );
    }
    let mut quiet = Problems::default();
    let main = host.main();
    let domains = |items: Vec<postfix::Match>| -> Vec<(String, Option<config::Place>)> {
        let text = |item: postfix::Match| match item.pattern {
            Pattern::Text(text) if !item.negated => Some((text.to_ascii_lowercase(), item.at)),
            _ => None,
        };
        items.into_iter().filter_map(text).collect()
    };
    let local = domains(main.get(postfix::MYDESTINATION, &mut quiet));
    for (setting, listed) in [
        (
            "virtual_mailbox_domains",
            domains(main.get(postfix::VIRTUAL_MAILBOX_DOMAINS, &mut quiet)),
        ),
        ("virtual_alias_domains", domains(main.get(postfix::VIRTUAL_ALIAS_DOMAINS, &mut quiet))),
    ] {
        for (domain, at) in listed {
            if local.iter().any(|(other, _)| *other == domain) {
                let text = format!(
                    "{domain} is in mydestination and in {setting}: mydestination counts, the virtual users of the domain are unknown"
                );
                found.push(
                    Finding::critical(at, text)
                        .mend(format!("take {domain} out of one of the two"))
                        .of(Plank::Queue),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::say;
    use super::*;

    fn told(main: &str) -> String {
        let main = format!("myhostname = mail.example.com\n{main}");
        say(
            &[("postfix/main.cf", &main), ("postfix/master.cf", "smtp unix - - n - - smtp\n")],
            find,
        )
    }

    #[test]
    fn an_open_relay_is_told() {
        insta::assert_snapshot!(told("mynetworks = 127.0.0.0/8, 0.0.0.0/0\n"), @"Critical /postfix/main.cf:2: mynetworks has 0.0.0.0/0: everybody may relay mail through this host; list the networks of your own alone");
        insta::assert_snapshot!(told("mynetworks = 127.0.0.0/8 192.0.0.0/8\n"), @"Warning /postfix/main.cf:2: mynetworks has 192.0.0.0/8, a network of many: all in it may relay mail through this host; list the networks of your own alone");
        assert_eq!(told("mynetworks = 127.0.0.0/8 10.0.0.0/8 192.168.0.0/16 [::1]/128\n"), "");
    }

    #[test]
    fn a_domain_of_two_classes_is_told() {
        insta::assert_snapshot!(told("mydestination = localhost, example.com\nvirtual_mailbox_domains = Example.com\n"), @"Critical /postfix/main.cf:3: example.com is in mydestination and in virtual_mailbox_domains: mydestination counts, the virtual users of the domain are unknown; take example.com out of one of the two");
        let text = told("myhostname = vps7\n");
        assert!(text.contains("myhostname is vps7"), "{text}");
    }
}
