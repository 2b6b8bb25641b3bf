//! The thread of the replica and the network.
//!
//! They share one, so that a message is read, stepped and answered without waking another thread: on a
//! busy machine the wakeups cost more than everything else on the way.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::driver::Driver;
use crate::store::StoreError;

/// The thread, which waits for its driver. It ends when the driver does, or when this is dropped.
#[derive(Debug)]
pub(crate) struct ReplicaThread {
    runtime: Handle,
    driver: oneshot::Sender<(Driver, End)>,
}

type End = oneshot::Sender<Result<(), StoreError>>;

impl ReplicaThread {
    pub(crate) async fn start() -> io::Result<ReplicaThread> {
        let (started, start) = oneshot::channel();
        let (driver, begin) = oneshot::channel();
        thread::Builder::new().name("replica".to_owned()).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                // Whoever started the thread waits for this.
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(started.send(Ok(runtime.handle().clone())));
            runtime.block_on(async {
                if let Ok((driver, end)) = begin.await {
                    run(driver, end).await;
                }
            });
        })?;
        let runtime = start.await.map_err(io::Error::other)??;
        Ok(ReplicaThread { runtime, driver })
    }

    /// Does something at once; what it starts runs on the thread.
    pub(crate) fn within<T>(&self, start: impl FnOnce() -> T) -> T {
        let _within = self.runtime.enter();
        start()
    }

    /// Lets the driver run; how it ended comes later.
    pub(crate) fn run(self, driver: Driver) -> oneshot::Receiver<Result<(), StoreError>> {
        let (end, ended) = oneshot::channel();
        // The thread waits for nothing else; if it died, `ended` tells.
        drop(self.driver.send((driver, end)));
        ended
    }
}

async fn run(driver: Driver, end: End) {
    // A task of its own: waking what the runtime blocks on costs a system call, even on its own thread.
    let result = match tokio::spawn(driver.run()).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(StoreError::ended("the replica thread", &*panic)),
            // Nobody cancels it but the end of the runtime.
            Err(_) => return,
        },
    };
    // Nobody waits for the end only if the process is going down anyway.
    drop(end.send(result));
}
