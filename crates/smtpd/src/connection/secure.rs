//! TLS: STARTTLS and wrapped.

use std::time::Instant;

use daemon::WireError;

use super::{Conversation, End, Step};
use crate::anvil::Event;
use crate::received::{key_exchange, session_of};
use crate::text::escaped;

impl Conversation {
    pub(super) async fn start_tls(&mut self) -> Result<bool, End> {
        if self.context.tls.is_none() {
            self.say(454, "4.7.0 TLS not available due to local problem").await?;
            return Ok(true);
        }
        if self.too_much_tls() {
            let client = self.client();
            let service = self.service().name.clone();
            self.log(&format!(
                "warning: Refusing STARTTLS request from {client} for service {service}"
            ));
            let text = format!("4.7.0 Error: too many new TLS sessions from {client}");
            self.say(454, text).await?;
            return Ok(true);
        }
        self.say(220, "2.0.0 Ready to start TLS").await?;
        let ahead = self.wire.buffer();
        if !ahead.is_empty() {
            // Commands of somebody in the middle, perhaps: they do not count inside TLS.
            let shown = escaped(ahead.get(..100).unwrap_or(ahead));
            self.log(&format!(
                "improper command pipelining after STARTTLS from {}: {shown}",
                self.client()
            ));
        }
        self.handshake().await?;
        self.forget_helo();
        self.reset();
        self.session.tls_started();
        self.offer_auth().await?;
        Ok(false)
    }

    pub(super) async fn wrapped_tls(&mut self) -> Step {
        let service = self.service().name.clone();
        if self.context.tls.is_none() {
            self.log(&format!(
                "warning: Wrapper-mode request dropped from {} for service {service}. TLS context \
                 initialization failed. For details see earlier warnings in your logs.",
                self.client()
            ));
            return Err(End::Closed);
        }
        self.handshake().await?;
        self.session.tls_started();
        Ok(())
    }

    async fn handshake(&mut self) -> Step {
        let Some(tls) = self.context.tls.clone() else { return Err(End::Closed) };
        let limits = self.limits();
        self.wire.set_timeout(limits.starttls_timeout);
        let result = self.wire.start_tls(&tls).await;
        self.wire.set_timeout(limits.timeout);
        if let Err(error) = result {
            let why = match &error {
                WireError::Handshake(cause)
                    if cause.kind() != std::io::ErrorKind::UnexpectedEof =>
                {
                    cause.to_string()
                }
                WireError::Timeout => "Connection timed out".to_owned(),
                _ => "lost connection".to_owned(),
            };
            self.log(&format!("SSL_accept error from {}: {why}", self.client()));
            return Err(End::Lost);
        }
        let facts = self.wire.tls().cloned();
        if let Some(facts) = facts.as_ref().filter(|_| self.service().tls.log_level > 0) {
            let exchange = key_exchange(facts)
                .map(|exchange| format!(" key-exchange {exchange}"))
                .unwrap_or_default();
            self.log(&format!(
                "Anonymous TLS connection established from {}: {}{exchange}",
                self.client(),
                session_of(facts)
            ));
        }
        if facts.is_some_and(|facts| !facts.resumed) {
            return self.count_tls().await;
        }
        Ok(())
    }

    fn too_much_tls(&self) -> bool {
        let limit = self.service().rates.new_tls_rate;
        self.counted.as_ref().is_some_and(|counted| {
            super::greeting::over(counted.seen(Event::NewTls, Instant::now()), limit)
        })
    }

    async fn count_tls(&mut self) -> Step {
        let limit = self.service().rates.new_tls_rate;
        let Some(rate) = self.too_many(Event::NewTls, limit) else { return Ok(()) };
        let (client, service) = (self.client(), self.service().name.clone());
        self.log(&format!(
            "warning: New TLS session rate limit exceeded: {rate} from {client} for service {service}"
        ));
        let text = format!("4.7.0 {} Error: too many new TLS sessions from {client}", self.host());
        self.say(421, text).await?;
        Err(End::Closed)
    }
}
