//! What frames and a round trip over QUIC cost.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::BoxFuture;
use konsen::cluster::{Own, Roster, Settings};
use konsen::net::frame::{self, Decoder, HEADER_BYTES};
use konsen::net::{
    Addresses, Answerer, Asking, FRAME_BYTES_MAX, Inbound, IncomingTransfer, Net, NetConfig,
    OwnFeatures, PeerHello, TlsMaterial,
};
use konsen::raft::{Body, ClusterId, Entry, Index, LogId, Message, NodeId, Payload, Term};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const A: NodeId = NodeId(0x1234_5678_9abc_def0);
const B: NodeId = NodeId(0x0fed_cba9_8765_4321);

fn message(from: NodeId, to: NodeId, body: Body) -> Message {
    Message { cluster: ClusterId(0x2bcd_ef01_2345_6789), from, to, term: Term(9), body }
}

fn heartbeat(round: u64) -> Message {
    message(A, B, Body::Heartbeat { commit: Index(1_000_000), round })
}

fn append(entries: u64) -> Message {
    let at = |index| LogId::new(Term(9), Index(1_000_000 + index));
    let payload = Payload::Command(Bytes::from(vec![7; 256]));
    let entries = (1..=entries).map(|i| Entry { id: at(i), payload: payload.clone() }).collect();
    message(A, B, Body::Append { prev: at(0), entries, commit: Index(1_000_000) })
}

fn frames(criterion: &mut Criterion) {
    let messages =
        [("heartbeat", heartbeat(500)), ("append-1", append(1)), ("append-64", append(64))];
    let mut group = criterion.benchmark_group("frame");
    for (name, message) in messages {
        let mut buffer = BytesMut::new();
        frame::encode(&message, FRAME_BYTES_MAX, &mut buffer).expect("fits");
        group.throughput(Throughput::Bytes(buffer.len() as u64));
        let framed = buffer.clone().freeze();
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                frame::encode(black_box(&message), FRAME_BYTES_MAX, &mut buffer).expect("fits");
            });
        });
        assert!(framed.len() > HEADER_BYTES);
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                let mut decoder = Decoder::new(FRAME_BYTES_MAX);
                decoder.push(black_box(framed.clone()));
                let body = decoder.next_body().expect("is a frame").expect("is whole");
                frame::decode_message(&body).expect("is a message")
            });
        });
    }
    group.finish();
}

/// Answers requests with their body, and passes messages on.
#[derive(Debug)]
struct Echo {
    messages: UnboundedSender<Message>,
}

impl Answerer for Echo {
    fn answer(&self, _from: &Asking, body: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(std::future::ready(body))
    }
}

impl Inbound for Echo {
    fn receive(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    fn unreachable(&self, _peer: NodeId) {}

    fn peer_up(&self, _peer: PeerHello) {}

    fn disowned(&self) {}

    fn ended(&self, task: &'static str, _panic: &(dyn std::any::Any + Send)) {
        panic!("{task} ended");
    }

    /// Takes everything in.
    fn transfer(&self, _from: NodeId, mut arriving: IncomingTransfer) -> BoxFuture<'static, Bytes> {
        Box::pin(async move {
            while let Ok(Some(_)) = arriving.next().await {}
            Bytes::new()
        })
    }
}

fn start(
    ca: &rcgen::Certificate,
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    node_id: NodeId,
) -> (Net, UnboundedReceiver<Message>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let uri = format!("spiffe://bench/node/{name}");
    params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let config = NetConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cluster: "bench".to_owned(),
        name: name.to_owned(),
        node_id,
        version: "0".to_owned(),
        addresses: Addresses::default(),
        settings: Settings {
            value_bytes_max: 1 << 20,
            election_timeout_ms: 500,
            lease_reads: false,
        },
        features: OwnFeatures::default(),
        configured: BTreeMap::new(),
        tls: TlsMaterial {
            ca: vec![ca.der().clone()],
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        },
        frame_bytes_max: FRAME_BYTES_MAX,
    };
    let (messages, received) = unbounded_channel();
    let echo = Arc::new(Echo { messages });
    let (net, listener) = Net::start(config, echo.clone()).expect("starts");
    listener.accept(echo);
    (net, received)
}

fn round_trips(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let (a, mut at_a, b, at_b) = runtime.block_on(async {
        let (a, at_a) = start(&ca, &issuer, "a", A);
        let (b, at_b) = start(&ca, &issuer, "b", B);
        let knows = |net: &Net, name: &str, id: NodeId, other: &str, at: &Net| {
            let own = Own { name: name.to_owned(), id };
            let configured = [(other.to_owned(), at.local_addr().to_string())].into();
            net.change_roster(|roster| *roster = Roster::new(own, configured));
        };
        knows(&a, "a", A, "b", &b);
        knows(&b, "b", B, "a", &a);
        while !(a.peers()[0].connected && b.peers()[0].connected) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (a, at_a, b, at_b)
    });

    let mut group = criterion.benchmark_group("quic");
    let body = Bytes::from(vec![7; 300]);
    group.bench_function("request-300-bytes", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let deadline = Instant::now() + Duration::from_secs(5);
            a.request(B, body.clone(), deadline).await.expect("a reply")
        });
    });

    // A message there and one back, each on the sender's own connection, as the protocol does it.
    let echo = {
        let (b, mut at_b) = (b.clone(), at_b);
        runtime.spawn(async move {
            while let Some(message) = at_b.recv().await {
                let Body::Append { prev, .. } = message.body else { continue };
                b.send(self::message(B, A, Body::AppendReply { matched: prev.index }));
            }
        })
    };
    let append = append(1);
    group.bench_function("append-and-reply", |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..rounds {
                    a.send(append.clone());
                    at_a.recv().await.expect("a reply");
                }
                start.elapsed()
            })
        });
    });
    group.finish();
    echo.abort();
    runtime.block_on(async {
        a.shutdown().await;
        b.shutdown().await;
    });
}

criterion_group!(benches, frames, round_trips);
criterion_main!(benches);
