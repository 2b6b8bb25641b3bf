//! One request over several endpoints: who is asked, how long nobody waits for one that says nothing, and what
//! speaks at a port that does not understand it.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::{Response, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::{self, Error, Failure, Heard, Problem, Told};
use super::{
    Call, Client, ETAG, GRACE, REVISION, STREAM_TIME_MAX, TIMEOUT_MIN, not_konsens, number_in,
    revision_in,
};
use crate::api::TIMEOUT_DEFAULT;

/// How long an endpoint may say nothing before the next one is asked as well, where that does no harm.
pub(super) const HEDGE_AFTER: Duration = Duration::from_millis(500);
/// After how long a wait is told of.
const WORD_AFTER: Duration = Duration::from_secs(2);
/// An endpoint that answered so recently is not asked first whether it lives and is konsen.
const FRESH: Duration = Duration::from_secs(1);
/// How long a port may take to show what it speaks.
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);
/// The first byte of an alert of TLS.
const TLS_ALERT: u8 = 0x15;

impl Client {
    /// Sends to one endpoint after the other until one of them settles it, or the time is over. What changes nothing is
    /// asked of the next one, too, where one says nothing; anything else goes only to those that answer as konsen does,
    /// and nowhere if the endpoints are those of different clusters. Who answered, and what.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<(usize, Response), Error> {
        let mut settled = pin!(self.settle(call, Instant::now() + self.timeout));
        let settled = tokio::select! {
            settled = &mut settled => settled,
            // Whoever begins a stream says so in its own words.
            () = tokio::time::sleep(WORD_AFTER), if self.timeout > WORD_AFTER && !call.streams => {
                self.say(&format!("no answer for {} s; waiting on", WORD_AFTER.as_secs()));
                settled.await
            }
        };
        settled.map_err(|failure| failure.error)
    }

    /// Sends what changes nothing to those that answer as konsen does, but for the one that did not; none if no other
    /// settles it.
    pub(super) async fn send_elsewhere(
        &self,
        call: &Call<'_>,
        not: usize,
        due: Instant,
    ) -> Option<(usize, Response)> {
        let mut others = self.search(due).await.ok()?;
        others.retain(|at| *at != not);
        self.ask(call, others, due, true).await.ok()
    }

    async fn settle(&self, call: &Call<'_>, due: Instant) -> Result<(usize, Response), Failure> {
        if !call.streams && (self.endpoints.len() == 1 || !call.changes_something()) {
            let hedged = !call.changes_something();
            return self.ask(call, self.order().collect(), due, hedged).await;
        }
        let (mut tried, mut most) = (None, None);
        if let Some(at) = self.fresh() {
            match self.ask(call, vec![at], due, false).await {
                Err(failure) if failure.may_try_another => most = Some(failure),
                settled => return settled,
            }
            tried = Some(at);
        }
        // A stream may be given much time, which no endpoint needs to say how it is.
        let search_due = Instant::now() + self.timeout.min(TIMEOUT_DEFAULT);
        let answer = match self.search(due.min(search_due)).await {
            Ok(mut order) => {
                order.retain(|at| Some(*at) != tried);
                self.ask(call, order, due, false).await
            }
            Err(failure) => Err(failure),
        };
        answer.map_err(|failure| match failure.may_try_another {
            true => Failure::with_most_to_say(most, failure),
            false => failure,
        })
    }

    /// All endpoints, from the one on that is asked first.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.endpoints.len());
        (0..count).map(move |number| (first + number) % count)
    }

    /// Notes that an endpoint answers as konsen does.
    pub(super) fn proves(&self, at: usize) {
        self.first.store(at, Ordering::Relaxed);
        *self.proven.lock() = Some((at, Instant::now()));
    }

    /// Who need not be asked first whether it lives and is konsen.
    fn fresh(&self) -> Option<usize> {
        let proven = *self.proven.lock();
        proven.filter(|(_, since)| since.elapsed() < FRESH).map(|(at, _)| at)
    }

    /// Asks these endpoints in order; with `hedged` the next one, too, when none has answered for a while. Of all errors
    /// that of the endpoint counts that had most to say.
    async fn ask(
        &self,
        call: &Call<'_>,
        order: Vec<usize>,
        due: Instant,
        hedged: bool,
    ) -> Result<(usize, Response), Failure> {
        // All of them are to be asked before the time is over.
        let parts = u32::try_from(order.len()).unwrap_or(u32::MAX).saturating_add(1);
        let hedge_after = HEDGE_AFTER.min(self.timeout / parts);
        let mut order = order.into_iter().peekable();
        let mut asked = FuturesUnordered::new();
        let ask =
            |at: usize| async move { (at, self.send_to(&self.endpoints[at], call, due).await) };
        let mut most = None::<Failure>;
        loop {
            if asked.is_empty() {
                let Some(next) = order.next() else {
                    return Err(most.unwrap_or_else(|| Failure::of_silence(&self.endpoints[0])));
                };
                asked.push(ask(next));
            }
            tokio::select! {
                Some((at, answer)) = asked.next() => match answer {
                    Ok(response) => {
                        if !call.shows.is_empty() {
                            self.proves(at);
                        }
                        return Ok((at, response));
                    }
                    Err(failure) if failure.may_try_another => {
                        most = Some(Failure::with_most_to_say(most, failure));
                        if let Some(next) = order.next() {
                            asked.push(ask(next));
                        }
                    }
                    Err(failure) => return Err(failure),
                },
                () = tokio::time::sleep(hedge_after), if hedged && order.peek().is_some() => {
                    if let Some(next) = order.next() {
                        self.say(&format!("no answer yet; asking {}, too", self.endpoints[next]));
                        asked.push(ask(next));
                    }
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
        due: Instant,
    ) -> Result<Response, Failure> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::of_silence(endpoint));
        }
        let writes = call.changes_something();
        let mut text = format!("{endpoint}{}", call.path);
        for (position, (name, value)) in call.query.iter().enumerate() {
            text.push(if position == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        // A backup takes its time for the checkpoint, and not for the cluster to answer.
        let told = if call.streams { left.min(TIMEOUT_DEFAULT) } else { left };
        let told = Duration::from_millis(told.as_millis().try_into().unwrap_or(u64::MAX));
        let told = humantime::format_duration(told.max(TIMEOUT_MIN)).to_string().replace(' ', "");
        let mut request = self
            .http
            .request(call.method.clone(), text)
            .headers(call.headers.clone())
            .header("konsen-timeout", told);
        if let Some(body) = call.body {
            request = request.body(body.clone());
        }
        // Of a stream only its beginning is due.
        let wait = left + GRACE;
        let (whole, begins) =
            if call.streams { (STREAM_TIME_MAX, wait) } else { (wait, STREAM_TIME_MAX) };
        let request = request.timeout(whole);
        let response = match tokio::time::timeout(begins, request.send()).await {
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
            let misses = |name: &&&str| number_in(response.headers(), name).is_none();
            return match call.shows.iter().find(misses) {
                None => Ok(response),
                Some(missing) => {
                    let text = not_konsens(endpoint, format_args!("it has no field {missing}"));
                    Err(Failure::of_stranger(text, writes))
                }
            };
        }
        let status = response.status();
        let told = Told {
            revision: revision_in(response.headers(), REVISION),
            current: revision_in(response.headers(), ETAG),
        };
        // A body that does not come, or is no problem, leaves the status alone to judge by.
        let problem: Option<Problem> = match super::body(response).await {
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
