//! From main.cf and master.cf to [`ServiceSettings`]. Every setting has two names: `smtp_…` and `lmtp_…`.

use std::net::IpAddr;
use std::time::Duration;

use config::postfix::{self, Host, Service, Table, View};
use config::text::Word;
use config::{Files, Problems};
use daemon::tls::IdentityFiles;
use neighbours::postmaster::Postmaster;
use queue::QueueDirectory;
use routing::{Maps, TableName};

use crate::policy::{Level, TlsSettings};
use crate::session::login::OPTIONS;
use crate::settings::{
    AddedHeaders, Checks, ContentSettings, Generic, Preference, Reuse, Route, Sasl,
    ServiceSettings, Talk, Times,
};

/// Certificates of authorities beyond this are not read.
const LARGEST_AUTHORITIES: usize = 8 << 20;

/// Reads the settings of one service.
pub struct Reader<'h, 'p> {
    pub view: View<'h>,
    pub service: &'h Service,
    pub lmtp: bool,
    pub files: &'p dyn Files,
    pub problems: &'p mut Problems,
    /// Certificates and keys, which the supervisor reads.
    pub identities: Vec<IdentityFiles>,
}

/// The value of the SMTP or the LMTP setting, whichever the service is.
macro_rules! of {
    ($reader:ident, $smtp:ident, $lmtp:ident) => {
        if $reader.lmtp {
            $reader.view.get(postfix::$lmtp, $reader.problems)
        } else {
            $reader.view.get(postfix::$smtp, $reader.problems)
        }
    };
}

/// Where that setting stands.
macro_rules! place_of {
    ($reader:ident, $smtp:ident, $lmtp:ident) => {
        if $reader.lmtp {
            $reader.view.place(postfix::$lmtp)
        } else {
            $reader.view.place(postfix::$smtp)
        }
    };
}

impl<'h, 'p> Reader<'h, 'p> {
    pub fn new(
        host: &'h Host,
        service: &'h Service,
        files: &'p dyn Files,
        problems: &'p mut Problems,
    ) -> Self {
        let lmtp = service.command == "lmtp";
        Self { view: host.view(service), service, lmtp, files, problems, identities: Vec::new() }
    }

    /// `None` for a service without a socket.
    pub fn read(&mut self) -> Option<ServiceSettings> {
        let listener = self.service.socket()?;
        let sasl = self.sasl();
        let mut talk = self.talk();
        talk.sasl = sasl.is_some();
        let view = self.view;
        let syslog_name = view.get(postfix::SYSLOG_NAME, self.problems);
        let default_limit = view.get(postfix::DEFAULT_PROCESS_LIMIT, self.problems);
        let limit = self.service.limit.map_or(default_limit, i64::from);
        Some(ServiceSettings {
            listener,
            name: self.service.name.clone(),
            ident: format!("{syslog_name}/{}", self.service.command),
            lmtp: self.lmtp,
            limit: usize::try_from(limit).unwrap_or(0),
            queue: self.queue(),
            mail_version: view.get(postfix::MAIL_VERSION, self.problems),
            soft_bounce: view.get(postfix::SOFT_BOUNCE, self.problems),
            postmaster: Postmaster::read(&view, false, self.problems),
            ipc_timeout: view.get(postfix::IPC_TIMEOUT, self.problems),
            reports: [
                view.get(postfix::BOUNCE_SERVICE_NAME, self.problems),
                view.get(postfix::DEFER_SERVICE_NAME, self.problems),
                view.get(postfix::TRACE_SERVICE_NAME, self.problems),
            ],
            verify: view.get(postfix::ADDRESS_VERIFY_SERVICE_NAME, self.problems),
            flush: view.get(postfix::FLUSH_SERVICE_NAME, self.problems),
            negative_cache: view.get(postfix::ADDRESS_VERIFY_NEGATIVE_CACHE, self.problems),
            headers: self.headers(),
            route: self.route(),
            times: self.times(),
            talk,
            tls: self.tls(),
            sasl,
            reuse: self.reuse(),
            content: self.content(),
            generic: self.generic(),
            checks: self.checks(),
            status_filter: asked(
                &of!(self, SMTP_DELIVERY_STATUS_FILTER, LMTP_DELIVERY_STATUS_FILTER),
                self.problems,
            ),
        })
    }

