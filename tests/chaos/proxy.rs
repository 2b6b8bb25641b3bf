//! A proxy in the way of one node's packets that delays, reorders, doubles and damages them.
//!
//! What the node and its peers send to each other is redirected to the proxy by their own hosts, in a
//! connection-tracking zone of its own, since what is already under way is not redirected otherwise. To whoever
//! was dialled the packets come from other ports than before, as behind a router that has forgotten them: the
//! connections end, and new ones are made through the proxy;
//! when the fault ends, the same once more.

use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::hosts::{Hosts, RAFT_PORT};
use crate::nemesis::{Chaos, Skipped};
use crate::netns::{self, address};

/// Below the proxy's ports.
const PORT: usize = 30_000;
/// How often a thread that hears nothing looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// What waits at most; more is lost, as in any router.
const QUEUE_MAX: usize = 10_000;

/// How packets fare, in percent and milliseconds.
#[derive(Clone, Copy, Debug)]
struct Weather {
    delay_ms: u64,
    doubled: u32,
    damaged: u32,
}

pub(crate) fn disturb(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = if chaos.random.random() { chaos.leader() } else { chaos.any() };
    let weather = Weather {
        delay_ms: [5, 50, 300][chaos.random.random_range(0..3)],
        doubled: chaos.random.random_range(0..30),
        damaged: chaos.random.random_range(0..10),
    };
    let seed = chaos.random.random();
    let proxy = Proxy::start(&chaos.hosts, node, weather, seed);
    if let Err(why) = redirect(&chaos.hosts, node, true) {
        let _ = redirect(&chaos.hosts, node, false);
        return Err(why);
    }
    chaos.say(&format!("proxy before node{}: {weather:?}", node + 1));
    // Longer than a connection that hears nothing lives.
    chaos.hold(6000, 10_000);
    redirect(&chaos.hosts, node, false)?;
    let passed = proxy.stop();
    chaos.say(&format!("the proxy passed {passed} packets on"));
    assert!(passed > 0, "nothing went through the proxy");
    Ok(())
}

/// The ways between the node and its peers, both directions, by who sends and who receives.
fn ways(hosts: &Hosts, node: usize) -> Vec<(usize, usize)> {
    let peers = (0..hosts.count()).filter(|&peer| peer != node);
    peers.flat_map(|peer| [(node, peer), (peer, node)]).collect()
}

/// Sends what goes these ways to the proxy instead, or no more.
fn redirect(hosts: &Hosts, node: usize, on: bool) -> Result<(), Skipped> {
    let verb = if on { "-A" } else { "-D" };
    let proxy = address(hosts.proxy());
    let zone = "-j CT --zone 7";
    for (from, to) in ways(hosts, node) {
        let port = port(from, to);
        let packets =
            format!("-p udp --sport {RAFT_PORT} -d {} --dport {RAFT_PORT}", address(to + 1));
        for rule in [
            format!("-t raw {verb} PREROUTING -p udp -s {proxy} --sport {port} {zone}"),
            format!("-t nat {verb} OUTPUT {packets} -j DNAT --to-destination {proxy}:{port}"),
            format!("-t raw {verb} OUTPUT {packets} {zone}"),
        ] {
            if !hosts.iptables(from, &rule) && on {
                return Err(Skipped(format!("`iptables {rule}` does not work here")));
            }
        }
    }
    Ok(())
}

/// The proxy's port for a way, always the same: the kernel remembers for minutes where it redirected to.
fn port(from: usize, to: usize) -> u16 {
    u16::try_from(PORT + from * 100 + to).unwrap()
}

