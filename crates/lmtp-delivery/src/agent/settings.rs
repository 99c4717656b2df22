//! What the agents obey, read from main.cf and master.cf into serialisable values.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use config::postfix::{self, Host, Service, View};
use config::{Files, Problems};
use queue::QueueDirectory;
use routing::Maps;
use serde::{Deserialize, Serialize};

use crate::agent::pipe::settings::PipeSettings;

/// The agent role: every service of master.cf that runs local or virtual.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentSettings {
    pub services: Vec<ServiceSettings>,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// The listener's name: the socket's path below the queue directory.
    pub listener: String,
    /// The service's name: what the log calls the relay, and routing the transport.
    pub name: String,
    pub ident: String,
    pub queue: QueueDirectory,
    pub mail_version: String,
    pub mail_name: String,
    pub myhostname: String,
    pub soft_bounce: bool,
    /// Names of the bounce, defer and trace services.
    pub reports: [String; 3],
    pub cleanup: String,
    pub recipient_delimiter: String,
    pub mbox: MboxSettings,
    /// Groups of delivery workers: the one that may make files in the mail spool, if it takes one.
    /// The same for all services, since a worker has its groups from its start.
    pub groups: Vec<u32>,
    pub agent: Agent,
}

/// Which of Postfix's programs this one is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Agent {
    Virtual(VirtualSettings),
    Local(Box<LocalSettings>),
    Pipe(Box<PipeSettings>),
}

/// Locks and limits of mbox files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MboxSettings {
    pub locks: Vec<String>,
    pub attempts: u32,
    pub pause: Duration,
    pub size_limit: u64,
    pub owned: bool,
}

