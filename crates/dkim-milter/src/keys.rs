//! Private keys by the path that opendkim.conf gives them. The supervisor opened the files; a file that changes is read anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crypto::PrivateKey;
use daemon::Worker;

/// A key file with a chain of comments is a few kilobytes.
const LONGEST_KEY: usize = 64 * 1024;

/// Where the octets of key files come from.
pub trait KeyFiles: Send + Sync + 'static {
    /// # Errors
    ///
    /// A sentence for the log.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// Another number whenever a file may have changed.
    fn version(&self) -> u64;
}

/// The files that the supervisor passed.
pub struct Passed {
    worker: Worker,
    changes: tokio::sync::watch::Receiver<u64>,
}

impl Passed {
    pub fn new(worker: &Worker) -> Self {
        Self { worker: worker.clone(), changes: worker.file_changes() }
    }
}

impl KeyFiles for Passed {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        // the name is not in the plan when the file was not there at the start or the last reload
        self.worker.file(path, LONGEST_KEY).map_err(|_| "No such file or directory".to_owned())
    }

    fn version(&self) -> u64 {
        *self.changes.borrow()
    }
}

type Loaded = Result<Arc<PrivateKey>, String>;

/// Keys that were read already.
pub struct KeyStore {
    files: Box<dyn KeyFiles>,
    known: Mutex<(u64, HashMap<String, Loaded>)>,
}

impl KeyStore {
    pub fn new(files: Box<dyn KeyFiles>) -> Self {
        Self { files, known: Mutex::new((0, HashMap::new())) }
    }

    /// The key in a file.
    pub fn file(&self, path: &str) -> Loaded {
        self.load(path, || {
            let octets = self.files.read(path)?;
            PrivateKey::parse(&octets).map_err(|error| error.to_string())
        })
    }

    /// The key that stands in the table itself: PEM or base64 of DER.
    pub fn inline(&self, text: &str) -> Loaded {
        self.load(text, || {
            let octets = crypto::pem::decode(text.as_bytes()).ok_or("not base64")?;
            PrivateKey::from_der(&octets).map_err(|error| error.to_string())
        })
    }

    fn load(&self, name: &str, read: impl FnOnce() -> Result<PrivateKey, String>) -> Loaded {
        let version = self.files.version();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            *known = (version, HashMap::new());
        }
        known.1.entry(name.to_owned()).or_insert_with(|| read().map(Arc::new)).clone()
    }
}
