//! Writers of large values.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::clients::connect;
use crate::scene::Scene;

const WRITERS: usize = 64;
const VALUE_BYTES: usize = 1 << 20;

/// So many write a mebibyte each, again and again: more than disks take. Most are refused.
pub async fn large(scene: &Scene) {
    let head = |writer| {
        format!(
            "PUT /v1/kv/large{writer} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {VALUE_BYTES}\r\n\r\n"
        )
    };
    let until = Instant::now() + scene.lasts.max(Duration::from_secs(5));
    let (taken, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let request = [head(writer).as_bytes(), &vec![b'v'; VALUE_BYTES]].concat();
        let (address, taken, refused) = (scene.address, taken.clone(), refused.clone());
        writers.spawn(async move {
            while Instant::now() < until {
                // A place is not always to be had.
                let Ok(mut stream) = connect(address).await else { continue };
                while Instant::now() < until {
                    // Whoever is refused before all is sent is cut off.
                    let _ = stream.write_all(&request).await;
                    let mut answer = [0; 4096];
                    let status = match stream.read(&mut answer).await {
                        Ok(length) if length > 12 => answer[9..12].to_vec(),
                        _ => break,
                    };
                    match &status[..] {
                        b"201" | b"204" => taken.fetch_add(1, Ordering::Relaxed),
                        b"429" | b"408" => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{}", String::from_utf8_lossy(other)),
                    };
                }
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let (taken, refused) = (taken.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    println!("{:>40}  {taken} writes of a mebibyte taken, {refused} refused", "");
    assert!(taken > 0);
}