/// A packet on its way out.
struct Packet {
    due: Instant,
    out: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl PartialEq for Packet {
    fn eq(&self, other: &Packet) -> bool {
        self.due == other.due
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Packet) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest is the greatest, as a heap wants it.
impl Ord for Packet {
    fn cmp(&self, other: &Packet) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

struct Proxy {
    stop: Arc<AtomicBool>,
    listeners: Vec<JoinHandle<()>>,
    sender: Option<JoinHandle<u64>>,
}

impl Proxy {
    fn start(hosts: &Hosts, node: usize, weather: Weather, seed: u64) -> Proxy {
        let stop = Arc::new(AtomicBool::new(false));
        let (queue, queued) = mpsc::channel();
        // Sockets belong to the host of the thread that makes them.
        let sockets: Vec<_> = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                netns::enter(&hosts.net, hosts.proxy());
                let socket = |port| {
                    let socket = UdpSocket::bind((address(hosts.proxy()), port)).unwrap();
                    socket.set_read_timeout(Some(LOOK)).unwrap();
                    Arc::new(socket)
                };
                let ways = ways(hosts, node).into_iter();
                let ways = ways.map(|(from, to)| (from, to, socket(port(from, to)), socket(0)));
                ways.collect()
            });
            made.join().unwrap()
        });
        let raft = |node: usize| format!("{}:{RAFT_PORT}", address(node + 1)).parse().unwrap();
        let mut listeners = Vec::new();
        for (from, to, near, far) in sockets {
            for (inward, out, to) in
                [(near.clone(), far.clone(), raft(to)), (far, near, raft(from))]
            {
                let (stop, queue) = (stop.clone(), queue.clone());
                let number = u64::try_from(listeners.len()).unwrap();
                let mut random = StdRng::seed_from_u64(seed ^ number);
                listeners.push(std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        listen(&inward, &out, to, weather, &mut random, &queue);
                    }
                }));
            }
        }
        // The sender ends with the last listener.
        drop(queue);
        let sender = std::thread::spawn(move || deliver(&queued));
        Proxy { stop, listeners, sender: Some(sender) }
    }

    /// How many packets were passed on. Those that still wait are lost.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for listener in self.listeners.drain(..) {
            listener.join().unwrap();
        }
        self.sender.take().expect("stopped once").join().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The threads end by themselves then.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Takes one packet, if one comes, and decides what becomes of it.
fn listen(
    inward: &UdpSocket,
    out: &Arc<UdpSocket>,
    to: SocketAddr,
    weather: Weather,
    random: &mut StdRng,
    queue: &Sender<Packet>,
) {
    let mut buffer = vec![0; 65_536];
    // Nothing came, or an ICMP message about a node that is gone.
    let Ok((length, _)) = inward.recv_from(&mut buffer) else { return };
    buffer.truncate(length);
    let copies = if random.random_range(0..100) < weather.doubled { 2 } else { 1 };
    for _ in 0..copies {
        let mut bytes = buffer.clone();
        if random.random_range(0..100) < weather.damaged && length > 0 {
            bytes[random.random_range(0..length)] ^= 1 << random.random_range(0..8);
        }
        // Each has a delay of its own, so that they overtake each other.
        let delay = Duration::from_millis(random.random_range(0..=weather.delay_ms));
        let due = Instant::now() + delay;
        // Nobody takes it only when all is over.
        let _ = queue.send(Packet { due, out: out.clone(), to, bytes });
    }
}

/// Sends what is due until nobody listens any more.
fn deliver(queued: &Receiver<Packet>) -> u64 {
    let mut waiting: BinaryHeap<Packet> = BinaryHeap::new();
    let mut passed = 0;
    loop {
        let pause =
            waiting.peek().map_or(LOOK, |next| next.due.saturating_duration_since(Instant::now()));
        match queued.recv_timeout(pause) {
            Ok(packet) if waiting.len() < QUEUE_MAX => waiting.push(packet),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return passed,
        }
        while waiting.peek().is_some_and(|next| next.due <= Instant::now()) {
            let Some(packet) = waiting.pop() else { break };
            // A peer that is gone loses it.
            passed += u64::from(packet.out.send_to(&packet.bytes, packet.to).is_ok());
        }
    }
}
