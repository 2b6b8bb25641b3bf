//! Threads and tasks whose end is watched: a panic in one of them stops the node with what happened, since
//! nobody would do its work.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::mailbox::Mailbox;
use crate::store::StoreError;

/// Runs a task that may end in its own way and must not panic.
pub(crate) fn task(
    name: &'static str,
    mailbox: Arc<Mailbox>,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            ended(name, &mailbox, &*panic);
        }
    })
}

/// Runs a thread that may end in its own way and must not panic.
pub(crate) fn thread(
    name: &'static str,
    mailbox: Arc<Mailbox>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            ended(name, &mailbox, &*panic);
        }
    })
}

fn ended(name: &'static str, mailbox: &Mailbox, panic: &(dyn Any + Send)) {
    mailbox.fail(StoreError::ended(name, panic));
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::Mail;
    use super::*;

    fn failure(mailbox: &Mailbox) -> Option<String> {
        let mut mail = Mail::default();
        mailbox.take(&mut mail, true);
        mail.failed.map(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_panic_stops_the_node_with_what_happened_and_an_end_does_not() {
        let mailbox = Arc::new(Mailbox::default());
        task("a task", mailbox.clone(), async {}).await.unwrap();
        assert_eq!(failure(&mailbox), None);
        task("a task", mailbox.clone(), async { panic!("of {}", 7) }).await.unwrap();
        assert_eq!(failure(&mailbox).as_deref(), Some("a task ended: of 7"));
        let (done, end) = std::sync::mpsc::channel::<()>();
        thread("fetch", mailbox.clone(), move || {
            let _done = done;
            panic!("at last");
        })
        .unwrap();
        assert!(end.recv().is_err());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let why = loop {
            if let Some(why) = failure(&mailbox) {
                break why;
            }
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        };
        assert_eq!(why, "fetch ended: at last");
    }
}
