//! TLS for servers: what the configuration asks for, the identities that the supervisor reads, and
//! the acceptor in a worker, whose identities can be replaced while it runs. And for clients: [`client`].

mod certificate;
mod ciphers;
pub mod client;
#[cfg(test)]
mod client_tests;
mod facts;
mod identity;
mod sessions;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use config::Place;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

pub use ciphers::{CipherList, ciphers};
pub use facts::Facts;
pub use identity::{Bundle, Certificate, Examined, IdentityError, examine, read};

use crate::stream::Stream;

/// What one name of `Worker::tls` stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub name: String,
    pub policy: Policy,
    /// The first without names is for clients that name no server, or one we do not know.
    pub identities: Vec<IdentityFiles>,
}

/// A certificate chain and its key, as the configuration names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdentityFiles {
    /// Server names (SNI) that it is for, `*.example.com` among them; none for the default.
    pub names: Vec<String>,
    pub certificate: PathBuf,
    /// May be the same file.
    pub key: PathBuf,
    /// Where the configuration says so.
    pub place: Option<Place>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// The lowest there is here: TLS 1.0 and 1.1 cannot be had.
    #[default]
    Tls12,
    Tls13,
}

/// The negotiable part. Clients are never asked for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub min: Version,
    /// `None`: no upper limit.
    pub max: Option<Version>,
    /// TLS 1.2 suites by OpenSSL's names, in order of preference (see [`ciphers()`]); empty: all.
    pub suites: Vec<String>,
    /// Our order decides, not the client's.
    pub prefer_server_order: bool,
}

/// The acceptor of a worker: cheap to clone, and renewed in place for connections to come.
#[derive(Clone)]
pub struct Tls {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    /// Kept over a renewal, so that clients resume.
    tickets: Arc<dyn ProducesTickets>,
    /// The same identities, for a client.
    client: Arc<RwLock<Arc<identity::ClientKeys>>>,
}

impl Tls {
    /// # Errors
    ///
    /// If an identity does not parse or the policy leaves nothing to negotiate.
    pub fn new(bundle: &Bundle) -> Result<Self, IdentityError> {
        let refused = |source| IdentityError::Policy { name: bundle.name.clone(), source };
        let tickets = aws_lc_rs::Ticketer::new().map_err(refused)?;
        let config = Arc::new(identity::server_config(bundle, Arc::clone(&tickets))?);
        let client = Arc::new(identity::ClientKeys::of(bundle)?);
        let (config, client) = (Arc::new(RwLock::new(config)), Arc::new(RwLock::new(client)));
        Ok(Self { config, tickets, client })
    }

    /// From PEM text, for tests.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        Self::new(&Bundle::from_pem(certificate, key))
    }

    /// Connections from now on get the identities of `bundle`; on an error the old ones stay.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn renew(&self, bundle: &Bundle) -> Result<(), IdentityError> {
        let config = identity::server_config(bundle, Arc::clone(&self.tickets))?;
        let client = identity::ClientKeys::of(bundle)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(client);
        Ok(())
    }

    fn client_keys(&self) -> Arc<identity::ClientKeys> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shakes hands as the server.
    ///
    /// # Errors
    ///
    /// What the peer or rustls objects to.
    pub async fn accept(&self, stream: Stream) -> io::Result<(Stream, Facts)> {
        let accepted = TlsAcceptor::from(self.current()).accept(stream).await?;
        let facts = Facts::of_server(accepted.get_ref().1);
        Ok((Stream::Tls(Box::new(accepted.into())), facts))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tls")
    }
}
