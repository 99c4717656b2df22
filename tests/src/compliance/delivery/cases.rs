//! The messages: to an alias with a command or a file, or to a domain that a pipe service takes.

pub const MAIN: &str = "\
alias_maps = hash:ROOT/aliases, hash:ROOT/owned
local_recipient_maps =
recipient_delimiter = +
mailbox_size_limit = 0
command_time_limit = 3s
p_limit_time_limit = 1s
export_environment = TZ=UTC MAIL_CONFIG=/nowhere FOO=bar
mailbox_command_maps = inline:{{games = ROOT/show ROOT/out/games a b},{daemon = env | sort > ROOT/out/daemon; exit 77}}
transport_maps = inline:{flags.test=p_flags: mbox.test=p_mbox: temp.test=p_temp: nouser.test=p_nouser: size.test=p_size: macro.test=p_macro: where.test=p_where: final.test=p_final: gone.test=p_gone: limit.test=p_limit: parts.test=p_parts: null.test=p_null: signal.test=p_signal: dsn.test=p_dsn: setgid.test=p_setgid: next.test=p_flags:Next.Hop}
p_flags_destination_recipient_limit = 1
default_destination_recipient_limit = 50
smtpd_recipient_restrictions = permit_mynetworks, reject
minimal_backoff_time = 1000s
";

pub const SERVICES: &str = "\
p_flags unix - n n - - pipe flags=DORhu user=nobody argv=ROOT/show ROOT/out/$user $sender $recipient $nexthop ${size} $(client_address) $client_helo $client_protocol +${sasl_method}
p_mbox unix - n n - - pipe flags=BFRq.> user=nobody eol=\\r\\n argv=ROOT/show ROOT/out/pipe_mbox $sender ${recipient}
p_temp unix - n n - - pipe user=nobody argv=/bin/sh -c {echo come back; exit 75}
p_nouser unix - n n - - pipe user=nobody argv=/bin/sh -c {exit 67}
p_size unix - n n - - pipe user=nobody size=10 argv=/bin/cat
p_macro unix - n n - - pipe user=nobody argv=/bin/echo ${size?conditions}
p_where unix - n n - - pipe user=games:daemon directory=/usr argv=/bin/sh -c {(pwd; id -u; id -g; umask) > ROOT/out/pipe_where}
p_final unix - n n - - pipe flags=X user=nobody argv=/bin/echo taken over
p_gone unix - n n - - pipe user=nobody argv=/no/such/program x
p_limit unix - n n - - pipe user=nobody argv=/bin/sleep 30
p_parts unix - n n - - pipe user=nobody argv=ROOT/show ROOT/out/pipe_parts -- $user/$extension/$mailbox/$domain end
p_null unix - n n - - pipe flags=F user=nobody null_sender= argv=ROOT/show ROOT/out/pipe_null -f $sender
p_signal unix - n n - - pipe user=nobody argv=/bin/sh -c {echo dying; kill -9 $$$$}
p_setgid unix - n n - - pipe user=nobody argv=/bin/sh -c {(ROOT/group -g; grep NoNewPrivs /proc/self/status) > ROOT/out/pipe_setgid}
p_dsn unix - n n - - pipe user=nobody argv=/bin/sh -c {echo 5.7.5 not with me; exit 1}
";

/// The user whose the second table and the file `owned_list` are.
pub const OWNER: &str = "games";

pub struct Case {
    pub name: &'static str,
    /// What the alias of this name says.
    pub alias: Option<&'static str>,
    /// Where it goes if not to the alias.
    to: &'static [&'static str],
    pub sender: &'static str,
    pub header: &'static str,
}

impl Case {
    pub fn recipients(&self) -> Vec<String> {
        match self.to {
            [] => vec![format!("{}@example.com", self.name)],
            to => to.iter().map(|&to| to.to_owned()).collect(),
        }
    }

    pub fn relay(&self) -> String {
        match self.to.first().and_then(|to| to.split_once('@')) {
            Some((_, "example.com")) | None => "local".to_owned(),
            Some((_, "next.test")) => "p_flags".to_owned(),
            Some((_, domain)) => format!("p_{}", domain.trim_end_matches(".test").to_lowercase()),
        }
    }
}

