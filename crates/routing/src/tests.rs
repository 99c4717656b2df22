//! Tables of whole decisions, with the answers of Postfix 3.7.11 to the same settings.

use crate::domains::{DomainList, Subdomains};
use crate::expand::{ExpandError, Role};
use crate::resolve::{Class, Resolution, Routing};
use crate::settings::{AddressMaps, Classes, KnownRecipients, Settings, Transports};
use crate::tables::Maps;
use crate::testing::Memory;
use crate::{Known, rewrite};

fn list(text: &str, subdomains: Subdomains) -> DomainList {
    DomainList::parse(text, subdomains)
}

fn transports() -> Transports {
    Transports {
        local: "local:mail.example.test".into(),
        virtual_mailbox: "virtual".into(),
        relay: "relay".into(),
        default: "smtp".into(),
        relayhost: "[hub.example.test]:587".into(),
        transport_maps: Maps::parse("hash:/transport"),
        transport_subdomains: Subdomains::WithDot,
        sender_dependent_default_transport_maps: Maps::parse("hash:/sdt"),
        sender_dependent_relayhost_maps: Maps::parse("hash:/sdr"),
        null_sender_transport_key: "<>".into(),
        null_sender_relayhost_key: "<>".into(),
    }
}

fn routing() -> Routing<Memory> {
    let settings = Settings {
        myhostname: "mail.example.test".into(),
        rewriting: rewrite::tests::rewriting(),
        recipient_delimiter: "+".into(),
        empty_address_recipient: "MAILER-DAEMON".into(),
        resolve_dequoted_address: true,
        resolve_null_domain: false,
        own_addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        classes: Classes {
            mydestination: list("mail.example.test, localhost", Subdomains::No),
            virtual_alias_domains: list("va.test", Subdomains::No),
            virtual_mailbox_domains: list("vm.test", Subdomains::No),
            relay_domains: list("relay.test", Subdomains::WithParent),
        },
        transports: transports(),
        probe_transports: transports(),
        maps: AddressMaps {
            virtual_alias: Maps::parse("hash:/virtual"),
            canonical: Maps::parse("hash:/canonical"),
            relocated: Maps::parse("hash:/relocated"),
            propagate_in_canonical: true,
            propagate_in_virtual: true,
            masquerade_domains: vec!["!keep.mq.test".into(), "mq.test".into()],
            masquerade_exceptions: vec!["root".into()],
            ..AddressMaps::default()
        },
        known: KnownRecipients {
            aliases: Maps::default(),
            local: Maps::parse("hash:/users"),
            virtual_mailbox: Maps::parse("hash:/boxes"),
            relay: Maps::default(),
            show_table_name: true,
            double_bounce_sender: "double-bounce".into(),
            local_code: 550,
            virtual_alias_code: 550,
            virtual_mailbox_code: 550,
            relay_code: 550,
        },
    };
    let tables = Memory::default()
        .with(
            "hash:/transport",
            &[
                ("t.test", "tt:[th]"),
                (".sub.test", "st:"),
                ("u@vm.test", ":[uh]"),
                ("err.test", "error:no mail here"),
                ("err2.test", "error"),
                ("dis.test", "discard:"),
            ],
        )
        .with("hash:/sdt", &[("a@s.test", "special:"), ("b@s.test", "DUNNO")])
        .with("hash:/sdr", &[("@s.test", "[sr]"), ("c@s.test", "DUNNO")])
        .with(
            "hash:/virtual",
            &[
                ("a@va.test", "b@va.test, c"),
                ("b@va.test", "b@va.test, d@x.test"),
                ("@wild.test", "@target.test"),
                ("pl@va.test", "q@y.test"),
                ("loop1@va.test", "xloop1@va.test"),
                ("list", "one@x.test two@x.test, \"o q\"@z.test"),
                ("deep@va.test", "deep+x@va.test"),
            ],
        )
        .with("hash:/canonical", &[("old@c.test", "new@c.test")])
        .with("hash:/relocated", &[("gone@mail.example.test", "there@else.test")])
        .with("hash:/users", &[("alice", "x")])
        .with("hash:/boxes", &[("u@vm.test", "u/")]);
    Routing { settings, tables }
}

