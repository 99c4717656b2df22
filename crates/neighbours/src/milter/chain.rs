//! All filters of a session, in their order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::Stream;
use protocol::milter::{Actions, Event, MacroClass, Stage, Steps};
use protocol::postfix::milter::{Common, ENVELOPE, HandedMilter, MacroLists, READY};

use super::filter::{Client, Filter, State, Values};
use super::link::Link;
use super::macros::{self, Macros};
use super::settings::{DefaultAction, FilterSettings, Settings};
use super::{Message, Response};

/// The filters of one client. Dropped without [`Chain::quit`], it closes their sockets.
#[derive(Debug)]
pub struct Chain {
    filters: Vec<Filter>,
    lists: MacroLists,
    defaults: Vec<(String, String)>,
}

impl Chain {
    /// Nothing is connected yet. `ident` is the name in the log, `directory` the one that relative sockets are in.
    #[must_use]
    pub fn new(settings: &Settings, ident: &str, directory: &Path) -> Self {
        let (ident, directory): (Arc<str>, Arc<Path>) = (ident.into(), directory.into());
        let filter = |filter: &FilterSettings| {
            Filter::new(filter.clone(), Arc::clone(&ident), Arc::clone(&directory))
        };
        Self {
            filters: settings.filters.iter().map(filter).collect(),
            lists: settings.macros.clone(),
            defaults: settings.defaults.clone(),
        }
    }

    /// The filters that smtpd hands to cleanup, in the middle of their conversations.
    #[must_use]
    pub fn received(common: Common, filters: Vec<(HandedMilter, Stream)>, ident: &str) -> Self {
        let ident: Arc<str> = ident.into();
        let nowhere: Arc<Path> = Path::new("").into();
        let filter = |(handed, stream): (HandedMilter, Stream)| {
            let seconds = |count: u32| Duration::from_secs(count.max(1).into());
            let settings = FilterSettings {
                name: handed.name,
                connect_timeout: seconds(handed.connect_timeout),
                command_timeout: seconds(handed.command_timeout),
                content_timeout: seconds(handed.content_timeout),
                protocol: handed.version.to_string(),
                default_action: DefaultAction::parse(&handed.action).unwrap_or_default(),
            };
            let mut filter = Filter::new(settings, Arc::clone(&ident), Arc::clone(&nowhere));
            filter.link = Some(Link::new(stream));
            filter.state = if handed.state == READY { State::Ready } else { State::Envelope };
            (filter.version, filter.actions) = (handed.version, Actions(handed.actions));
            (filter.steps, filter.withheld) = (Steps(handed.steps), Steps(handed.withheld));
            filter.macros = handed.macros;
            filter
        };
        let filters = filters.into_iter().map(filter).collect();
        Self { filters, lists: common.macros, defaults: common.defaults }
    }

    /// A client has connected: each filter gets its socket now.
    pub async fn connect(&mut self, client: &Client, values: &impl Macros) -> Option<Response> {
        let event = client.event();
        for filter in &mut self.filters {
            filter.connect().await;
            let values = filter_values(filter, &self.lists, &self.defaults, Stage::Connect, values);
            let response = if filter.listens(Stage::Connect) {
                filter.state = State::Envelope;
                filter.ask(&event, values).await
            } else {
                filter.last_word()
            };
            if response.is_some() {
                return response;
            }
        }
        None
    }

    pub async fn helo(&mut self, name: &str, values: &impl Macros) -> Option<Response> {
        self.event(&Event::Helo(owned(name)), values, |_| true).await
    }

    /// The address as it stands behind `MAIL FROM:`, and its parameters.
    pub async fn mail(
        &mut self,
        address: &str,
        parameters: &[String],
        values: &impl Macros,
    ) -> Option<Response> {
        let parameters = parameters.iter().map(|one| owned(one)).collect();
        let event = Event::Mail { address: owned(address), parameters };
        self.event(&event, values, |_| true).await
    }

    /// `rejected`: the server refuses this recipient; only filters that want to see such ones do.
    pub async fn rcpt(
        &mut self,
        address: &str,
        parameters: &[String],
        rejected: bool,
        values: &impl Macros,
    ) -> Option<Response> {
        let parameters = parameters.iter().map(|one| owned(one)).collect();
        let event = Event::Rcpt { address: owned(address), parameters };
        let wanted = |filter: &Filter| !rejected || filter.steps.contains(Steps::REJECTED_RCPT);
        self.event(&event, values, wanted).await
    }