const fn alias(name: &'static str, alias: &'static str) -> Case {
    Case { name, alias: Some(alias), to: &[], sender: "sender@example.com", header: "" }
}

const fn to(name: &'static str, to: &'static [&'static str]) -> Case {
    Case { name, alias: None, to, sender: "sender@example.com", header: "" }
}

pub fn all() -> Vec<Case> {
    let mut cases = vec![
        alias("cat", "\"|cat > ROOT/out/cat\""),
        alias("env", "\"|env | sort > ROOT/out/env\""),
        alias("who", "\"|(id -u; id -g; pwd; umask) > ROOT/out/who\""),
        alias(
            "setgid",
            "\"|(ROOT/group -g; grep NoNewPrivs /proc/self/status) > ROOT/out/setgid\"",
        ),
        alias("words", "\"|ROOT/show ROOT/out/words one two\""),
        alias("status1", "\"|exit 1\""),
        alias("status2", "\"|echo some output; exit 2\""),
        alias("status63", "\"|exit 63\""),
        alias("status64", "\"|exit 64\""),
        alias("status65", "\"|echo no good; exit 65\""),
        alias("status66", "\"|exit 66\""),
        alias("status67", "\"|exit 67\""),
        alias("status68", "\"|exit 68\""),
        alias("status69", "\"|printf 'a\\\\tb\\\\001c\\\\n'; exit 69\""),
        alias("status70", "\"|exit 70\""),
        alias("status71", "\"|exit 71\""),
        alias("status72", "\"|exit 72\""),
        alias("status73", "\"|exit 73\""),
        alias("status74", "\"|exit 74\""),
        alias("status75", "\"|echo later >&2; exit 75\""),
        alias("status76", "\"|exit 76\""),
        alias("status77", "\"|exit 77\""),
        alias("status78", "\"|exit 78\""),
        alias("status79", "\"|exit 79\""),
        alias("own4", "\"|echo 4.2.2 mailbox is full; exit 1\""),
        alias("own5", "\"|echo 5.1.6 has moved away; exit 75\""),
        alias("nodsn", "\"|echo 5.1 is no status; exit 1\""),
        alias("signal", "\"|kill -15 $$\""),
        alias("gone", "\"|/no/such/command -x\""),
        alias("unknown", "\"|no-such-command -x\""),
        alias("slow", "\"|echo before; sleep 30\""),
        alias("noise", "\"|echo noise\""),
        alias("unread", "\"|true\""),
        alias("include", ":include:ROOT/list"),
        alias("include_owned", ":include:ROOT/owned_list"),
        alias("file", "ROOT/out/file"),
        alias(
            "owned_who",
            "\"|(id -u; id -g; echo $HOME $SHELL $LOGNAME $USER) > ROOT/out/owned_who\"",
        ),
        alias("owned_file", "ROOT/out/owned_file"),
        Case { to: &["ext+foo@example.com"], ..alias("ext", "\"|env | sort > ROOT/out/ext\"") },
        Case {
            sender: "o'b|x@example.com",
            ..alias("filter", "\"|env | sort > ROOT/out/filter\"")
        },
        Case { sender: "", ..alias("null", "\"|cat > ROOT/out/null\"") },
        to("games", &["games@example.com"]),
        to("daemon", &["daemon+x@example.com"]),
        to("pipeuser", &["PipeUser@Flags.test"]),
        to("nexthop", &["nexthop@next.test"]),
        Case {
            header: "Delivered-To: looped@flags.test\r\n",
            ..to("looped", &["looped@flags.test"])
        },
        to("pipe_mbox", &["a.b@mbox.test"]),
        to("pipe_temp", &["x@temp.test"]),
        to("pipe_nouser", &["x@nouser.test"]),
        to("pipe_size", &["x@size.test"]),
        to("pipe_macro", &["x@macro.test"]),
        to("pipe_where", &["x@where.test"]),
        to("pipe_final", &["x@final.test"]),
        to("pipe_gone", &["x@gone.test"]),
        to("pipe_limit", &["x@limit.test"]),
        to("pipe_parts", &["a+b@parts.test", "c@parts.test"]),
        to("pipe_signal", &["x@signal.test"]),
        to("pipe_dsn", &["x@dsn.test"]),
    ];
    cases.push(Case { sender: "", ..to("pipe_null", &["x@null.test"]) });
    cases
}
