//! One request over several endpoints: who is asked, how long nobody waits for one that says nothing, and what
//! speaks at a port that does not understand it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::header::ETAG;
use reqwest::{Response, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::{self, Error, Failure, Heard, Problem, Told};
use super::{Call, Client, GRACE, STREAM_BEGIN_MAX, STREAM_TIME_MAX, revision_in};

/// How long an endpoint may say nothing before the next one is asked as well, where that does no harm.
pub(super) const HEDGE_AFTER: Duration = Duration::from_millis(500);
/// After how long a wait is told of.
const WORD_AFTER: Duration = Duration::from_secs(2);
/// How long it may take to find an endpoint that lives, before what cannot be asked twice.
pub(super) const SEARCH_TIME_MAX: Duration = Duration::from_secs(3);
/// An endpoint that answered so recently is not asked first whether it lives.
const FRESH: Duration = Duration::from_secs(1);
/// How long a port may take to show what it speaks.
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);
/// The first byte of an alert of TLS.
const TLS_ALERT: u8 = 0x15;

impl Client {
    /// Sends to one endpoint after the other until one of them settles it. What changes nothing is asked of the
    /// next one, too, where one says nothing; anything else goes first to one that lives, and nowhere if the
    /// endpoints are those of different clusters.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Response, Error> {
        let first = self.first.load(Ordering::Relaxed);
        if self.endpoints.len() > 1 {
            if !call.changes_something() && !call.streams {
                return self.ask(&call, first, true).await;
            }
            if !self.answered.lock().is_some_and(|at| at.elapsed() < FRESH) {
                self.one_cluster().await?;
            }
        }
        self.ask(&call, self.first.load(Ordering::Relaxed), false).await
    }

    /// Asks the endpoints in order, from one of them on; with `hedged` the next one, too, when none has answered for
    /// a while. Of all errors that of the endpoint counts that had most to say.
    async fn ask(&self, call: &Call<'_>, first: usize, hedged: bool) -> Result<Response, Error> {
        let count = self.endpoints.len();
        let mut order = (0..count).map(|number| (first + number) % count).peekable();
        let mut asked = FuturesUnordered::new();
        let ask = |at: usize| async move { (at, self.send_to(&self.endpoints[at], call).await) };
        let (mut most, mut told) = (None::<Failure>, false);
        loop {
            if asked.is_empty() {
                let Some(next) = order.next() else {
                    let none = || Error::Unavailable("there is no endpoint".to_owned());
                    return Err(most.map_or_else(none, |failure| failure.error));
                };
                asked.push(ask(next));
            }
            tokio::select! {
                Some((at, answer)) = asked.next() => match answer {
                    Ok(response) => {
                        self.first.store(at, Ordering::Relaxed);
                        *self.answered.lock() = Some(Instant::now());
                        return Ok(response);
                    }
                    Err(failure) if failure.may_try_another => {
                        if most.as_ref().is_none_or(|most| most.heard < failure.heard) {
                            most = Some(failure);
                        }
                        if let Some(next) = order.next() {
                            asked.push(ask(next));
                        }
                    }
                    Err(failure) => return Err(failure.error),
                },
                () = tokio::time::sleep(HEDGE_AFTER), if hedged && order.peek().is_some() => {
                    if let Some(next) = order.next() {
                        self.say(&format!("no answer yet; asking {}, too", self.endpoints[next]));
                        asked.push(ask(next));
                    }
                }
                () = tokio::time::sleep(WORD_AFTER), if !told => {
                    told = true;
                    self.say(&format!("no answer for {} s; waiting on", WORD_AFTER.as_secs()));
                }
            }
        }
    }

    fn say(&self, what: &str) {
        if let Some(notice) = self.notice {
            notice(what);
        }
    }

    pub(super) async fn send_to(
        &self,
        endpoint: &Url,
        call: &Call<'_>,
    ) -> Result<Response, Failure> {
        let writes = call.changes_something();
        let mut text = format!("{endpoint}{}", call.path);
        for (position, (name, value)) in call.query.iter().enumerate() {
            text.push(if position == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        let timeout = humantime::format_duration(self.timeout).to_string().replace(' ', "");
        let mut request = self
            .http
            .request(call.method.clone(), text)
            .headers(call.headers.clone())
            .header("konsen-timeout", timeout);
        if let Some(body) = call.body {
            request = request.body(body.clone());
        }
        request = request.timeout(match call.streams {
            true => STREAM_TIME_MAX,
            false => self.timeout + GRACE,
        });
        // Of a stream only its beginning is due.
        let due =
            if call.streams { STREAM_BEGIN_MAX.max(self.timeout) + GRACE } else { STREAM_TIME_MAX };
        let response = match tokio::time::timeout(due, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(match speaks_otherwise(endpoint, &error).await {
                    Some(failure) => failure,
                    None => Failure::of_transport(endpoint, &error, writes),
                });
            }
            Err(_) => return Err(Failure::of_silence(endpoint)),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let told = Told {
            revision: revision_in(response.headers(), "konsen-revision"),
            current: revision_in(response.headers(), ETAG.as_str()),
        };
        // A body that does not come, or is no problem, leaves the status alone to judge by.
        let problem: Option<Problem> = match response.bytes().await {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(_) => None,
        };
        Err(Failure::of_answer(status, problem, told, writes).at(endpoint))
    }
}

/// Whether the port speaks TLS and was asked without, or the other way round: then it has understood nothing.
async fn speaks_otherwise(endpoint: &Url, failed: &reqwest::Error) -> Option<Failure> {
    let is_tls = endpoint.scheme() == "https";
    let wrong = if is_tls { error::is_no_tls(failed) } else { error::is_no_http(failed) };
    // What came in HTTP's place may have been anything.
    if !wrong || (!is_tls && !alerts(endpoint).await) {
        return None;
    }
    let endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
    let error = Error::WrongScheme { endpoint, is_tls };
    Some(Failure { error, may_try_another: true, heard: Heard::Misunderstood })
}

/// Whether a request in plain HTTP meets an alert of TLS.
async fn alerts(endpoint: &Url) -> bool {
    let look = async {
        let (host, port) = (endpoint.host_str()?, endpoint.port_or_known_default()?);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(LOOK_TIME_MAX, look).await.is_ok_and(|first| first == Some(TLS_ALERT))
}