    fn queue(&mut self) -> QueueDirectory {
        let (view, problems) = (self.view, &mut *self.problems);
        QueueDirectory {
            root: view.get(postfix::QUEUE_DIRECTORY, problems).into(),
            hashed: strings(&view.get(postfix::HASH_QUEUE_NAMES, problems)),
            depth: usize::try_from(view.get(postfix::HASH_QUEUE_DEPTH, problems)).unwrap_or(1),
            long_ids: view.get(postfix::ENABLE_LONG_QUEUE_IDS, problems),
        }
    }

    /// `flags=DORX` behind the program in master.cf.
    fn headers(&mut self) -> AddedHeaders {
        let mut headers = AddedHeaders::default();
        for operand in &self.service.operands {
            let Some(flags) = operand.as_str().strip_prefix("flags=") else {
                let what = format!("unknown argument \"{operand}\"");
                self.problems.error(self.service.at.clone(), what).instead("write flags=");
                continue;
            };
            for flag in flags.chars() {
                match flag {
                    'D' => headers.delivered_to = true,
                    'O' => headers.original_to = true,
                    'R' => headers.return_path = true,
                    'X' => headers.is_final = true,
                    other => {
                        let what = format!("unknown flag \"{other}\"");
                        self.problems
                            .error(self.service.at.clone(), what)
                            .instead("use D, O, R and X");
                    }
                }
            }
        }
        headers
    }

    fn route(&mut self) -> Route {
        let protocols = self.view.get(postfix::INET_PROTOCOLS, self.problems);
        let family = |name: &str| {
            protocols.iter().any(|word| word.as_str() == "all" || word.as_str() == name)
        };
        let level = of!(self, SMTP_DNS_SUPPORT_LEVEL, LMTP_DNS_SUPPORT_LEVEL);
        let disabled = self.view.get(postfix::DISABLE_DNS_LOOKUPS, self.problems);
        let dns = match level.as_str() {
            "" => !disabled,
            "disabled" => false,
            "enabled" | "dnssec" => true,
            other => {
                let what = format!("smtp_dns_support_level: invalid value \"{other}\"");
                self.problems
                    .error(place_of!(self, SMTP_DNS_SUPPORT_LEVEL, LMTP_DNS_SUPPORT_LEVEL), what)
                    .instead("write enabled or disabled");
                true
            }
        };
        let lookup = of!(self, SMTP_HOST_LOOKUP, LMTP_HOST_LOOKUP);
        let looks = |way: &str| lookup.split([' ', ',']).any(|word| word == way);
        let preference = match of!(self, SMTP_ADDRESS_PREFERENCE, LMTP_ADDRESS_PREFERENCE).as_str()
        {
            "ipv4" => Preference::Ipv4,
            "ipv6" => Preference::Ipv6,
            _ => Preference::Any,
        };
        let relayhost = self.view.get(postfix::RELAYHOST, self.problems);
        let address_limit = of!(self, SMTP_MX_ADDRESS_LIMIT, LMTP_MX_ADDRESS_LIMIT);
        let session_limit = of!(self, SMTP_MX_SESSION_LIMIT, LMTP_MX_SESSION_LIMIT);
        let own = routing::Settings::read(&self.view, self.files, &mut Problems::default());
        Route {
            port: self.port(),
            fallback: strings(&of!(self, SMTP_FALLBACK_RELAY, LMTP_FALLBACK_RELAY)),
            relayhost: relayhost.first().map(|word| word.as_str().to_owned()).unwrap_or_default(),
            dns: dns && looks("dns"),
            dnssec: level == "dnssec" && looks("dns"),
            native: !dns || looks("native"),
            ignore_mx_errors: self.view.get(postfix::IGNORE_MX_LOOKUP_ERROR, self.problems),
            defer_without_mx_address: of!(
                self,
                SMTP_DEFER_IF_NO_MX_ADDRESS_FOUND,
                LMTP_DEFER_IF_NO_MX_ADDRESS_FOUND
            ),
            randomize: of!(self, SMTP_RANDOMIZE_ADDRESSES, LMTP_RANDOMIZE_ADDRESSES),
            balance: of!(self, SMTP_BALANCE_INET_PROTOCOLS, LMTP_BALANCE_INET_PROTOCOLS),
            preference,
            address_limit: usize::try_from(address_limit).unwrap_or(0),
            session_limit: usize::try_from(session_limit).unwrap_or(0),
            ipv4: family("ipv4"),
            ipv6: family("ipv6"),
            own_addresses: own.own_addresses,
            bind4: self.bind(false),
            bind6: self.bind(true),
            bind_enforce: of!(self, SMTP_BIND_ADDRESS_ENFORCE, LMTP_BIND_ADDRESS_ENFORCE),
        }
    }

