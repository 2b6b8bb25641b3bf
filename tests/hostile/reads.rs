//! Reads that have far to go, and deletions of everything.

use std::time::Instant;

use crate::clients::sent;
use crate::scene::Scene;

/// Sends the same on many connections: some wait for the answer, others go at once.
async fn crowd(scene: &Scene, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let until = Instant::now() + scene.lasts;
    while Instant::now() < until {
        let mut waiting = Vec::new();
        for number in 0..150 {
            if let Ok(stream) = sent(scene.address, &request).await
                && number % 3 == 0
            {
                waiting.push(stream);
            }
        }
        for stream in waiting {
            let left = until.saturating_duration_since(Instant::now());
            let _ = tokio::time::timeout(left, stream.readable()).await;
        }
    }
}

/// A key with many versions, as it was at first.
pub async fn past(scene: &Scene) {
    crowd(scene, &format!("/v1/kv/deep?revision={}&consistency=stale", scene.first)).await;
}

/// A range with many keys that are gone.
pub async fn deletions(scene: &Scene) {
    crowd(scene, "/v1/kv?prefix=gone&limit=1&consistency=stale").await;
}

/// All keys of a range at once, again and again, and then in steps.
pub async fn delete_all(scene: &Scene) {
    let url = scene.cluster.url(scene.victim, "/v1/kv?prefix=k");
    let until = Instant::now() + scene.lasts;
    while Instant::now() < until {
        let answer = scene.cluster.http.delete(&url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 413, "{answer:?}");
    }
    scene.delete("k").await;
}
