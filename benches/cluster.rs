//! A whole cluster of three real processes on loopback, full durability: one client at a time, then 64
//! requests in flight. The load generator shares the machine with the nodes.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::runtime::Runtime;

// Only a part of what the tests need is used here.
#[allow(dead_code)]
#[path = "../tests/cluster/harness.rs"]
mod harness;

use harness::Cluster;

const VALUE_BYTES: usize = 256;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let cluster = runtime.block_on(Cluster::start(3));
    let leader = runtime.block_on(cluster.wait_leader());
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    let value = "v".repeat(VALUE_BYTES);
    runtime.block_on(cluster.put(leader, "bench", &value)).expect("a write");

    let mut group = criterion.benchmark_group("cluster");
    for in_flight in [1_u64, 64] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("write", in_flight), |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(run(count, in_flight, |number| {
                    let put =
                        cluster.http.put(cluster.url(leader, &format!("/v1/kv/bench/{number}")));
                    put.body(value.clone())
                }))
            });
        });
        group.bench_function(BenchmarkId::new("read", in_flight), |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(run(count, in_flight, |_| {
                    cluster.http.get(cluster.url(leader, "/v1/kv/bench"))
                }))
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// Sends `count` requests, `in_flight` at a time; how long that took.
async fn run(
    count: u64,
    in_flight: u64,
    request: impl Fn(u64) -> reqwest::RequestBuilder,
) -> Duration {
    let began = Instant::now();
    let workers = (0..in_flight).map(|worker| {
        let request = &request;
        async move {
            let mut number = worker;
            while number < count {
                let answer = request(number).send().await.expect("an answer");
                assert!(answer.status().is_success(), "{}", answer.status());
                answer.bytes().await.expect("a body");
                number += in_flight;
            }
        }
    });
    futures_util::future::join_all(workers).await;
    began.elapsed()
}