    fn port(&mut self) -> u16 {
        let name = of!(self, SMTP_TCP_PORT, LMTP_TCP_PORT);
        crate::destination::port(&name).unwrap_or_else(|| {
            let what = format!("smtp_tcp_port: unknown service \"{name}\"");
            self.problems
                .error(place_of!(self, SMTP_TCP_PORT, LMTP_TCP_PORT), what)
                .instead("write a port number");
            25
        })
    }

    fn bind(&mut self, ipv6: bool) -> Option<IpAddr> {
        let (text, place) = if ipv6 {
            let place = place_of!(self, SMTP_BIND_ADDRESS6, LMTP_BIND_ADDRESS6);
            (of!(self, SMTP_BIND_ADDRESS6, LMTP_BIND_ADDRESS6), place)
        } else {
            let place = place_of!(self, SMTP_BIND_ADDRESS, LMTP_BIND_ADDRESS);
            (of!(self, SMTP_BIND_ADDRESS, LMTP_BIND_ADDRESS), place)
        };
        if text.is_empty() {
            return None;
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() == ipv6 => Some(address),
            _ => {
                let family = if ipv6 { "IPv6" } else { "IPv4" };
                let what = format!("\"{text}\" is no {family} address to bind to");
                self.problems.error(place, what).instead("write the address itself");
                None
            }
        }
    }

    fn times(&mut self) -> Times {
        Times {
            connect: of!(self, SMTP_CONNECT_TIMEOUT, LMTP_CONNECT_TIMEOUT),
            helo: of!(self, SMTP_HELO_TIMEOUT, LMTP_LHLO_TIMEOUT),
            starttls: of!(self, SMTP_STARTTLS_TIMEOUT, LMTP_STARTTLS_TIMEOUT),
            mail: of!(self, SMTP_MAIL_TIMEOUT, LMTP_MAIL_TIMEOUT),
            rcpt: of!(self, SMTP_RCPT_TIMEOUT, LMTP_RCPT_TIMEOUT),
            data_init: of!(self, SMTP_DATA_INIT_TIMEOUT, LMTP_DATA_INIT_TIMEOUT),
            data_xfer: of!(self, SMTP_DATA_XFER_TIMEOUT, LMTP_DATA_XFER_TIMEOUT),
            data_done: of!(self, SMTP_DATA_DONE_TIMEOUT, LMTP_DATA_DONE_TIMEOUT),
            rset: of!(self, SMTP_RSET_TIMEOUT, LMTP_RSET_TIMEOUT),
            xforward: of!(self, SMTP_XFORWARD_TIMEOUT, LMTP_XFORWARD_TIMEOUT),
            quit: of!(self, SMTP_QUIT_TIMEOUT, LMTP_QUIT_TIMEOUT),
        }
    }

