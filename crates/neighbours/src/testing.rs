//! A scripted server for the tests of the clients.

use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// A socket in a directory of its own. Each [`Script::serve`] serves one connection: says the
/// greeting, skips the client's handshake, then expects each line and gives its answer.
pub(crate) struct Script {
    path: PathBuf,
    _directory: Option<tempfile::TempDir>,
    listener: Arc<UnixListener>,
    greeting: &'static str,
}

impl Script {
    pub fn new(greeting: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = Self::at(directory.path().join("socket"), greeting);
        Self { _directory: Some(directory), ..script }
    }

    pub fn at(path: PathBuf, greeting: &'static str) -> Self {
        let listener = Arc::new(UnixListener::bind(&path).unwrap());
        Self { path, _directory: None, listener, greeting }
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Who connects beyond that many that wait to be accepted is turned away.
    pub fn queue_at_most(&self, waiting: i32) {
        rustix::net::listen(&*self.listener, waiting).unwrap();
    }

    pub fn serve(&self, script: &[(&str, &str)]) -> JoinHandle<()> {
        let script: Vec<(String, String)> =
            script.iter().map(|&(line, reply)| (line.to_owned(), reply.to_owned())).collect();
        let (listener, greeting) = (Arc::clone(&self.listener), self.greeting);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(greeting.as_bytes()).await.unwrap();
            let mut script = script.into_iter();
            let mut expected = script.next();
            while let Some(line) = lines.next_line().await.unwrap_or_default() {
                if line.starts_with("VERSION") || line.starts_with("CPID") {
                    continue;
                }
                let Some((wanted, reply)) = expected else { return };
                assert_eq!(line, wanted);
                write.write_all(reply.as_bytes()).await.unwrap();
                expected = script.next();
            }
            assert_eq!(expected, None, "the client went too early");
        })
    }
}
