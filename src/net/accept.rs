//! The connections that peers dialled: what comes in on them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, Endpoint, Incoming, ReadError, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout, timeout_at};

use super::admission::{Place, Verdict};
use super::frame::{self, FrameError};
use super::hello::{Greeting, HELLO_BYTES_MAX, Hello, Refused};
use super::refusal::{CloseCode, Ending, Refusal};
use super::shared::{Shared, leaf_of};
use super::shown::Shown;
use super::stream::{self, FrameReader, StreamError, read_kind};
use super::tasks;
use super::transfer::IncomingTransfer;
use super::{Answerer, Asking};
use crate::raft::NodeId;

/// How long a handshake and the hello after it may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one who is refused may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stream may take to show its kind, and a request to arrive.
pub const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// After so many message streams ended cleanly the other end has nothing more to say.
const MESSAGE_STREAMS: u32 = 2;

/// Accepts connections until the endpoint is closed.
pub(super) async fn accept(shared: &Arc<Shared>, endpoint: Endpoint, answerer: Arc<dyn Answerer>) {
    while let Some(incoming) = endpoint.accept().await {
        let address = incoming.remote_address().ip();
        // Who may not be sent a retry has answered one, or has been here before.
        let proved = incoming.remote_address_validated() || !incoming.may_retry();
        let verdict = shared.admission.lock().ask(address, proved, std::time::Instant::now());
        let place = match verdict {
            Verdict::Begin(place) => place,
            Verdict::Prove => {
                // Fails only for those that may not be sent one.
                let _ = incoming.retry();
                continue;
            }
            Verdict::Refuse => {
                incoming.refuse();
                continue;
            }
        };
        let (shared, answerer) = (shared.clone(), answerer.clone());
        tokio::spawn(async move {
            let held = Held { shared: &shared, place: Some(place) };
            let handshake = shake_hands(&shared, incoming).await;
            drop(held);
            match handshake {
                Ok(peer) => peer.serve(&shared, answerer).await,
                Err(failure) => failure.log(&shared, address),
            }
        });
    }
}

/// A place of the admission, which is given back however a handshake ends.
struct Held<'a> {
    shared: &'a Shared,
    place: Option<Place>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.shared.admission.lock().ended(place);
        }
    }
}

/// A handshake that failed, and with whom if a certificate said so.
struct Failure {
    name: Option<String>,
    ending: Ending,
}

impl Failure {
    fn log(&self, shared: &Shared, address: IpAddr) {
        if shared.stop.is_cancelled() {
            return;
        }
        match &self.name {
            Some(name) => shared.refusals.peer(name, &address.to_string(), &self.ending),
            None => shared.refusals.stranger(address, &self.ending),
        }
    }
}

/// A peer that dialled, was checked and answered.
struct AcceptedPeer {
    connection: Connection,
    name: String,
    asking: Asking,
}

/// The handshake and the hello after it, within their time.
async fn shake_hands(shared: &Arc<Shared>, incoming: Incoming) -> Result<AcceptedPeer, Failure> {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let nobody = |ending| Failure { name: None, ending };
    let late = || Ending::unreachable("the handshake took too long");
    let connecting = incoming.accept().map_err(|error| nobody(Ending::of(&error)))?;
    let connection = match timeout_at(deadline, connecting).await {
        Ok(connection) => connection.map_err(|error| nobody(Ending::of(&error)))?,
        Err(_) => return Err(nobody(late())),
    };
    let shown =
        shared.certified(&connection).and_then(|node| Ok((node.name, leaf_of(&connection)?)));
    let (name, certificate) = match shown {
        Ok((name, leaf)) => (name, Arc::new(leaf)),
        Err(refusal) => {
            refusal.close(&connection);
            return Err(nobody(Ending::own(&refusal)));
        }
    };
    let ending = match timeout_at(deadline, first_hello(shared, &connection)).await {
        Ok(Ok(id)) => {
            return Ok(AcceptedPeer { connection, name, asking: Asking { id, certificate } });
        }
        Ok(Err(Trouble::Lost(ending))) => ending,
        Ok(Err(Trouble::Refused(refusal))) => {
            refusal.close(&connection);
            Ending::own(&refusal)
        }
        Err(_) => late(),
    };
    // It may have been admitted before it failed.
    shared.leave(&connection);
    Err(Failure { name: Some(name), ending })
}

/// Why a stream of a peer came to nothing.
enum Trouble {
    /// The stream or the connection ended.
    Lost(Ending),
    /// The peer broke a rule.
    Refused(Refusal),
}

