//! Lookup tables: what ours answers beside `postmap -q` and `postalias -q` on the same files.

use std::process::Command;
use std::time::Duration;

use harness::postfix::Postfix;
use harness::{Scratch, skip};
use routing::{Key, Maps};
use tables::Set;

const ADDRESSES: &str = "\
# virtual aliases
Alice@Example.com   bob, carol@example.org
@example.org  @example.net
bob
  continued,
# a comment inside

  more text
\"quoted user\"@example.com  q@example.com
dup one
dup two
trailing value with blanks   \n
user+ext@example.com ext
tab\tvalue
";

const ALIASES: &str = "\
postmaster: root
Root:   admin@example.com,
        \"|/usr/bin/filter -x 'a b'\"
\"two words\": \\bob, /var/mail/archive
list: :include:/etc/list
spaced : value
comment: a (note), b
";

const PATTERNS: &str = r"
/^(.*)-request@(.*)$/     owner-$1@${2}
!/@/                      unqualified
if /example\.com$/
/^User/                   $$folded
/^cased/i                 cased
if !/[0-9]/
/x.*y/                    x-to-y
endif
endif
/[[:digit:]]{3}/          three digits
/a\/b/                    slash
#/nothing/                commented
/(un)?matched/            group=$1.
|bar/pipe|                delimiter
";

const NETWORKS: &str = "\
192.0.2.1      one
192.0.2.0/24   net
!10.0.0.0/8    outside
if 10.1.0.0/16
10.1.2.0/24    inner
endif
2001:db8::/32  six
[2001:db9::]/64 seven
";

const ADDRESS_KEYS: &[&str] = &[
    "alice@example.com",
    "ALICE@example.COM",
    "@example.org",
    "bob",
    "\"quoted user\"@example.com",
    "quoted user@example.com",
    "dup",
    "trailing",
    "user+ext@example.com",
    "tab",
    "nobody",
    "#",
];
const ALIAS_KEYS: &[&str] =
    &["postmaster", "ROOT", "two words", "\"two words\"", "list", "spaced", "comment", "x"];
const PATTERN_KEYS: &[&str] = &[
    "a-b-request@c.d",
    "plain",
    "user@example.com",
    "USER1@EXAMPLE.COM",
    "cased@example.com",
    "Cased@example.com",
    "x@y.example.com",
    "a123@b",
    "12@b",
    "a/b@c",
    "unmatched@b",
    "matched@b",
    "bar/pipe@x",
    "z@z",
];
const NETWORK_KEYS: &[&str] = &[
    "192.0.2.1",
    "192.0.2.77",
    "10.1.2.3",
    "10.9.9.9",
    "203.0.113.9",
    "2001:db8::1",
    "2001:db9::5",
    "::1",
    "not an address",
];

/// Files laid out for both, their indexes made by Postfix.
fn lay(scratch: &Scratch) -> Postfix {
    let postfix = Postfix::lay(scratch, "default_database_type = hash\n");
    for (name, text) in [
        ("addresses", ADDRESSES),
        ("aliases", ALIASES),
        ("patterns", PATTERNS),
        ("networks", NETWORKS),
    ] {
        scratch.write(name, text);
    }
    let indexed = |name: &str| format!("hash:{}", scratch.join(name).display());
    postfix.command(&["postmap", &indexed("addresses")]);
    postfix.command(&["postalias", &indexed("aliases")]);
    postfix
}

#[test]
fn every_table_answers_as_postmap_does() {
    if !skip::can_run(false, &["postmap", "postalias"]) {
        return;
    }
    let scratch = Scratch::new();
    let postfix = lay(&scratch);
    let file = |kind: &str, name: &str| format!("{kind}:{}", scratch.join(name).display());
    let mut set = Set::default().looking_every(Duration::ZERO);
    for (command, table, keys) in [
        ("postmap", file("hash", "addresses"), ADDRESS_KEYS),
        ("postmap", file("texthash", "addresses"), ADDRESS_KEYS),
        ("postalias", file("hash", "aliases"), ALIAS_KEYS),
        ("postmap", file("regexp", "patterns"), PATTERN_KEYS),
        ("postmap", file("pcre", "patterns"), PATTERN_KEYS),
        ("postmap", file("cidr", "networks"), NETWORK_KEYS),
        ("postmap", "inline:{a=b, {c = d e}, F=g}".to_owned(), &["a", "C", "f", "x"]),
        ("postmap", "static:{always this}".to_owned(), &["a"]),
        ("postmap", "unionmap:{inline:{a=1},inline:{a=2,b=3}}".to_owned(), &["a", "b", "c"]),
        ("postmap", "pipemap:{inline:{a=b},inline:{b=c}}".to_owned(), &["a", "b"]),
        ("postmap", "unix:passwd.byname".to_owned(), &["root", "ROOT", "no-such-user"]),
    ] {
        let maps = Maps::parse(&format!("{{{table}}}"));
        let aliases = command == "postalias";
        let problems = if aliases { set.open_aliases(&maps) } else { set.open(&maps) };
        assert!(problems.iter().all(|problem| !problem.unusable), "{problems:?}");
        for key in keys {
            let ours = block_on(maps.find(&set, key, Key::Whole)).unwrap();
            let theirs = theirs(&postfix, command, key, &table);
            // postalias writes its values anew, with single blanks.
            let shown = |text: Option<String>| match aliases {
                true => text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
                false => text,
            };
            assert_eq!(shown(ours), shown(theirs), "{command} -q {key:?} {table}");
        }
    }
}

fn theirs(postfix: &Postfix, command: &str, key: &str, table: &str) -> Option<String> {
    let config = postfix.config();
    let output = Command::new(command)
        .args(["-c", config.to_str().unwrap(), "-q", key, table])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| text.trim_end_matches('\n').to_owned())
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
