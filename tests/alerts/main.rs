//! Each alert of conf/alerts.yml on clusters that it is about, by a real Prometheus, and none on a cluster that is well. What
//! they do over hours is a matter of ci/alerts.yml.
//!
//! Times are a sixtieth of what the file says, and thresholds are as they stand there (`rules.rs`). Where there is no
//! Prometheus nothing is tested, but in CI; without root no disk is filled or frozen, which is said.

#![allow(clippy::unwrap_used)]

mod dashboard;
#[allow(dead_code)]
#[path = "../cluster/disks.rs"]
mod disks;
#[allow(dead_code)]
#[path = "../cluster/harness.rs"]
mod harness;
mod prometheus;
mod rules;
mod scenes;

use std::collections::BTreeSet;

use prometheus::{Labels, Prometheus};
use scenes::{Members, Room, Slow, Well, instance};

const RULES: &str = include_str!("../../conf/alerts.yml");

/// What fired at any time since the start, by alert and instance.
async fn fired(prometheus: &Prometheus) -> BTreeSet<(String, String)> {
    let ever =
        "count by (alertname, instance) (count_over_time(ALERTS{alertstate=\"firing\"}[1h]))";
    let series = prometheus.query(ever).await.unwrap();
    let of = |labels: &Labels, name: &str| labels.get(name).cloned().unwrap_or_default();
    series.iter().map(|(labels, _)| (of(labels, "alertname"), of(labels, "instance"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_where_it_should_and_none_where_all_is_well() {
    let Some(program) = prometheus::program() else {
        eprintln!("skipped: prometheus is not in the PATH (ci/prometheus)");
        return;
    };
    let (well, members, room, slow) =
        tokio::join!(Well::start(), Members::start(), Room::start(), Slow::start());
    let clusters = [Some(&well.cluster), Some(&members.cluster)].into_iter();
    let others = [room.as_ref().map(|room| &room.cluster), slow.as_ref().map(|one| &one.cluster)];
    let nodes = clusters.chain(others).flatten().flat_map(|cluster| &cluster.nodes);
    let targets: Vec<String> = nodes.map(instance).collect();
    let prometheus = Prometheus::start(&program, &rules::shortened(RULES), &targets).await;

    let mut seen = BTreeSet::new();
    let certificates = members.certificates(&prometheus).await;
    seen.extend(certificates);
    // Nothing else has happened yet.
    let early = fired(&prometheus).await;
    let unforeseen = early.iter().find(|(alert, _)| !certificates.contains(&alert.as_str()));
    assert_eq!(unforeseen, None);

    let all = rules::names(RULES);
    let complete = room.is_some() && slow.is_some();
    let of_room = async {
        match room {
            Some(room) => room.run(&prometheus).await,
            None => &[],
        }
    };
    let of_slow = async {
        match slow {
            Some(slow) => slow.run(&prometheus).await,
            None => &[],
        }
    };
    let scenes = async { tokio::join!(members.run(&prometheus), of_room, of_slow) };
    let scenes = tokio::select! {
        scenes = scenes => scenes,
        () = well.use_it() => unreachable!("it never ends"),
    };
    for alerts in [scenes.0, scenes.1, scenes.2] {
        seen.extend(alerts);
    }
    if complete {
        assert_eq!(seen, all.iter().copied().collect(), "each has a scene");
    }

    let fired = fired(&prometheus).await;
    let alerts: BTreeSet<&str> = fired.iter().map(|(alert, _)| alert.as_str()).collect();
    assert!(alerts.is_superset(&seen), "{fired:?}");
    let amiss: Vec<_> = fired.iter().filter(|(alert, at)| well.is_amiss(alert, at)).collect();
    assert!(amiss.is_empty(), "{amiss:?}\n{}", well.cluster.logs());
    dashboard::check(&prometheus).await;
}