impl From<StreamError> for Trouble {
    fn from(error: StreamError) -> Trouble {
        match error {
            StreamError::Frame(error) => Trouble::Refused(Refusal::protocol(error)),
            StreamError::Lost(ReadError::ConnectionLost(error)) => {
                Trouble::Lost(Ending::of(&error))
            }
            StreamError::Lost(error) => Trouble::Lost(Ending::unreachable(&error.to_string())),
        }
    }
}

/// Takes in the first stream, which must be a hello, and answers it.
async fn first_hello(shared: &Arc<Shared>, connection: &Connection) -> Result<NodeId, Trouble> {
    let (send, mut receive) =
        connection.accept_bi().await.map_err(|error| Trouble::Lost(Ending::of(&error)))?;
    match read_kind(&mut receive).await? {
        stream::HELLO => answer_hello(shared, connection, send, receive).await,
        kind => Err(Trouble::Refused(Refusal::protocol(format_args!(
            "the first stream is of kind {kind}, not a hello"
        )))),
    }
}

async fn answer_hello(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut send: SendStream,
    receive: RecvStream,
) -> Result<NodeId, Trouble> {
    let body = FrameReader::new(receive, HELLO_BYTES_MAX).only().await?;
    let hello = match Hello::decode(&body) {
        Ok(Greeting::Understood(hello)) => *hello,
        Ok(Greeting::OtherVersions(theirs)) => {
            return Err(Trouble::Refused(Refusal::versions(theirs)));
        }
        Err(error) => return Err(Trouble::Refused(Refusal::protocol(error))),
    };
    let node_id = hello.node_id;
    let shown = Shown { certified: shared.certified(connection).map_err(Trouble::Refused)?, hello };
    let admitted = shared.admit(&shown, connection).await;
    let refused = admitted.as_ref().err().map(|refusal| Refused {
        code: refusal.code as u8,
        disowns: refusal.disowns,
        sentence: refusal.sentence.clone(),
    });
    let mut answer = BytesMut::new();
    frame::encode(&Hello { refused, ..shared.hello() }, HELLO_BYTES_MAX, &mut answer)
        .map_err(|error| Trouble::Refused(Refusal::protocol(error)))?;
    // If the other end is gone, the connection ends and says why.
    let _ = send.write_all(&answer).await;
    let _ = send.finish();
    if let Err(refusal) = admitted {
        // It should learn who belongs by now: the close of the connection would overtake that.
        let _ = timeout(REFUSAL_TIMEOUT, connection.closed()).await;
        return Err(Trouble::Refused(refusal));
    }
    Ok(node_id)
}

impl AcceptedPeer {
    /// A message stream was read to its end.
    fn ended(&self, streams: &AtomicU32) {
        if streams.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGE_STREAMS {
            self.connection.close(CloseCode::Done.as_varint(), b"everything was read");
        }
    }

    /// Takes in what the peer sends until the connection ends.
    async fn serve(self, shared: &Arc<Shared>, answerer: Arc<dyn Answerer>) {
        let peer = Arc::new(self);
        let ended_streams = Arc::new(AtomicU32::new(0));
        let error = loop {
            tokio::select! {
                stream = peer.connection.accept_uni() => match stream {
                    Ok(stream) => {
                        let (shared, peer) = (shared.clone(), peer.clone());
                        let ended_streams = ended_streams.clone();
                        tokio::spawn(async move {
                            let reading = async {
                                match peer.read_messages(&shared, stream).await {
                                    Ok(()) => peer.ended(&ended_streams),
                                    Err(trouble) => peer.note(&shared, trouble),
                                }
                            };
                            tasks::on(&peer.connection, reading).await;
                        });
                    }
                    Err(error) => break error,
                },
                streams = peer.connection.accept_bi() => match streams {
                    Ok((send, receive)) => {
                        let (shared, peer) = (shared.clone(), peer.clone());
                        let answerer = answerer.clone();
                        shared.answering.clone().spawn(async move {
                            let answering = async {
                                let answered = peer.answer(&shared, &*answerer, send, receive);
                                if let Err(trouble) = answered.await {
                                    peer.note(&shared, trouble);
                                }
                            };
                            tasks::on(&peer.connection, answering).await;
                        });
                    }
                    Err(error) => break error,
                },
            }
        };
        shared.leave(&peer.connection);
        let ending = Ending::of(&error);
        if ending.refused && !shared.stop.is_cancelled() {
            let address = peer.connection.remote_address().to_string();
            shared.refusals.peer(&peer.name, &address, &ending);
        } else {
            tracing::debug!(peer = peer.name, "a connection of a peer ended: {}", ending.sentence);
        }
    }