#[tokio::test]
async fn addresses_resolve_to_class_transport_and_next_hop() {
    let routing = routing();
    for (sender, address, class, transport, nexthop, recipient) in [
        ("", "alice", Class::Local, "local", "mail.example.test", "alice@mail.example.test"),
        ("", "a@localhost", Class::Local, "local", "mail.example.test", "a@localhost"),
        ("", "a@[127.0.0.1]", Class::Local, "local", "mail.example.test", "a@[127.0.0.1]"),
        ("", "", Class::Local, "local", "mail.example.test", "MAILER-DAEMON@mail.example.test"),
        (
            "",
            "x@va.test",
            Class::VirtualAlias,
            "error",
            "5.1.1 User unknown in virtual alias table",
            "x@va.test",
        ),
        ("", "x@vm.test", Class::VirtualMailbox, "virtual", "vm.test", "x@vm.test"),
        ("", "u+e@vm.test", Class::VirtualMailbox, "virtual", "[uh]", "u+e@vm.test"),
        ("", "x@a.relay.test", Class::Relay, "relay", "[hub.example.test]:587", "x@a.relay.test"),
        ("", "x@y.test.", Class::Default, "smtp", "[hub.example.test]:587", "x@y.test"),
        ("a@s.test", "x@y.test", Class::Default, "special", "[sr]", "x@y.test"),
        ("b@s.test", "x@y.test", Class::Default, "smtp", "[sr]", "x@y.test"),
        ("c@s.test", "x@y.test", Class::Default, "smtp", "[hub.example.test]:587", "x@y.test"),
        ("", "x@t.test", Class::Default, "tt", "[th]", "x@t.test"),
        ("", "x@a.sub.test", Class::Default, "st", "a.sub.test", "x@a.sub.test"),
        ("", "x@err.test", Class::Default, "error", "no mail here", "x@err.test"),
        ("", "x@err2.test", Class::Default, "error", "Address is undeliverable", "x@err2.test"),
        ("", "x@dis.test", Class::Default, "discard", "dis.test", "x@dis.test"),
        ("", "x%y.test@localhost", Class::Default, "smtp", "[hub.example.test]:587", "x@y.test"),
        ("", "y.test!x@localhost", Class::Default, "smtp", "[hub.example.test]:587", "x@y.test"),
        ("", "gone@localhost", Class::Local, "local", "mail.example.test", "gone@localhost"),
        (
            "",
            "gone",
            Class::Local,
            "error",
            "5.1.6 User has moved to there@else.test",
            "gone@mail.example.test",
        ),
    ] {
        let Ok(Resolution::Route(route)) = routing.resolve(sender, address).await else {
            panic!("{address}")
        };
        assert_eq!(
            (
                route.class,
                route.transport.as_str(),
                route.nexthop.as_str(),
                route.recipient.as_str()
            ),
            (class, transport, nexthop, recipient),
            "{sender} {address}"
        );
    }
}

#[tokio::test]
async fn source_routes_and_bad_domains_are_seen() {
    let routing = routing();
    for (address, routed) in
        [("a%b@y.test", true), ("a!b@y.test", true), ("a@b@y.test", true), ("a@y.test", false)]
    {
        let Ok(Resolution::Route(route)) = routing.resolve("", address).await else {
            panic!("{address}")
        };
        assert_eq!(route.source_routed, routed, "{address}");
    }
    for address in
        ["a@b..c", "a@-b.c", "a@[999.1.1.1]", "a@1.2.3.4", "a@b c.d", "a@", "a@123", "<a@y.test>"]
    {
        let resolution = routing.resolve("", address).await.unwrap();
        assert!(matches!(resolution, Resolution::BadSyntax { .. }), "{address} {resolution:?}");
    }
}

#[tokio::test]
async fn virtual_aliases_expand_until_they_find_themselves() {
    let mut routing = routing();
    for (recipient, results) in [
        ("a@va.test", &["b@va.test", "c@mail.example.test", "d@x.test"][..]),
        ("x@wild.test", &["x@target.test"]),
        ("x+e@wild.test", &["x+e@target.test"]),
        ("pl+ext@va.test", &["q+ext@y.test"]),
        ("list@localhost", &["one@x.test", "two@x.test", "o q@z.test"]),
        ("nobody@x.test", &["nobody@x.test"]),
    ] {
        assert_eq!(routing.virtual_aliases(recipient).await.unwrap(), results, "{recipient}");
    }
    let error = routing.virtual_aliases("deep@va.test").await.unwrap_err();
    assert!(matches!(error, ExpandError::Nesting { .. } | ExpandError::Length { .. }), "{error}");
    routing.settings.maps.limits.addresses = 1;
    let error = routing.virtual_aliases("a@va.test").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "unreasonable virtual_alias_maps map expansion size for a@va.test"
    );
    routing.settings.maps.virtual_alias = Maps::parse("hash:/gone");
    assert!(matches!(routing.virtual_aliases("a@b").await, Err(ExpandError::Lookup(_))));
}

#[tokio::test]
async fn canonical_and_masquerade() {
    let mut routing = routing();
    routing.settings.maps.sender_canonical = Maps::default();
    assert_eq!(routing.canonical(Role::Sender, "old+x@c.test").await.unwrap(), "new+x@c.test");
    for (address, hidden) in [
        ("u@h.mq.test", "u@mq.test"),
        ("root@h.mq.test", "root@h.mq.test"),
        ("u@a.keep.mq.test", "u@a.keep.mq.test"),
        ("u@xmq.test", "u@xmq.test"),
        ("u", "u"),
    ] {
        assert_eq!(routing.masquerade(address), hidden);
    }
}

#[tokio::test]
async fn unknown_recipients_are_refused_in_postfix_words() {
    let routing = routing();
    for (address, refusal) in [
        ("alice+tag@localhost", None),
        ("postmaster@localhost", None),
        ("nosuch@mail.example.test", Some("550 5.1.1 User unknown in local recipient table")),
        ("u@vm.test", None),
        ("v@vm.test", Some("550 5.1.1 User unknown in virtual mailbox table")),
        ("a@va.test", None),
        ("z@va.test", Some("550 5.1.1 User unknown in virtual alias table")),
        ("any@relay.test", None),
        ("any@y.test", None),
        ("x@err.test", Some("550 5.1.1 no mail here")),
        ("gone", Some("550 5.1.6 User has moved to there@else.test")),
    ] {
        let resolution = routing.resolve("", address).await.unwrap();
        let text = match routing.known(Role::Recipient, &resolution).await.unwrap() {
            Known::Yes => None,
            Known::No(no) => Some(format!("{} {} {}", no.code, no.status, no.text)),
        };
        assert_eq!(text.as_deref(), refusal, "{address}");
    }
    let resolution = routing.resolve("", "z@va.test").await.unwrap();
    let Known::No(no) = routing.known(Role::Sender, &resolution).await.unwrap() else { panic!() };
    assert_eq!(no.status, "5.1.0");
}
