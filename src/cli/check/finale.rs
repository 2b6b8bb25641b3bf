//! The end of a run: reads that show what was lost, and the removal of all keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::names::Names;
use super::recorder::{Came, Recorder};
use crate::check::history::Ask;
use crate::client::{Client, Error, ListRequest};

/// How many clients read everything through each endpoint.
const READERS: u32 = 2;
/// How long the endpoints may take to answer, until one has answered all.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the others may take then; who is down does not hold up the judgement.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(2);
/// How long the removal of the keys may take.
const REMOVE_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause before what came to nothing is asked again: nothing tells when a node is back.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads every key through every endpoint that answers, so that a write shows that was acknowledged and lost. True if one
/// of them answered for all keys.
pub(super) async fn read_all(recorder: &Arc<Recorder>) -> bool {
    let began = Instant::now();
    let finished = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for endpoint in 0..u32::try_from(recorder.endpoints.len()).unwrap_or(u32::MAX) {
        for reader in 0..READERS {
            let (recorder, finished) = (Arc::clone(recorder), Arc::clone(&finished));
            readers.spawn(read(recorder, endpoint, reader, began, finished));
        }
    }
    while readers.join_next().await.is_some() {}
    finished.load(Ordering::Relaxed)
}

async fn read(
    recorder: Arc<Recorder>,
    endpoint: u32,
    reader: u32,
    began: Instant,
    finished: Arc<AtomicBool>,
) {
    let client = recorder.client();
    let keys = recorder.names.count();
    let mut asks: Vec<Ask> = (0..keys).map(|key| Ask::Get { key }).collect();
    asks.push(Ask::List { from: 0, to: keys });
    // They come from both ends, so that not all are asked for the same key at the same time.
    if reader % 2 == 1 {
        asks.reverse();
    }
    for ask in asks {
        while !matches!(recorder.ask(client, endpoint, ask.clone()).await, Came::Answer(_)) {
            let others = finished.load(Ordering::Relaxed);
            if began.elapsed() > if others { OTHERS_TIME_MAX } else { READ_TIME_MAX } {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    finished.store(true, Ordering::Relaxed);
}

/// Whether there is no key under the prefix.
pub(super) async fn is_empty(client: &Client, prefix: &str) -> Result<bool, Error> {
    let mut request = ListRequest {
        prefix: Some(prefix.to_owned().into()),
        limit: Some(1),
        keys_only: true,
        ..ListRequest::default()
    };
    loop {
        let page = client.list(&request).await?;
        if page.next.is_none() || !page.items.is_empty() {
            return Ok(page.items.is_empty());
        }
        // All that it looked at was deleted.
        request.cursor = page.next;
    }
}

/// Removes all keys; an error says why some may be left.
pub(super) async fn remove(client: &Client, names: &Names) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let removed = match client.delete_prefix(names.prefix().as_bytes()).await {
            // A write of unknown outcome may have come in between.
            Ok(_) => match is_empty(client, names.prefix()).await {
                Ok(true) => return Ok(()),
                Ok(false) => Error::Failed("writes are still coming in".to_owned()),
                Err(error) => error,
            },
            // To remove them twice does no harm.
            Err(error) => error,
        };
        if began.elapsed() > REMOVE_TIME_MAX {
            return Err(removed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