    /// A peer that breaks a rule loses its connection.
    fn note(&self, shared: &Shared, trouble: Trouble) {
        match trouble {
            Trouble::Lost(ending) => {
                tracing::debug!(peer = self.name, "a stream ended: {}", ending.sentence);
            }
            Trouble::Refused(refusal) => {
                refusal.close(&self.connection);
                let address = self.connection.remote_address().to_string();
                shared.refusals.peer(&self.name, &address, &Ending::own(&refusal));
            }
        }
    }

    async fn read_messages(&self, shared: &Shared, mut receive: RecvStream) -> Result<(), Trouble> {
        match arrive(read_kind(&mut receive)).await? {
            stream::MESSAGES => {}
            kind => return Err(unknown(kind)),
        }
        let mut frames = FrameReader::new(receive, shared.own.frame_bytes_max);
        while let Some(body) = frames.next().await? {
            let message = frame::decode_message(&body).map_err(StreamError::Frame)?;
            if message.from != self.asking.id || message.to != shared.own.node_id {
                return Err(Trouble::Refused(Refusal::protocol(format_args!(
                    "a message from {} to {} on the connection from {} to {}",
                    message.from, message.to, self.asking.id, shared.own.node_id
                ))));
            }
            // What was read before the connection was closed is not to be taken in after.
            if self.connection.close_reason().is_some() {
                return Ok(());
            }
            shared.inbound.receive(message);
        }
        Ok(())
    }

    async fn answer(
        &self,
        shared: &Arc<Shared>,
        answerer: &dyn Answerer,
        send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), Trouble> {
        let limit = shared.own.frame_bytes_max;
        // Whoever gives a request up while sending it leaves a stream that ends too early.
        match arrive(whole(read_kind(&mut receive))).await? {
            stream::REQUEST => {}
            stream::HELLO => {
                let hello = answer_hello(shared, &self.connection, send, receive);
                return match timeout(ARRIVAL_TIMEOUT, hello).await {
                    Ok(Ok(node_id)) if node_id == self.asking.id => Ok(()),
                    Ok(Ok(_)) => Err(Trouble::Refused(Refusal::protocol(
                        "another identity than in the first hello",
                    ))),
                    Ok(Err(trouble)) => Err(trouble),
                    Err(_) => Err(late()),
                };
            }
            stream::TRANSFER => {
                let arriving = IncomingTransfer(FrameReader::new(receive, limit));
                let reply = shared.inbound.transfer(self.asking.id, arriving);
                let reply = tokio::select! {
                    reply = reply => reply,
                    error = self.connection.closed() => {
                        return Err(Trouble::Lost(Ending::of(&error)));
                    }
                };
                self.reply(shared, send, &reply).await;
                return Ok(());
            }
            kind => return Err(unknown(kind)),
        }
        let body = arrive(whole(FrameReader::new(receive, limit).only())).await?;
        let reply = answerer.answer(&self.asking, body).await;
        self.reply(shared, send, &reply).await;
        Ok(())
    }

    async fn reply(&self, shared: &Shared, mut send: SendStream, reply: &[u8]) {
        let limit = shared.own.frame_bytes_max;
        let mut framed = BytesMut::with_capacity(reply.len() + frame::HEADER_BYTES);
        if let Err(error) = frame::encode_bytes(reply, limit, &mut framed) {
            tracing::error!(peer = self.name, %error, "a reply is dropped");
            // The other end does not learn the outcome, which is what a reset says.
            let _ = send.reset(VarInt::from_u32(CloseCode::Protocol as u32));
            return;
        }
        // If nobody waits for the reply any more, nothing is lost.
        if send.write_chunk(framed.freeze()).await.is_ok() {
            let _ = send.finish();
            if shared.leaving.load(Ordering::Relaxed) {
                // The close of the connection would overtake it.
                let _ = send.stopped().await;
            }
        }
    }
}

/// Waits for what should be on its way already.
async fn arrive<T>(read: impl Future<Output = Result<T, StreamError>>) -> Result<T, Trouble> {
    match timeout(ARRIVAL_TIMEOUT, read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(late()),
    }
}

/// Takes a stream that was cut off for one that was given up.
async fn whole<T>(read: impl Future<Output = Result<T, StreamError>>) -> Result<T, StreamError> {
    read.await.map_err(|error| match error {
        StreamError::Frame(FrameError::CutOff) => StreamError::Lost(ReadError::ClosedStream),
        other => other,
    })
}

/// A slow stream is dropped; the connection may be fine.
fn late() -> Trouble {
    Trouble::Lost(Ending::unreachable("a stream stayed empty for too long"))
}

fn unknown(kind: u8) -> Trouble {
    Trouble::Refused(Refusal::protocol(format_args!("a stream of the unknown kind {kind}")))
}
