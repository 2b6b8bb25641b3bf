//! Serves an [`App`] on a listener: HTTP/1.1 and HTTP/2, with TLS or without, every wait bounded.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::App;
use super::date;
use crate::server::Limits;

/// How long a client may take for a request's head. A connection without requests is closed after
/// the same time.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may take for the TLS handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a shutdown leaves an idle connection open. Its next request is answered, and with the news that the
/// connection ends: a close could cross with a request, whose outcome nobody could tell.
pub const LINGER_TIME: Duration = Duration::from_millis(300);
/// How long a shutdown waits for the requests in flight.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes: two keys of a listing, percent-encoded, and as much again.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most requests at a time on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 256;
/// How often it is told that connections cannot be accepted.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How long accepting pauses when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often an idle HTTP/2 connection is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What connections share.
struct Shared {
    app: App,
    tls: watch::Receiver<Option<Arc<rustls::ServerConfig>>>,
    http: auto::Builder<TokioExecutor>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown` is cancelled, then takes no new connections, ends those that are there with their next answer or
/// after [`LINGER_TIME`], and waits for the requests in flight, at most [`DRAIN_TIME_MAX`]. New connections use what `tls`
/// holds then. Beyond `limits.connections_max` connections new ones wait in the system's queue.
pub async fn serve(
    listener: TcpListener,
    app: App,
    tls: watch::Receiver<Option<Arc<rustls::ServerConfig>>>,
    limits: &Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let places = limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(places));
    let shared = Arc::new(Shared { app, tls, http: http(), shutdown: shutdown.clone() });
    let mut connections = JoinSet::new();
    let mut told = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places, &mut told) => {
                let (stream, place) = accepted?;
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    connection(stream, &shared).await;
                    drop(place);
                });
            }
            // Reaps what has ended, so that the set holds open connections only.
            Some(_) = connections.join_next() => {}
        }
    }
    // Who waits in the queue has been told that it is connected.
    for stream in queued(listener) {
        // None only where more connect than there may be.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            connection(stream, &shared).await;
            drop(place);
        });
    }
    shared.app.end_waits();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cut off requests that did not end in time"
        );
        connections.shutdown().await;
    }
    Ok(())
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(HEADER_TIME_MAX);
    http
}

/// The connections that wait to be accepted, before the listener is closed. The system is asked, since the runtime may
/// not have heard of them yet.
fn queued(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    };
    std::iter::from_fn(|| accept().ok()).collect()
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    told: &mut Option<Instant>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, place)),
            Err(error) if ended_early(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: nothing announces when there are some again.
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    *told = Some(Instant::now());
                    tracing::warn!(%error, "could not accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the error is about a connection that ended before it was accepted.
fn ended_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(stream: TcpStream, shared: &Shared) {
    // Without it, small answers wait for acknowledgements; where it fails the connection still works.
    let _ = stream.set_nodelay(true);
    let tls = shared.tls.borrow().clone();
    let Some(tls) = tls else { return speak(stream, shared).await };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake);
    let handshake = tokio::select! {
        () = lingered(&shared.shutdown) => return,
        handshake = handshake => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => speak(stream, shared).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake did not end in time"),
    }
}

/// Waits for a shutdown, and for what it grants idle connections.
async fn lingered(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(LINGER_TIME).await;
}

/// Answers the requests of one connection.
async fn speak<S>(stream: S, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = Arc::new(AtomicBool::new(false));
    // HTTP/2 ends a connection without losing a request.
    let lingers = Arc::new(AtomicBool::new(true));
    let service = service_fn({
        let (app, shutdown) = (shared.app.clone(), shared.shutdown.clone());
        let (began, lingers) = (Arc::clone(&began), Arc::clone(&lingers));
        move |request: Request<Incoming>| {
            began.store(true, Ordering::Relaxed);
            let is_http1 = request.version() < Version::HTTP_2;
            lingers.store(is_http1, Ordering::Relaxed);
            let (app, shutdown) = (app.clone(), shutdown.clone());
            async move {
                let mut response = app.respond(request).await;
                date::set(response.headers_mut());
                if is_http1 && shutdown.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        }
    });
    let mut connection =
        std::pin::pin!(shared.http.serve_connection(TokioIo::new(stream), service));
    // Telling HTTP/1 from HTTP/2 happens before hyper's time-out for a head begins to run.
    let first_request = tokio::time::sleep(HEADER_TIME_MAX);
    let mut first_request = std::pin::pin!(first_request);
    let (mut waits_for_first, mut serving, mut lingering) = (true, true, true);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = &mut first_request, if waits_for_first => {
                waits_for_first = false;
                if !began.load(Ordering::Relaxed) {
                    tracing::debug!("a connection brought no request in time");
                    return;
                }
            }
            () = shared.shutdown.cancelled(), if serving => {
                serving = false;
                if !lingers.load(Ordering::Relaxed) {
                    lingering = false;
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = lingered(&shared.shutdown), if lingering => {
                lingering = false;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
