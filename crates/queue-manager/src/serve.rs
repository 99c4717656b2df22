//! How the services of a role are served: one task for each socket, until the worker has to finish.

use std::future::Future;
use std::sync::Arc;

use daemon::{Connection, Worker, WorkerError};

use crate::plan::Served;

/// Makes the server of each service of the role, and has it answer its socket's connections.
///
/// # Errors
///
/// A service cannot be made, or its socket is not there.
pub fn each<S, F>(
    worker: Worker,
    served: Vec<Served>,
    make: impl Fn(&Served) -> Result<S, WorkerError>,
    answer: fn(Arc<S>, Connection) -> F,
) -> Result<(), WorkerError>
where
    S: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for service in &served {
            let server = Arc::new(make(service)?);
            let (worker, listener) = (worker.clone(), worker.listener(&service.listener)?);
            serving.spawn(async move {
                worker.serve(listener, |connection| answer(Arc::clone(&server), connection)).await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}
