//! Serves an [`App`] on a listener: HTTP/1 and HTTP/2, with TLS or without, every wait bounded.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::header::{CONNECTION, HeaderName};
use axum::http::{HeaderValue, Method, Request, Uri, Version};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::App;
use super::answer::Metered;
use super::date;
use super::error::{Kind, Problem};
use super::framing::HEADER_BYTES_MAX;
use super::heads::Heads;
use super::identity::Certified;
use super::metrics;
use super::places::{self, Free, Place, Places};
use super::plain;
use super::socket::{Beside, Socket};
use super::watch::{Clock, End};
use crate::api::Limits;
use crate::server::Refusal;

/// How long a shutdown leaves an idle connection open. Its next request is answered, and with the news that the
/// connection ends: a close could cross with a request, whose outcome nobody could tell.
pub const LINGER_TIME: Duration = Duration::from_millis(300);
/// How long a shutdown waits for the requests in flight.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// The most requests at a time on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 256;
/// How often it is told that connections cannot be accepted.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How long accepting pauses when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often an idle HTTP/2 connection is asked for a sign of life, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a connection's clock is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection that is told to end may take.
const GRACE: Duration = Duration::from_secs(5);
/// How long a connection in one of the places that are kept may last.
pub const SPARE_TIME_MAX: Duration = Duration::from_secs(5);

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What connections share.
struct Shared {
    app: App,
    tls: watch::Receiver<Option<Arc<rustls::ServerConfig>>>,
    http: auto::Builder<TokioExecutor>,
    limits: Limits,
    places: Arc<Places>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown` is cancelled, then takes no new connections, ends those that are there with their next answer or
/// after [`LINGER_TIME`], and waits for the requests in flight, at most [`DRAIN_TIME_MAX`]. New connections use what `tls`
/// holds then. Beyond `limits.connections_max` connections there are a few places for asking how the node is; beyond those
/// new ones wait in the system's queue.
pub async fn serve(
    listener: TcpListener,
    app: App,
    tls: watch::Receiver<Option<Arc<rustls::ServerConfig>>>,
    limits: &Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        app,
        tls,
        http: http(),
        limits: limits.clone(),
        places: Places::new(limits),
        shutdown: shutdown.clone(),
    });
    let mut connections = JoinSet::new();
    let mut told = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &shared.places, &mut told) => {
                let (stream, address, free) = accepted?;
                begin(stream, address, free, &shared, &mut connections);
            }
            // Reaps what has ended, so that the set holds open connections only.
            Some(_) = connections.join_next() => {}
        }
    }
    // Who waits in the queue has been told that it is connected.
    for (stream, address) in queued(listener) {
        // None only where more connect than there may be.
        let Some(free) = shared.places.free_now() else { break };
        begin(stream, address, free, &shared, &mut connections);
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

/// Serves a connection, if its address may have one more.
fn begin(
    stream: TcpStream,
    address: IpAddr,
    free: Free,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let Some(place) = shared.places.take(free, address) else {
        tracing::debug!(%address, "an address has too many connections");
        return;
    };
    let open = shared.app.counts().connection(place.spare);
    let shared = Arc::clone(shared);
    connections.spawn(async move {
        connection(stream, place, &shared).await;
        drop(open);
    });
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // The connection's clock knows more.
        .header_read_timeout(None)
        // Whoever has sent all that it has to say waits for the answer.
        .half_close(true)
        .max_buf_size(HEADER_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIME_MAX);
    http
}

/// The connections that wait to be accepted, before the listener is closed. The system is asked, since the runtime may
/// not have heard of them yet.
fn queued(listener: TcpListener) -> Vec<(TcpStream, IpAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, address) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>((TcpStream::from_std(stream)?, address.ip()))
    };
    std::iter::from_fn(|| accept().ok()).collect()
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Places,
    told: &mut Option<Instant>,
) -> io::Result<(TcpStream, IpAddr, Free)> {
    let free = places.free().await?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Ok((stream, address.ip(), free)),
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

async fn connection(mut stream: TcpStream, place: Place, shared: &Shared) {
    // Without it, small answers wait for acknowledgements; where it fails the connection still works.
    let _ = stream.set_nodelay(true);
    let tls = shared.tls.borrow().clone();
    let due = tokio::time::Instant::now() + shared.limits.head_time_max;
    if tls.is_some() {
        let answered = tokio::select! {
            () = lingered(&shared.shutdown) => return,
            answered = tokio::time::timeout_at(due, plain::was_answered(&mut stream)) => answered,
        };
        if answered.unwrap_or(true) {
            return;
        }
    }
    let clock = Clock::new();
    let (socket, beside) = Socket::new(stream, clock.clone());
    let Some(tls) = tls else { return speak(socket, beside, clock, (place, None), shared).await };
    let handshake = TlsAcceptor::from(tls).accept(socket);
    let handshake = tokio::time::timeout_at(due, handshake);
    let handshake = tokio::select! {
        () = lingered(&shared.shutdown) => return,
        handshake = handshake => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certified = shown.and_then(|certificate| shared.app.certified(certificate));
            speak(stream, beside, clock, (place, certified), shared).await;
        }
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
async fn speak<S>(
    stream: S,
    beside: Beside,
    clock: Arc<Clock>,
    (place, certified): (Place, Option<Certified>),
    shared: &Shared,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // HTTP/2 ends a connection without losing a request.
    let lingers = Arc::new(AtomicBool::new(true));
    let spare = place.spare;
    let mut revoked = std::pin::pin!(shared.app.until_revoked(certified.as_ref()));
    let service = answering(&place, certified.clone(), &clock, &lingers, shared);
    let stream = Heads::new(stream, clock.clone());
    let mut connection =
        std::pin::pin!(shared.http.serve_connection(TokioIo::new(stream), service));
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let (mut serving, mut lingering) = (true, true);
    let mut ending: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                if clock.is_aborted() {
                    beside.reset_at_end();
                }
                return;
            }
            () = revoked.as_mut() => {
                tracing::debug!("the certificate of a connection was revoked");
                beside.reset_at_end();
                return;
            }
            _ = looks.tick() => {
                clock.note_half_closed(clock.is_http1_at_work() && beside.is_half_closed());
                match clock.look(&shared.limits) {
                    None => {}
                    Some(End::Idle) => {
                        if ending.get_or_insert_with(Instant::now).elapsed() > GRACE {
                            return;
                        }
                        connection.as_mut().graceful_shutdown();
                    }
                    Some(End::Now(why)) => {
                        tracing::debug!(why, "a connection is ended");
                        return;
                    }
                    Some(End::Reset(why)) => {
                        tracing::debug!(why, "a connection is cut off");
                        beside.reset_at_end();
                        return;
                    }
                }
                if spare && began.elapsed() > SPARE_TIME_MAX {
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

/// Answers each request on a connection, and notes in `lingers` whether the last was one of HTTP/1.
fn answering(
    place: &Place,
    certified: Option<Certified>,
    clock: &Arc<Clock>,
    lingers: &Arc<AtomicBool>,
    shared: &Shared,
) -> impl Service<Request<Incoming>, Response = Response<Metered>, Error = Infallible, Future: Send>
+ use<> {
    let keeps = format!("timeout={}", shared.limits.idle_time.as_secs());
    let keeps = HeaderValue::try_from(keeps).unwrap_or(HeaderValue::from_static("timeout=1"));
    let spare = place.spare;
    let (app, shutdown) = (shared.app.clone(), shared.shutdown.clone());
    let (clock, lingers, guest) = (clock.clone(), Arc::clone(lingers), place.guest.clone());
    let client = app.read_client();
    service_fn(move |mut request: Request<Incoming>| {
        let in_flight = clock.request();
        let is_http2 = request.version() >= Version::HTTP_2;
        lingers.store(!is_http2, Ordering::Relaxed);
        if request.method() == Method::GET {
            client.reads();
        }
        request.extensions_mut().insert(guest.clone());
        if let Some(certified) = &certified {
            request.extensions_mut().insert(certified.clone());
        }
        let stays = !spare && stays_open(&request);
        let (app, shutdown, keeps) = (app.clone(), shutdown.clone(), keeps.clone());
        async move {
            let mut response = match spare && !places::is_spare(request.uri().path()) {
                true => no_place(&app, request.uri()),
                false => app.respond(request).await,
            };
            date::set(response.headers_mut());
            if !is_http2 {
                let fields = response.headers_mut();
                if spare || shutdown.is_cancelled() {
                    fields.insert(CONNECTION, HeaderValue::from_static("close"));
                } else if stays {
                    fields.insert(&KEEP_ALIVE, keeps);
                }
            }
            let answers = app.answers().clone();
            let metered = |body| Metered::new(body, is_http2, answers, in_flight);
            Ok::<_, Infallible>(response.map(metered))
        }
    })
}

/// Whether the client lets the connection go on behind the answer.
fn stays_open<B>(request: &Request<B>) -> bool {
    let says = |what: &str| {
        let values = request.headers().get_all(CONNECTION).iter();
        let mut words = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(what))
    };
    if request.version() < Version::HTTP_11 { says("keep-alive") } else { !says("close") }
}

fn no_place(app: &App, uri: &Uri) -> Response {
    let detail = "there are too many connections, of this address or at all; this one answers how the node is, and \
                  takes requests about the cluster";
    let problem = Problem::new(Kind::TooBusy, detail).refused(Refusal::Connections);
    let response = problem.into_response();
    metrics::count(app.counts(), metrics::route(uri), &response, Duration::ZERO);
    response
}
