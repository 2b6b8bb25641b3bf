//! The connections that this node dials: one to each peer, kept up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use quinn::{ConnectError, Connection};
use rand::RngExt;
use tokio::time::timeout;

use super::directory::Slot;
use super::frame;
use super::hello::{Greeting, HELLO_BYTES_MAX, Hello};
use super::link::Link;
use super::refusal::{CloseCode, Ending, Refusal};
use super::shared::Shared;
use super::shown::Shown;
use super::stream::{self, FrameReader, StreamError};

/// How long to look up the address, shake hands and exchange hellos.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An attempt that takes longer gives way to another one as soon as the peer is heard.
const STUCK_AFTER: Duration = Duration::from_millis(200);
/// The wait after the first failure; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two attempts, before jitter.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The longest wait before asking again whoever said that this node is no member.
const DISOWNED_PAUSE: Duration = Duration::from_millis(500);
/// A connection that lasted so long was a good one: the next attempt follows at once.
const GOOD_AFTER: Duration = Duration::from_secs(1);
/// Connections are replaced within this time after the certificates were, not all at once.
const RENEW_WITHIN: Duration = Duration::from_millis(500);
/// How long a connection that was replaced may take to deliver what it holds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to a peer, again and again, until it is one no more.
pub(super) async fn keep_connected(shared: &Arc<Shared>, slot: Slot) {
    let Slot { name, wake, stop, .. } = &slot;
    let work = async {
        let mut backoff = Backoff::default();
        loop {
            // Marked as seen before dialling, so that no later change is missed.
            let mut watched = Watched::new(shared);
            // A peer that was heard lives: what an attempt still waits for went to its last life.
            let heard_meanwhile = async {
                tokio::time::sleep(STUCK_AFTER).await;
                wake.notified().await;
            };
            let attempt = tokio::select! {
                attempt = connect(shared, &slot, backoff.attempt) => attempt,
                () = heard_meanwhile => continue,
            };
            let disowned = match attempt {
                Ok(link) => {
                    let since = Instant::now();
                    let (link, ending) = hold(shared, &slot, link, &mut watched).await;
                    shared.uninstall(&link);
                    if stop.is_cancelled() {
                        return;
                    }
                    shared.inbound.unreachable(link.node_id);
                    shared.set_problem(&slot, &ending);
                    tracing::info!(peer = name, "connection lost: {}", ending.sentence);
                    if ending.refused {
                        let address = link.connection.remote_address().to_string();
                        shared.refusals.peer(name, &address, &ending);
                    }
                    if since.elapsed() >= GOOD_AFTER {
                        backoff = Backoff::begun();
                    }
                    false
                }
                Err(Attempt { address, ending }) => {
                    shared.set_problem(&slot, &ending);
                    shared.refusals.peer(name, &address, &ending);
                    ending.disowned.is_some()
                }
            };
            // Whoever says that this node is no member may know more soon.
            let pause = backoff.next().min(if disowned { DISOWNED_PAUSE } else { Duration::MAX });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wake.notified() => {}
            }
        }
    };
    tokio::select! {
        // Whoever cancels closes the connection too, with the reason.
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// What may change while a connection is up.
struct Watched {
    client: tokio::sync::watch::Receiver<quinn::ClientConfig>,
    cluster_id: tokio::sync::watch::Receiver<Option<crate::raft::ClusterId>>,
}

impl Watched {
    fn new(shared: &Shared) -> Watched {
        Watched { client: shared.client.subscribe(), cluster_id: shared.cluster_id.subscribe() }
    }
}

/// Watches over a connection until it is lost, and replaces it when the certificates change. Returns the
/// last one and how it ended.
async fn hold(
    shared: &Arc<Shared>,
    slot: &Slot,
    mut link: Arc<Link>,
    watched: &mut Watched,
) -> (Arc<Link>, Ending) {
    let mut renewal = Backoff::default();
    let mut renew_at = None::<tokio::time::Instant>;
    loop {
        tokio::select! {
            error = link.connection.closed() => {
                return (link, own_close(&error).unwrap_or_else(|| Ending::of(&error)));
            }
            // The senders live as long as `shared`.
            Ok(()) = watched.client.changed() => {
                let jitter = rand::rng().random_range(Duration::ZERO..RENEW_WITHIN);
                renew_at = Some(tokio::time::Instant::now() + jitter);
            }
            Ok(()) = watched.cluster_id.changed() => {
                let said = timeout(CONNECT_TIMEOUT, exchange_hellos(shared, &link.connection)).await;
                let refusal = match said {
                    Ok(Ok(shown)) => shared.renew(&shown, slot).err(),
                    Ok(Err(Failure::Refused(refusal))) => Some(refusal),
                    // The connection is gone, or so slow that another one is better.
                    Ok(Err(Failure::Ended(ending))) => {
                        shared.set_problem(slot, &ending);
                        Some(Refusal::protocol(ending.sentence))
                    }
                    Err(_) => Some(Refusal::protocol("no answer to a hello")),
                };
                if let Some(refusal) = refusal {
                    refusal.close(&link.connection);
                    return (link, Ending::own(&refusal));
                }
            }
            () = until(renew_at) => match connect(shared, slot, renewal.attempt).await {
                Ok(new) => {
                    let old = std::mem::replace(&mut link, new);
                    if old.connection.close_reason().is_some() {
                        // Lost while the new one was being made.
                        shared.inbound.unreachable(old.node_id);
                    }
                    shared.runtime.spawn(retire(
                        shared.clone(),
                        slot.clone(),
                        old,
                    ));
                    (renewal, renew_at) = (Backoff::default(), None);
                }
                Err(Attempt { address, ending }) => {
                    shared.refusals.peer(&slot.name, &address, &ending);
                    renew_at = Some(tokio::time::Instant::now() + renewal.next());
                }
            },
        }
    }
}

/// How to call a close of this end: whoever closed has said why.
fn own_close(error: &quinn::ConnectionError) -> Option<Ending> {
    matches!(error, quinn::ConnectionError::LocallyClosed)
        .then(|| Ending::unreachable("this node closed the connection"))
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Lets a connection that was replaced deliver what it holds, unless its peer is removed meanwhile.
async fn retire(shared: Arc<Shared>, slot: Slot, link: Arc<Link>) {
    let Slot { name, stop, .. } = &slot;
    tokio::select! {
        () = stop.cancelled() => {
            if !shared.stop.is_cancelled() {
                Refusal::removed(name).close(&link.connection);
            }
        }
        drained = timeout(DRAIN_TIMEOUT, link.drain()) => {
            if drained.is_err() {
                tracing::debug!(peer = name, "a replaced connection did not empty in time");
            }
            link.connection.close(CloseCode::Done.as_varint(), b"replaced by another connection");
        }
    }
    link.close_queues();
}

/// An attempt that failed.
struct Attempt {
    address: String,
    ending: Ending,
}

/// Why no hellos were exchanged.
enum Failure {
    Refused(Refusal),
    Ended(Ending),
}

impl Failure {
    fn of(error: &quinn::ConnectionError) -> Failure {
        Failure::Ended(Ending::of(error))
    }
}

/// Dials once, and sends on the connection from then on.
async fn connect(shared: &Arc<Shared>, slot: &Slot, attempt: u32) -> Result<Arc<Link>, Attempt> {
    let name = slot.name.as_str();
    // All addresses are tried, and of each every one that its name stands for.
    let addresses = shared.ways_to(slot);
    let (turn, attempt) = match u32::try_from(addresses.len()) {
        Ok(count @ 1..) => (attempt % count, attempt / count),
        _ => (0, 0),
    };
    let address = addresses.get(turn as usize).cloned().unwrap_or_default();
    let fail = |ending| Attempt { address: address.clone(), ending };
    let dialled = timeout(CONNECT_TIMEOUT, dial(shared, name, &address, attempt)).await;
    let (connection, shown) = match dialled {
        Ok(Ok(dialled)) => dialled,
        Ok(Err(ending)) => return Err(fail(ending)),
        Err(_) => return Err(fail(Ending::unreachable("no answer"))),
    };
    match shared.install(&shown, slot, connection.clone()).await {
        Ok(link) => {
            tracing::info!(
                peer = name,
                address = %connection.remote_address(),
                id = %shown.hello.node_id,
                version = shown.hello.version,
                "connected"
            );
            Ok(link)
        }
        Err(refusal) => {
            refusal.close(&connection);
            Err(fail(Ending::own(&refusal)))
        }
    }
}

async fn dial(
    shared: &Shared,
    name: &str,
    address: &str,
    attempt: u32,
) -> Result<(Connection, Shown), Ending> {
    let remote = look_up(shared, address, attempt).await?;
    let config = shared.client.borrow().clone();
    let connecting = {
        let endpoint = shared.endpoint.lock();
        let Some(endpoint) = endpoint.as_ref() else {
            return Err(Ending::unreachable("this node is shutting down"));
        };
        endpoint.connect_with(config, remote, name)
    };
    let connection = match connecting {
        Ok(connecting) => connecting.await.map_err(|error| Ending::of(&error))?,
        Err(ConnectError::InvalidServerName(_)) => {
            return Err(Ending::address(format!("{name:?} is no name for a host")));
        }
        Err(error) => return Err(Ending::address(error.to_string())),
    };
    match exchange_hellos(shared, &connection).await {
        Ok(shown) => Ok((connection, shown)),
        Err(Failure::Ended(ending)) => Err(ending),
        Err(Failure::Refused(refusal)) => {
            refusal.close(&connection);
            Err(Ending::own(&refusal))
        }
    }
}

/// One of the addresses that a name stands for, another one at each attempt.
async fn look_up(shared: &Shared, address: &str, attempt: u32) -> Result<SocketAddr, Ending> {
    let found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| Ending::address(format!("{address:?} cannot be looked up: {error}")))?;
    let usable: Vec<SocketAddr> =
        found.filter(|found| shared.local.is_ipv6() || found.is_ipv4()).collect();
    match usable.len() {
        0 => Err(Ending::address(format!("{address:?} has no address of the family listened on"))),
        count => {
            // Whoever is dialled may call as well.
            let mut admission = shared.admission.lock();
            usable.iter().for_each(|address| admission.learn(address.ip()));
            Ok(usable[attempt as usize % count])
        }
    }
}

/// Says hello and waits for the answer.
async fn exchange_hellos(shared: &Shared, connection: &Connection) -> Result<Shown, Failure> {
    let certified = shared.certified(connection).map_err(Failure::Refused)?;
    let mut hello = BytesMut::new();
    hello.put_u8(stream::HELLO);
    frame::encode(&shared.hello(), HELLO_BYTES_MAX, &mut hello)
        .map_err(|error| Failure::Refused(Refusal::protocol(error)))?;
    let (mut send, receive) = connection.open_bi().await.map_err(|e| Failure::of(&e))?;
    // If these fail the reply fails too, and says why.
    let _ = send.write_all(&hello).await;
    let _ = send.finish();
    let reply = FrameReader::new(receive, HELLO_BYTES_MAX).only().await;
    let body = match reply {
        Ok(body) => body,
        Err(StreamError::Lost(quinn::ReadError::ConnectionLost(error))) => {
            return Err(Failure::of(&error));
        }
        Err(error) => return Err(Failure::Refused(Refusal::protocol(error))),
    };
    match Hello::decode(&body) {
        Ok(Greeting::Understood(hello)) => match &hello.refused {
            None => Ok(Shown { certified, hello: *hello }),
            Some(refused) => {
                connection.close(CloseCode::Done.as_varint(), b"refused");
                // Only who is of the same cluster has anything to say of its members.
                let own = &shared.own.cluster;
                let ours = hello.cluster == *own && certified.cluster == *own;
                let told = hello.known.clone().filter(|_| ours);
                Err(Failure::Ended(Ending::by_peer(hello.node_id, refused, told)))
            }
        },
        Ok(Greeting::OtherVersions(theirs)) => Err(Failure::Refused(Refusal::versions(theirs))),
        Err(error) => Err(Failure::Refused(Refusal::protocol(error))),
    }
}

/// The wait between attempts, and how many there were, by which the addresses take turns.
#[derive(Debug, Default)]
struct Backoff {
    attempt: u32,
    /// There was none yet, and a wait comes before it.
    begins: bool,
}

impl Backoff {
    /// After a connection that was a good one: the likeliest address comes first again.
    fn begun() -> Backoff {
        Backoff { attempt: 0, begins: true }
    }

    fn next(&mut self) -> Duration {
        let base = BACKOFF_MIN.saturating_mul(1 << self.attempt.min(10)).min(BACKOFF_MAX);
        if !std::mem::take(&mut self.begins) {
            self.attempt = self.attempt.saturating_add(1);
        }
        base.mul_f64(rand::rng().random_range(0.5..1.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= BACKOFF_MIN.mul_f64(1.5));
        for _ in 0..100 {
            assert!(backoff.next() <= BACKOFF_MAX.mul_f64(1.5));
        }
        assert!(backoff.next() >= BACKOFF_MAX.mul_f64(0.5));
    }

    #[test]
    fn the_first_attempt_after_a_good_connection_is_at_the_first_address() {
        let mut backoff = Backoff::begun();
        assert!(backoff.next() <= BACKOFF_MIN.mul_f64(1.5));
        assert_eq!(backoff.attempt, 0);
        backoff.next();
        assert_eq!(backoff.attempt, 1);
    }
}