    fn talk(&mut self) -> Talk {
        let discard = of!(self, SMTP_DISCARD_EHLO_KEYWORDS, LMTP_DISCARD_LHLO_KEYWORDS);
        let maps = of!(
            self,
            SMTP_DISCARD_EHLO_KEYWORD_ADDRESS_MAPS,
            LMTP_DISCARD_LHLO_KEYWORD_ADDRESS_MAPS
        );
        let target = of!(self, SMTP_ADDRESS_VERIFY_TARGET, LMTP_ADDRESS_VERIFY_TARGET);
        if !matches!(target.as_str(), "rcpt" | "data") {
            let place = place_of!(self, SMTP_ADDRESS_VERIFY_TARGET, LMTP_ADDRESS_VERIFY_TARGET);
            let what = format!("bad protocol stage: \"{target}\"");
            self.problems.error(place, what).instead("write rcpt or data");
        }
        let mechanisms = of!(self, SMTP_SASL_MECHANISM_FILTER, LMTP_SASL_MECHANISM_FILTER);
        Talk {
            helo_name: of!(self, SMTP_HELO_NAME, LMTP_LHLO_NAME),
            myhostname: self.view.get(postfix::MYHOSTNAME, self.problems),
            always_ehlo: self.view.get(postfix::SMTP_ALWAYS_SEND_EHLO, self.problems),
            never_ehlo: self.view.get(postfix::SMTP_NEVER_SEND_EHLO, self.problems),
            skip_5xx_greeting: of!(self, SMTP_SKIP_5XX_GREETING, LMTP_SKIP_5XX_GREETING),
            skip_quit_response: of!(self, SMTP_SKIP_QUIT_RESPONSE, LMTP_SKIP_QUIT_RESPONSE),
            note_starttls_offer: of!(
                self,
                SMTP_TLS_NOTE_STARTTLS_OFFER,
                LMTP_TLS_NOTE_STARTTLS_OFFER
            ),
            quote_envelope: of!(self, SMTP_QUOTE_RFC821_ENVELOPE, LMTP_QUOTE_RFC821_ENVELOPE),
            dummy_mail_auth: of!(self, SMTP_SEND_DUMMY_MAIL_AUTH, LMTP_SEND_DUMMY_MAIL_AUTH),
            discard: strings(&discard).join(" "),
            discard_maps: asked(&maps, self.problems),
            reply_filter: asked(&of!(self, SMTP_REPLY_FILTER, LMTP_REPLY_FILTER), self.problems),
            xforward: of!(self, SMTP_SEND_XFORWARD_COMMAND, LMTP_SEND_XFORWARD_COMMAND),
            probe_with_data: target == "data",
            sasl: false,
            mechanism_filter: strings(&mechanisms),
            minimal_backoff: self.view.get(postfix::MINIMAL_BACKOFF_TIME, self.problems),
        }
    }

