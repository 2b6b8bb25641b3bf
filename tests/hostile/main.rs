//! Clients that mean harm, against a cluster of three, and what the others see meanwhile.
//!
//! `cargo test --test hostile -- --nocapture` takes less than a minute. `KONSEN_HOSTILE_SECONDS=30` is how long each attack lasts,
//! `KONSEN_HOSTILE_SCALE=20` multiplies what there is to read and delete, and `KONSEN_HOSTILE_ONLY=waiters` takes the attacks
//! whose names hold that.
#![allow(clippy::unwrap_used)]
// A test's modules are shared between binaries by path, so that their items are `pub`.
#![allow(unreachable_pub)]

// Only a part of what the cluster's tests need is used here.
#[allow(dead_code)]
#[path = "../cluster/harness.rs"]
mod harness;

mod answers;
mod clients;
mod connections;
mod reads;
mod scene;
mod waiters;
mod writers;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use scene::Scene;

type Attack = for<'a> fn(&'a Scene) -> LocalBoxFuture<'a, ()>;

/// Every attack by its name. Each ends by itself.
const ATTACKS: &[(&str, Attack)] = &[
    ("nobody attacks", |scene| scene.pause().boxed_local()),
    ("reads of an old revision", |scene| reads::past(scene).boxed_local()),
    ("listings over deletions", |scene| reads::deletions(scene).boxed_local()),
    ("deletions of everything", |scene| reads::delete_all(scene).boxed_local()),
    ("waiters on a large value", |scene| waiters::large(scene).boxed_local()),
    ("waiters with large heads", |scene| waiters::heads(scene).boxed_local()),
    ("waiters on another key", |scene| waiters::elsewhere(scene).boxed_local()),
    ("answers over HTTP/2 that nobody takes", |scene| answers::http2(scene).boxed_local()),
    ("answers over HTTP/1 that nobody takes", |scene| answers::http1(scene).boxed_local()),
    ("writers of large values", |scene| writers::large(scene).boxed_local()),
    ("slow backups", |scene| answers::backups(scene).boxed_local()),
    ("idle connections", |scene| connections::idle(scene).boxed_local()),
    ("bodies that drip", |scene| connections::drip(scene).boxed_local()),
    ("bodies that lack their end", |scene| connections::hoard(scene).boxed_local()),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_suffers_from_hostile_clients() {
    let only = std::env::var("KONSEN_HOSTILE_ONLY").unwrap_or_default();
    let mut scene = Scene::start().await;
    let mut broken = Vec::new();
    for (name, attack) in ATTACKS.iter().filter(|(name, _)| name.contains(&only)) {
        let report = scene.watch(attack).await;
        println!("{name:>40}: {report}");
        broken.extend(report.broken().into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), scene.cluster.logs());
}
