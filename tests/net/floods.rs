//! Crowds of strangers at the door: a member that was restarted gets in all the same, and the others go on.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn::EndpointConfig;

use crate::garbage::RawClient;
use crate::node::{TestNode, config, introduce, talk};
use crate::pki::Authority;

/// How long a member that starts in a flood may take to be connected both ways.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);
/// How many handshakes are begun a second with each node.
const RATE: u64 = 300;

/// What strangers do until this is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn of(
        targets: &[SocketAddr],
        strike: impl Fn(SocketAddr, u64) + Send + Clone + 'static,
    ) -> Flood {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = targets.iter().map(|&target| {
            let (stop, sent, strike) = (stop.clone(), sent.clone(), strike.clone());
            std::thread::spawn(move || {
                let began = Instant::now();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) || began.elapsed() > Duration::from_secs(30) {
                        return;
                    }
                    strike(target, number);
                    sent.fetch_add(1, Ordering::Relaxed);
                    // The pace is the attack's, not a wait for anything.
                    let due = Duration::from_millis(1000 * (number + 1) / RATE);
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                }
            })
        });
        Flood { threads: threads.collect(), stop, sent }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The first datagram of a handshake that is never gone on with, from one of the addresses of the loopback range.
fn half_handshake(tls: &quinn::ClientConfig, from: IpAddr, target: SocketAddr) {
    let now = Instant::now();
    let mut endpoint =
        quinn_proto::Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    let (_, mut connection) = endpoint.connect(now, tls.clone(), target, "a").unwrap();
    let mut datagram = Vec::new();
    let _ = connection.poll_transmit(now, 1, &mut datagram).expect("a client speaks first");
    let socket = UdpSocket::bind((from, 0)).unwrap();
    // What the system does not take is lost.
    let _ = socket.send_to(&datagram, target);
}

/// Three nodes of whom the third was restarted; how long it takes to be connected with the others during a flood.
async fn restart_during(name: &str, flood: impl FnOnce(&[SocketAddr], &Authority) -> Flood) {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    let c = TestNode::good(&authority, "c", 3);
    introduce(&[&a, &b, &c]);
    talk(&a, &c).await;
    talk(&b, &c).await;
    let listen = c.net.local_addr();
    c.net.shutdown().await;
    let flood = flood(&[a.net.local_addr(), b.net.local_addr()], &authority);
    // It has filled what can be filled.
    let began = Instant::now();
    while flood.sent.load(Ordering::Relaxed) < RATE || began.elapsed() < Duration::from_secs(1) {
        talk(&a, &b).await;
    }
    let mut again = config("c", 3, authority.node("c"));
    again.listen = listen;
    let c = TestNode::start(again).unwrap();
    let began = Instant::now();
    introduce(&[&a, &b, &c]);
    talk(&a, &c).await;
    talk(&b, &c).await;
    let took = began.elapsed();
    let sent = flood.sent.load(Ordering::Relaxed);
    drop(flood);
    println!("{name}: connected after {took:?}, {sent} handshakes begun");
    assert!(took < CONNECTED_WITHIN, "{name}: connected after {took:?}");
    for node in [a, b, c] {
        node.net.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_handshakes_from_one_address() {
    restart_during("half handshakes from one address", |targets, authority| {
        let tls = RawClient::settings(authority, None);
        let from = IpAddr::from([127, 0, 2, 1]);
        Flood::of(targets, move |target, _| half_handshake(&tls, from, target))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_handshakes_from_many_addresses() {
    restart_during("half handshakes from many addresses", |targets, authority| {
        let tls = RawClient::settings(authority, None);
        Flood::of(targets, move |target, number| {
            let [high, low] = u16::try_from(number % 60_000).unwrap().to_be_bytes();
            half_handshake(&tls, IpAddr::from([127, 1, high, low.max(1)]), target);
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_handshakes_of_a_foreign_authority() {
    restart_during("whole handshakes of a foreign authority", |targets, authority| {
        let mut material = Authority::new("other").node("c");
        material.ca = vec![authority.certificate()];
        let tls = RawClient::settings(authority, Some(material));
        let runtime = tokio::runtime::Handle::current();
        Flood::of(targets, move |target, number| {
            let from = IpAddr::from([127, 2, 0, u8::try_from(number % 250).unwrap() + 1]);
            let tls = tls.clone();
            runtime.spawn(async move {
                let Ok(endpoint) = quinn::Endpoint::client(SocketAddr::new(from, 0)) else {
                    return;
                };
                if let Ok(connecting) = endpoint.connect_with(tls, target, "a") {
                    let _ = tokio::time::timeout(Duration::from_secs(2), connecting).await;
                }
            });
        })
    })
    .await;
}