    pub async fn data(&mut self, values: &impl Macros) -> Option<Response> {
        self.event(&Event::Data, values, |_| true).await
    }

    /// A command that the server does not know.
    pub async fn unknown(&mut self, command: &str, values: &impl Macros) -> Option<Response> {
        self.event(&Event::Unknown(owned(command)), values, |_| true).await
    }

    async fn event(
        &mut self,
        event: &Event,
        values: &impl Macros,
        wanted: impl Fn(&Filter) -> bool,
    ) -> Option<Response> {
        let stage = event.stage()?;
        for filter in &mut self.filters {
            if !wanted(filter) {
                continue;
            }
            let response = if filter.listens(stage) {
                let values = filter_values(filter, &self.lists, &self.defaults, stage, values);
                filter.ask(event, values).await
            } else {
                filter.last_word()
            };
            if response.is_some() {
                return response;
            }
        }
        None
    }

    /// What filters have said of this client for good, for commands that they are not told of.
    #[must_use]
    pub fn standing(&self) -> Option<Response> {
        self.filters.iter().find_map(Filter::last_word)
    }

    /// Shows the content to each filter in turn, with the edits of those before it, and carries out its own.
    pub async fn message(
        &mut self,
        message: &mut impl Message,
        values: &impl Macros,
    ) -> Option<Response> {
        for filter in &mut self.filters {
            let of = |filter: &Filter, stage| {
                filter_values(filter, &self.lists, &self.defaults, stage, values)
            };
            let response = if filter.listens(Stage::Eom) {
                let (header, body) = (of(filter, Stage::Eoh), of(filter, Stage::Eom));
                filter.message(message, header, body).await
            } else {
                filter.last_word()
            };
            if response.is_some() {
                return response;
            }
        }
        None
    }

    /// The transaction is over, for whatever reason.
    pub fn abort(&mut self) {
        self.filters.iter_mut().for_each(Filter::abort);
    }

    /// The client is gone. The chain can serve another one.
    pub async fn quit(&mut self) {
        for filter in &mut self.filters {
            filter.quit().await;
        }
    }

    /// Whether some filter's answers to the content are wanted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.filters.iter().any(Filter::is_active)
    }

    /// What cleanup needs to go on with the filters, and their sockets.
    pub(crate) async fn hand_over(&mut self) -> (Common, Vec<(HandedMilter, &Stream)>) {
        for filter in &mut self.filters {
            let limit = filter.limit;
            if let Some(link) = filter
                .link
                .as_mut()
                .filter(|_| matches!(filter.state, State::Envelope | State::Ready))
                && let Err(error) = link.flush(limit).await
            {
                filter.warn(&format!("error writing command: {error}"));
                filter.failed();
            }
        }
        let common = Common { macros: self.lists.clone(), defaults: self.defaults.clone() };
        let active = self.filters.iter().filter(|filter| filter.is_active());
        let filters = active.filter_map(|filter| {
            let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
            let settings = &filter.settings;
            let handed = HandedMilter {
                name: settings.name.clone(),
                version: filter.version,
                actions: filter.actions.0,
                steps: filter.steps.0,
                withheld: filter.withheld.0,
                state: if filter.state == State::Ready { READY } else { ENVELOPE },
                connect_timeout: seconds(settings.connect_timeout),
                command_timeout: seconds(settings.command_timeout),
                content_timeout: seconds(settings.content_timeout),
                action: settings.default_action.name().to_owned(),
                macros: filter.macros.clone(),
            };
            Some((handed, filter.link.as_ref()?.stream()))
        });
        (common, filters.collect())
    }
}

fn owned(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The macros of a stage, by the filter's own list if it has one.
fn filter_values(
    filter: &Filter,
    lists: &MacroLists,
    defaults: &[(String, String)],
    stage: Stage,
    values: &impl Macros,
) -> Values {
    let class = MacroClass::of(stage);
    let own = filter.macros.as_ref().map(|own| macros::list(own, class));
    let names = own.filter(|own| !own.is_empty()).unwrap_or_else(|| macros::list(lists, class));
    macros::values(names, defaults, values)
}