    fn sasl(&mut self) -> Option<Sasl> {
        if !of!(self, SMTP_SASL_AUTH_ENABLE, LMTP_SASL_AUTH_ENABLE) {
            return None;
        }
        let passwords = of!(self, SMTP_SASL_PASSWORD_MAPS, LMTP_SASL_PASSWORD_MAPS);
        if passwords.is_empty() {
            let place = place_of!(self, SMTP_SASL_AUTH_ENABLE, LMTP_SASL_AUTH_ENABLE);
            self.problems
                .error(place, "smtp_sasl_auth_enable without a password table")
                .instead("name one with smtp_sasl_password_maps");
        }
        let options = of!(self, SMTP_SASL_SECURITY_OPTIONS, LMTP_SASL_SECURITY_OPTIONS);
        let tls = of!(self, SMTP_SASL_TLS_SECURITY_OPTIONS, LMTP_SASL_TLS_SECURITY_OPTIONS);
        let verified = of!(
            self,
            SMTP_SASL_TLS_VERIFIED_SECURITY_OPTIONS,
            LMTP_SASL_TLS_VERIFIED_SECURITY_OPTIONS
        );
        let by_sender = !self.lmtp
            && self.view.get(postfix::SMTP_SENDER_DEPENDENT_AUTHENTICATION, self.problems);
        let routing = by_sender.then(|| {
            Box::new(routing::Settings::read(&self.view, self.files, &mut Problems::default()))
        });
        Some(Sasl {
            passwords: asked(&passwords, self.problems),
            options: self.options(strings(&options)),
            tls_options: self.options(strings(&tls)),
            verified_options: self.options(
                verified
                    .split([' ', ','])
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            by_sender,
            soft_bounce: of!(self, SMTP_SASL_AUTH_SOFT_BOUNCE, LMTP_SASL_AUTH_SOFT_BOUNCE),
            routing,
        })
    }

    fn options(&mut self, words: Vec<String>) -> Vec<String> {
        for word in &words {
            if !OPTIONS.contains(&word.to_ascii_lowercase().as_str()) {
                let place = place_of!(self, SMTP_SASL_SECURITY_OPTIONS, LMTP_SASL_SECURITY_OPTIONS);
                let what = format!("unknown SASL security option \"{word}\"");
                self.problems.error(place, what).instead(format!("use {}", OPTIONS.join(", ")));
            }
        }
        words.into_iter().map(|word| word.to_ascii_lowercase()).collect()
    }

    fn tls(&mut self) -> TlsSettings {
        let maps = of!(self, SMTP_TLS_POLICY_MAPS, LMTP_TLS_POLICY_MAPS);
        let loglevel = of!(self, SMTP_TLS_LOGLEVEL, LMTP_TLS_LOGLEVEL);
        let words = |list: &str| -> Vec<String> {
            let words = list.split([' ', ',', ':', '\t']).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        let prints = of!(self, SMTP_TLS_FINGERPRINT_CERT_MATCH, LMTP_TLS_FINGERPRINT_CERT_MATCH);
        let protocols = of!(self, SMTP_TLS_PROTOCOLS, LMTP_TLS_PROTOCOLS);
        let mandatory = of!(self, SMTP_TLS_MANDATORY_PROTOCOLS, LMTP_TLS_MANDATORY_PROTOCOLS);
        let exclude = of!(self, SMTP_TLS_EXCLUDE_CIPHERS, LMTP_TLS_EXCLUDE_CIPHERS);
        let more =
            of!(self, SMTP_TLS_MANDATORY_EXCLUDE_CIPHERS, LMTP_TLS_MANDATORY_EXCLUDE_CIPHERS);
        for grade in [
            of!(self, SMTP_TLS_CIPHERS, LMTP_TLS_CIPHERS),
            of!(self, SMTP_TLS_MANDATORY_CIPHERS, LMTP_TLS_MANDATORY_CIPHERS),
        ] {
            if grade == "null" {
                let place = place_of!(self, SMTP_TLS_CIPHERS, LMTP_TLS_CIPHERS);
                self.problems
                    .error(place, "smtp_tls_ciphers: null asks for TLS without encryption")
                    .instead("write medium or high");
            }
        }
        TlsSettings {
            level: self.level(),
            wrapped: of!(self, SMTP_TLS_WRAPPERMODE, LMTP_TLS_WRAPPERMODE),
            policy_maps: asked(&maps, self.problems),
            authorities: self.authorities(),
            server_name: of!(self, SMTP_TLS_SERVERNAME, LMTP_TLS_SERVERNAME),
            protocols: strings(&protocols).join(" "),
            mandatory_protocols: strings(&mandatory).join(" "),
            exclude: strings(&exclude).join(" "),
            mandatory_exclude: strings(&more).join(" "),
            verify_match: words(&of!(self, SMTP_TLS_VERIFY_CERT_MATCH, LMTP_TLS_VERIFY_CERT_MATCH)),
            secure_match: words(&of!(self, SMTP_TLS_SECURE_CERT_MATCH, LMTP_TLS_SECURE_CERT_MATCH)),
            fingerprints: prints
                .split([' ', ',', '\t'])
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
            digest: of!(self, SMTP_TLS_FINGERPRINT_DIGEST, LMTP_TLS_FINGERPRINT_DIGEST),
            wildcard_many: self
                .view
                .get(postfix::TLS_WILDCARD_MATCHES_MULTIPLE_LABELS, self.problems),
            log: !matches!(loglevel.as_str(), "" | "0" | "none"),
            reuse: of!(self, SMTP_TLS_CONNECTION_REUSE, LMTP_TLS_CONNECTION_REUSE),
            insecure_mx: {
                let word = self.view.get(postfix::SMTP_TLS_DANE_INSECURE_MX_POLICY, self.problems);
                Level::parse(&word).unwrap_or(Level::May)
            },
            force_tlsa: of!(
                self,
                SMTP_TLS_FORCE_INSECURE_HOST_TLSA_LOOKUP,
                LMTP_TLS_FORCE_INSECURE_HOST_TLSA_LOOKUP
            ),
            certificates: self.certificates(),
            sessions: self.sessions(),
        }
    }

    /// What we show to servers that ask: chain files, else one certificate for each kind of key.
    fn certificates(&mut self) -> Vec<String> {
        let place = place_of!(self, SMTP_TLS_CHAIN_FILES, LMTP_TLS_CHAIN_FILES);
        let mut pairs = Vec::new();
        for word in of!(self, SMTP_TLS_CHAIN_FILES, LMTP_TLS_CHAIN_FILES) {
            let place = word.at.or_else(|| place.clone());
            pairs.push((word.text.clone(), word.text, place));
        }
        if pairs.is_empty() {
            let ec = of!(self, SMTP_TLS_ECCERT_FILE, LMTP_TLS_ECCERT_FILE);
            let ec_key = of!(self, SMTP_TLS_ECKEY_FILE, LMTP_TLS_ECKEY_FILE);
            let place = place_of!(self, SMTP_TLS_ECCERT_FILE, LMTP_TLS_ECCERT_FILE);
            pairs.push((ec, ec_key, place));
            let rsa = of!(self, SMTP_TLS_CERT_FILE, LMTP_TLS_CERT_FILE);
            let rsa_key = of!(self, SMTP_TLS_KEY_FILE, LMTP_TLS_KEY_FILE);
            let place = place_of!(self, SMTP_TLS_CERT_FILE, LMTP_TLS_CERT_FILE);
            pairs.push((rsa, rsa_key, place));
            pairs.retain(|(certificate, ..)| !certificate.is_empty() && certificate != "none");
        }
        let mut names = Vec::new();
        for (certificate, key, place) in pairs {
            let key = if key.is_empty() { certificate.clone() } else { key };
            names.push(format!("{certificate} {key}"));
            self.identities.push(IdentityFiles {
                names: Vec::new(),
                certificate: certificate.into(),
                key: key.into(),
                place,
            });
        }
        names
    }

    fn sessions(&mut self) -> Option<Duration> {
        let database = of!(self, SMTP_TLS_SESSION_CACHE_DATABASE, LMTP_TLS_SESSION_CACHE_DATABASE);
        let lasting = of!(self, SMTP_TLS_SESSION_CACHE_TIMEOUT, LMTP_TLS_SESSION_CACHE_TIMEOUT);
        (!database.is_empty()).then_some(lasting)
    }

    /// `smtp_tls_security_level`, or what stood for it before.
    fn level(&mut self) -> Level {
        let word = of!(self, SMTP_TLS_SECURITY_LEVEL, LMTP_TLS_SECURITY_LEVEL);
        match word.as_str() {
            "" if of!(self, SMTP_ENFORCE_TLS, LMTP_ENFORCE_TLS) => {
                match of!(self, SMTP_TLS_ENFORCE_PEERNAME, LMTP_TLS_ENFORCE_PEERNAME) {
                    true => Level::Verify,
                    false => Level::Encrypt,
                }
            }
            "" if of!(self, SMTP_USE_TLS, LMTP_USE_TLS) => Level::May,
            "" => Level::None,
            word => Level::parse(word).unwrap_or(Level::Invalid),
        }
    }

    /// CAfile and CApath as one PEM text: the worker need not open them.
    fn authorities(&mut self) -> String {
        let file = of!(self, SMTP_TLS_CAFILE, LMTP_TLS_CAFILE);
        let path = of!(self, SMTP_TLS_CAPATH, LMTP_TLS_CAPATH);
        let mut text = String::new();
        if !file.is_empty() {
            match self.files.read(file.as_ref()) {
                Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => {
                    let place = place_of!(self, SMTP_TLS_CAFILE, LMTP_TLS_CAFILE);
                    self.problems
                        .error(place, format!("{file}: {error}"))
                        .instead("name a readable file of certificates");
                }
            }
        }
        for entry in directory(&path) {
            if let Ok(bytes) = self.files.read(&entry)
                && text.len() + bytes.len() < LARGEST_AUTHORITIES
            {
                text.push('\n');
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        text
    }

    fn reuse(&mut self) -> Reuse {
        let destinations =
            of!(self, SMTP_CONNECTION_CACHE_DESTINATIONS, LMTP_CONNECTION_CACHE_DESTINATIONS);
        let count = of!(self, SMTP_CONNECTION_REUSE_COUNT_LIMIT, LMTP_CONNECTION_REUSE_COUNT_LIMIT);
        Reuse {
            destinations: strings(&destinations),
            on_demand: of!(self, SMTP_CONNECTION_CACHE_ON_DEMAND, LMTP_CONNECTION_CACHE_ON_DEMAND),
            idle: of!(self, SMTP_CONNECTION_CACHE_TIME_LIMIT, LMTP_CONNECTION_CACHE_TIME_LIMIT),
            count: u64::try_from(count).unwrap_or(0),
            time: of!(self, SMTP_CONNECTION_REUSE_TIME_LIMIT, LMTP_CONNECTION_REUSE_TIME_LIMIT),
        }
    }

    fn content(&mut self) -> ContentSettings {
        let length = of!(self, SMTP_LINE_LENGTH_LIMIT, LMTP_LINE_LENGTH_LIMIT);
        ContentSettings {
            line_length: usize::try_from(length).unwrap_or(0),
            no_conversion: self.view.get(postfix::DISABLE_MIME_OUTPUT_CONVERSION, self.problems),
        }
    }

    fn checks(&mut self) -> Checks {
        let number = |value: i64| usize::try_from(value).unwrap_or(0);
        let largest_field = self.view.get(postfix::HEADER_SIZE_LIMIT, self.problems);
        let largest_field = usize::try_from(largest_field).unwrap_or(usize::MAX);
        Checks {
            header: asked(&of!(self, SMTP_HEADER_CHECKS, LMTP_HEADER_CHECKS), self.problems),
            mime_header: asked(
                &of!(self, SMTP_MIME_HEADER_CHECKS, LMTP_MIME_HEADER_CHECKS),
                self.problems,
            ),
            nested_header: asked(
                &of!(self, SMTP_NESTED_HEADER_CHECKS, LMTP_NESTED_HEADER_CHECKS),
                self.problems,
            ),
            body: asked(&of!(self, SMTP_BODY_CHECKS, LMTP_BODY_CHECKS), self.problems),
            nesting: number(self.view.get(postfix::MIME_NESTING_LIMIT, self.problems)),
            boundary: number(self.view.get(postfix::MIME_BOUNDARY_LENGTH_LIMIT, self.problems)),
            largest_field,
        }
    }

    fn generic(&mut self) -> Option<Generic> {
        let maps = asked(&of!(self, SMTP_GENERIC_MAPS, LMTP_GENERIC_MAPS), self.problems);
        let propagate = self.view.get(postfix::PROPAGATE_UNMATCHED_EXTENSIONS, self.problems);
        let propagate = propagate.iter().any(|word| word.as_str() == "generic");
        (!maps.is_empty()).then(|| {
            let routing = routing::Settings::read(&self.view, self.files, self.problems);
            Generic { maps, propagate, routing: Box::new(routing) }
        })
    }
}

/// The tables of a setting; one that can never answer would put off all mail.
fn asked(tables: &[Table], problems: &mut Problems) -> Maps {
    for table in tables {
        if let Some(why) = tables::unusable(&TableName::new(table.to_string())) {
            problems.error(table.at.clone(), format!("{table}: {why}"));
        }
    }
    Maps::of(tables)
}

fn strings(list: &[Word]) -> Vec<String> {
    list.iter().map(|word| word.as_str().to_owned()).collect()
}

/// The hashed certificates of a CApath (`c_rehash`).
fn directory(path: &str) -> Vec<std::path::PathBuf> {
    if path.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let hashed = |path: &std::path::PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| ending.bytes().all(|c| c.is_ascii_digit()))
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(hashed).collect();
    paths.sort();
    paths
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
