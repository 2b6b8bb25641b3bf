//! What systemd hears of a node that it runs.

use std::os::unix::net::UnixDatagram;

use crate::harness::{Cluster, PATIENCE};

#[test]
fn systemd_hears_when_a_node_serves_lives_and_stops() {
    let mut cluster = Cluster::build(3, "");
    let path = cluster.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).expect("a word of the node");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let node = &mut cluster.nodes[0];
    node.env.push(("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned()));
    node.env.push(("WATCHDOG_USEC".to_owned(), "100000".to_owned()));
    node.start();
    // Alone it is part of no cluster yet, and serves all the same.
    // While it opens its files, it asks for time.
    let first = hear();
    assert!(first.contains("EXTEND_TIMEOUT_USEC=60000000"), "{first}");
    while !hear().contains("READY=1") {}
    for _ in 0..3 {
        let word = hear();
        assert!(word.contains("WATCHDOG=1"), "{word}");
    }
    node.signal("TERM");
    while !hear().contains("STOPPING=1") {}
    while !hear().contains("EXTEND_TIMEOUT_USEC=60000000") {}
    assert!(node.wait().success());
}
