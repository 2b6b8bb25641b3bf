//! Connections that are kept from others.

use std::time::Instant;

use tokio::io::AsyncWriteExt;

use crate::clients::{Http2, connect, sent};
use crate::scene::Scene;

/// Many of HTTP/2 that are idle after a request, and more than there are places.
pub async fn idle(scene: &Scene) {
    let mut connections = Vec::new();
    for _ in 0..450 {
        // A place is no longer to be had, or one that soon ends.
        let Some(mut connection) = Http2::connect(scene.address, 1 << 20).await else { continue };
        if let Some(answer) = connection.get("/healthz", &[]).await {
            let _ = answer.await;
        }
        connections.push(connection);
    }
    // The attacker's own address, too, may ask how the node is.
    let until = Instant::now() + scene.lasts;
    let mut answered = 0;
    while Instant::now() < until {
        let asked = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        if let Ok(stream) = sent(scene.address, asked).await
            && stream.readable().await.is_ok()
        {
            answered += 1;
        }
        tokio::task::yield_now().await;
    }
    assert!(answered > 0, "the attacker's address has no place left to ask from");
}

/// Bodies that come a byte at a time.
pub async fn drip(scene: &Scene) {
    let mut streams = Vec::new();
    let head = "PUT /v1/kv/drip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    for _ in 0..190 {
        if let Ok(mut stream) = connect(scene.address).await
            && stream.write_all(head.as_bytes()).await.is_ok()
        {
            streams.push(stream);
        }
    }
    assert!(streams.len() > 100);
    let until = Instant::now() + scene.lasts.max(std::time::Duration::from_secs(5));
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
    while Instant::now() < until {
        ticks.tick().await;
        for stream in &mut streams {
            // It was given up.
            let _ = stream.write_all(b"x").await;
        }
    }
    let mut ended = 0;
    for stream in &streams {
        let mut byte = [0; 1];
        ended += usize::from(
            !matches!(stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    assert_eq!(ended, streams.len(), "bodies that drip were not given up");
}

/// Bodies that come but for their end, together more than there is room for.
pub async fn hoard(scene: &Scene) {
    const BODY_BYTES: usize = 1 << 20;
    let head = format!(
        "PUT /v1/kv/hoard HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    );
    let begun = [head.into_bytes(), vec![b'x'; BODY_BYTES - 4096]].concat();
    let begin = |_| async {
        let mut stream = connect(scene.address).await.ok()?;
        // It is cut off if there is no room for it.
        let _ = stream.write_all(&begun).await;
        Some(stream)
    };
    let streams = futures_util::future::join_all((0..64).map(begin)).await;
    let mut streams: Vec<_> = streams.into_iter().flatten().collect();
    assert!(streams.len() > 32);
    let until = Instant::now() + scene.lasts;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
    while Instant::now() < until {
        ticks.tick().await;
        for stream in &mut streams {
            let _ = stream.write_all(b"x").await;
        }
    }
}
