//! What the look-ups of all connections share: the settings, the files in memory, the threads that
//! hash, and the way to the backend workers.

#[cfg(test)]
use crate::backend;
use crate::backend::{Answer, FileEntry, Question, Reply};
use crate::passwd_file::Files;
use crate::scheme::{Stored, Verdict};
use crate::settings::Settings;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// One for the worker.
pub struct Engine {
    pub settings: Settings,
    files: Arc<Files>,
    hashing: Semaphore,
    backend: Box<dyn Backend>,
    questions: Semaphore,
    asked: AtomicU64,
}

/// The way to the backend workers.
pub trait Backend: Send + Sync {
    /// Asks; `None` if the backend that took the question was lost.
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Option<Reply>> + Send + '_>>;
}

/// Answers in this process, on a thread of its own.
#[cfg(test)]
pub struct Here(pub Arc<Files>);

#[cfg(test)]
impl Backend for Here {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Option<Reply>> + Send + '_>> {
        let files = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || backend::answer(question, &files)).await.ok()
        })
    }
}

/// The longest that a backend may take: PAM modules that ask other machines.
const BACKEND_LIMIT: Duration = Duration::from_secs(60);

/// A backend's answer with what its log lines need.
pub struct Told {
    pub answer: Answer,
    pub worker: u32,
    pub id: u64,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings, backend: Box<dyn Backend>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let questions = settings.backend_questions.clamp(1, 1000);
        Self {
            settings,
            files: Arc::new(Files::default()),
            hashing: Semaphore::new(threads),
            backend,
            questions: Semaphore::new(questions),
            asked: AtomicU64::new(0),
        }
    }

    /// Compares a password on a thread of its own, as many at a time as there are processors.
    pub async fn verify(&self, stored: Stored, password: &[u8]) -> Verdict {
        let _permit = self.hashing.acquire().await;
        let password = zeroize::Zeroizing::new(password.to_vec());
        tokio::task::spawn_blocking(move || stored.verify(&password))
            .await
            .unwrap_or_else(|_| Verdict::Unusable("the comparison failed".into()))
    }

    /// Asks a backend worker, as many at a time as `auth_worker_max_count` allows.
    pub async fn ask(&self, question: Question) -> Told {
        let _permit = self.questions.acquire().await;
        let id = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        match tokio::time::timeout(BACKEND_LIMIT, self.backend.ask(question)).await {
            Ok(Some(Reply { pid, answer })) => Told { answer, worker: pid, id },
            Ok(None) => {
                Told { answer: Answer::Failed("auth worker was lost".into()), worker: 0, id }
            }
            Err(_) => {
                let answer = Answer::Failed("auth worker took too long".into());
                Told { answer, worker: 0, id }
            }
        }
    }

    /// A user's line in a password file.
    ///
    /// # Errors
    ///
    /// Why the file cannot be read, for the log.
    pub async fn file_entry(&self, path: &str, user: &str) -> Result<Option<FileEntry>, String> {
        if self.settings.files_by_backend {
            let question = Question::Entry { path: path.into(), user: user.to_owned() };
            return match self.ask(question).await.answer {
                Answer::Entry(entry) => Ok(entry),
                Answer::Failed(why) => Err(why),
                _ => Err("auth worker answered something else".into()),
            };
        }
        let users = self.read(path).await?;
        Ok(users.get(user).map(FileEntry::from))
    }

    /// All users of a password file.
    ///
    /// # Errors
    ///
    /// Why the file cannot be read, for the log.
    pub async fn file_names(&self, path: &str) -> Result<Vec<String>, String> {
        if self.settings.files_by_backend {
            return match self.ask(Question::Names { path: path.into() }).await.answer {
                Answer::Names(names) => Ok(names),
                Answer::Failed(why) => Err(why),
                _ => Err("auth worker answered something else".into()),
            };
        }
        Ok(self.read(path).await?.names().map(str::to_owned).collect())
    }

    async fn read(&self, path: &str) -> Result<Arc<crate::passwd_file::Users>, String> {
        let files = Arc::clone(&self.files);
        let owned = path.to_owned();
        tokio::task::spawn_blocking(move || files.users(Path::new(&owned)))
            .await
            .map_err(|_| "reading failed".to_owned())?
            .map_err(|error| format!("open({path}) failed: {error}"))
    }
}