/// What every command is run with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommandSettings {
    /// `local_command_shell`
    pub shell: String,
    pub time_limit: Duration,
    /// `command_execution_directory`, not expanded.
    pub directory: String,
    /// Characters that an expanded directory, or a variable of the environment, may have.
    pub directory_filter: String,
    pub filter: String,
    /// What `export_environment` stands for.
    pub environment: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VirtualSettings {
    pub base: String,
    pub maps: Maps,
    pub uids: Maps,
    pub gids: Maps,
    pub minimum_uid: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalSettings {
    pub routing: routing::Settings,
    pub alias_maps: Maps,
    pub forward_path: Vec<String>,
    pub home_mailbox: String,
    pub mail_spool_directory: String,
    pub mailbox_transport: String,
    pub mailbox_transport_maps: Maps,
    pub mailbox_command: String,
    pub mailbox_command_maps: Maps,
    pub fallback_transport: String,
    pub fallback_transport_maps: Maps,
    pub luser_relay: String,
    pub default_privs: String,
    /// `alias`, `forward`, `include`.
    pub files_from: Vec<String>,
    /// The same for commands.
    pub commands_from: Vec<String>,
    pub commands: CommandSettings,
}

impl ServiceSettings {
    /// `None` for a service without a socket.
    pub fn read(
        host: &Host,
        service: &Service,
        files: &dyn Files,
        problems: &mut Problems,
    ) -> Option<Self> {
        let view = host.view(service);
        let of_virtual = service.command == "virtual";
        let agent = match service.command.as_str() {
            "virtual" => Agent::Virtual(virtual_settings(&view, problems)),
            "pipe" => Agent::Pipe(Box::new(PipeSettings::read(host, service, &view, problems)?)),
            _ => {
                let mut settings = local_settings(&view, files, problems);
                settings.commands.environment = environment(host, &view, problems);
                Agent::Local(Box::new(settings))
            }
        };
        Some(Self {
            listener: service.socket()?,
            name: service.name.clone(),
            ident: format!("{}/{}", view.get(postfix::SYSLOG_NAME, problems), service.command),
            queue: queue_directory(&view, problems),
            mail_version: view.get(postfix::MAIL_VERSION, problems),
            mail_name: view.get(postfix::MAIL_NAME, problems),
            myhostname: view.get(postfix::MYHOSTNAME, problems),
            soft_bounce: view.get(postfix::SOFT_BOUNCE, problems),
            reports: [
                view.get(postfix::BOUNCE_SERVICE_NAME, problems),
                view.get(postfix::DEFER_SERVICE_NAME, problems),
                view.get(postfix::TRACE_SERVICE_NAME, problems),
            ],
            cleanup: view.get(postfix::CLEANUP_SERVICE_NAME, problems),
            recipient_delimiter: view.get(postfix::RECIPIENT_DELIMITER, problems),
            mbox: mbox_settings(&view, of_virtual, problems),
            groups: Vec::new(),
            agent,
        })
    }
}

impl LocalSettings {
    /// The group that a mailbox in the spool needs.
    pub fn spool_group(&self) -> Option<u32> {
        if self.home_mailbox.is_empty() { spool_group(&self.mail_spool_directory) } else { None }
    }
}

fn queue_directory(view: &View<'_>, problems: &mut Problems) -> QueueDirectory {
    QueueDirectory {
        root: view.get(postfix::QUEUE_DIRECTORY, problems).into(),
        hashed: words(&view.get(postfix::HASH_QUEUE_NAMES, problems)),
        depth: usize::try_from(view.get(postfix::HASH_QUEUE_DEPTH, problems)).unwrap_or(1),
        long_ids: view.get(postfix::ENABLE_LONG_QUEUE_IDS, problems),
    }
}

/// A mailbox limit below the message limit is fatal, as it is in Postfix: mail that was accepted
/// could never be delivered.
fn mbox_settings(view: &View<'_>, of_virtual: bool, problems: &mut Problems) -> MboxSettings {
    let (name, limit, place, locks) = if of_virtual {
        (
            "virtual_mailbox_limit",
            view.get(postfix::VIRTUAL_MAILBOX_LIMIT, problems),
            view.place(postfix::VIRTUAL_MAILBOX_LIMIT),
            view.get(postfix::VIRTUAL_MAILBOX_LOCK, problems),
        )
    } else {
        (
            "mailbox_size_limit",
            view.get(postfix::MAILBOX_SIZE_LIMIT, problems),
            view.place(postfix::MAILBOX_SIZE_LIMIT),
            view.get(postfix::MAILBOX_DELIVERY_LOCK, problems),
        )
    };
    let messages = view.get(postfix::MESSAGE_SIZE_LIMIT, problems);
    if limit != 0 && (messages == 0 || messages > limit) {
        let place = place.or_else(|| view.place(postfix::MESSAGE_SIZE_LIMIT));
        problems
            .error(place, format!("{name} is smaller than message_size_limit"))
            .instead(format!("{name} = 0"));
    }
    MboxSettings {
        locks: words(&locks),
        attempts: u32::try_from(view.get(postfix::DELIVER_LOCK_ATTEMPTS, problems)).unwrap_or(1),
        pause: view.get(postfix::DELIVER_LOCK_DELAY, problems),
        size_limit: limit,
        owned: view.get(postfix::STRICT_MAILBOX_OWNERSHIP, problems),
    }
}

fn words(list: &[config::text::Word]) -> Vec<String> {
    list.iter().map(|word| word.as_str().to_owned()).collect()
}

fn virtual_settings(view: &View<'_>, problems: &mut Problems) -> VirtualSettings {
    let minimum = view.get(postfix::VIRTUAL_MINIMUM_UID, problems);
    VirtualSettings {
        base: view.get(postfix::VIRTUAL_MAILBOX_BASE, problems),
        maps: Maps::of(&view.get(postfix::VIRTUAL_MAILBOX_MAPS, problems)),
        uids: Maps::of(&view.get(postfix::VIRTUAL_UID_MAPS, problems)),
        gids: Maps::of(&view.get(postfix::VIRTUAL_GID_MAPS, problems)),
        minimum_uid: u32::try_from(minimum).unwrap_or(100),
    }
}

fn local_settings(view: &View<'_>, files: &dyn Files, problems: &mut Problems) -> LocalSettings {
    let forward_path = view.get(postfix::FORWARD_PATH, problems);
    let forward_path = routing::tables::split_list(forward_path.as_str());
    let home_mailbox = view.get(postfix::HOME_MAILBOX, problems);
    let mail_spool_directory = view.get(postfix::MAIL_SPOOL_DIRECTORY, problems);
    LocalSettings {
        routing: routing::Settings::read(view, files, problems),
        alias_maps: Maps::of(&view.get(postfix::ALIAS_MAPS, problems)),
        forward_path: forward_path.into_iter().map(str::to_owned).collect(),
        home_mailbox,
        mail_spool_directory,
        mailbox_transport: view.get(postfix::MAILBOX_TRANSPORT, problems),
        mailbox_transport_maps: Maps::of(&view.get(postfix::MAILBOX_TRANSPORT_MAPS, problems)),
        mailbox_command: view.get(postfix::MAILBOX_COMMAND, problems).as_str().to_owned(),
        mailbox_command_maps: Maps::of(&view.get(postfix::MAILBOX_COMMAND_MAPS, problems)),
        fallback_transport: view.get(postfix::FALLBACK_TRANSPORT, problems),
        fallback_transport_maps: Maps::of(&view.get(postfix::FALLBACK_TRANSPORT_MAPS, problems)),
        luser_relay: view.get(postfix::LUSER_RELAY, problems).as_str().to_owned(),
        default_privs: view.get(postfix::DEFAULT_PRIVS, problems),
        files_from: words(&view.get(postfix::ALLOW_MAIL_TO_FILES, problems)),
        commands_from: words(&view.get(postfix::ALLOW_MAIL_TO_COMMANDS, problems)),
        commands: CommandSettings {
            shell: view.get(postfix::LOCAL_COMMAND_SHELL, problems),
            time_limit: view.get(postfix::COMMAND_TIME_LIMIT, problems),
            directory: view.get(postfix::COMMAND_EXECUTION_DIRECTORY, problems).as_str().to_owned(),
            directory_filter: view.get(postfix::EXECUTION_DIRECTORY_EXPANSION_FILTER, problems),
            filter: view.get(postfix::COMMAND_EXPANSION_FILTER, problems),
            environment: Vec::new(),
        },
    }
}

/// What `export_environment` names: with its value, or with the one that we have. Postfix's programs
/// always have MAIL_CONFIG.
pub fn environment(host: &Host, view: &View<'_>, problems: &mut Problems) -> Vec<(String, String)> {
    let exported = view.get(postfix::EXPORT_ENVIRONMENT, problems);
    let pair = |word: &config::text::Word| match word.as_str().split_once('=') {
        Some((name, value)) => Some((name.trim().to_owned(), value.trim().to_owned())),
        None if word.as_str() == "MAIL_CONFIG" => {
            Some(("MAIL_CONFIG".to_owned(), host.directory().display().to_string()))
        }
        None => std::env::var(word.as_str()).ok().map(|value| (word.as_str().to_owned(), value)),
    };
    exported.iter().filter_map(pair).collect()
}

/// The group whose members may make files in the spool directory, unless everybody may.
fn spool_group(spool: &str) -> Option<u32> {
    let metadata = std::fs::metadata(spool).ok()?;
    let (group, others) = (metadata.mode() & 0o020 != 0, metadata.mode() & 0o002 != 0);
    (group && !others && metadata.gid() != 0).then(|| metadata.gid())
}
