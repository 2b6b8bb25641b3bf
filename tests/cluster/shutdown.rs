//! Stopping and starting again.

use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn every_node_ends_with_status_0_and_all_data_is_there_again() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..50 {
        let status = cluster.put(number % 3, &format!("key{number}"), &number.to_string()).await;
        assert_eq!(status.unwrap(), 201);
    }
    for node in &mut cluster.nodes {
        assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready_all().await;
    for number in 0..50 {
        let value = cluster.get((number + 1) % 3, &format!("key{number}")).await.unwrap();
        assert_eq!(value, Some(number.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_leader_hands_over_first() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    assert_eq!(cluster.nodes[leader].terminate().code(), Some(0));
    assert!(cluster.nodes[leader].log().contains("leadership handed over"), "{}", cluster.logs());
    let other = (leader + 1) % 3;
    cluster.wait_ready(other).await;
    assert_eq!(cluster.put(other, "after", "yes").await.unwrap(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_works_too() {
    let mut cluster = Cluster::start(1).await;
    assert_eq!(cluster.put(0, "alone", "yes").await.unwrap(), 201);
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    assert_eq!(cluster.get(0, "alone").await.unwrap().as_deref(), Some("yes"));
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_comes_into_use_at_sighup() {
    let cluster = Cluster::start(3).await;
    let renewed = crate::harness::konsen()
        .current_dir(cluster.dir.path())
        .args(["cluster", "build", "--config", "cluster.yml", "--out", "output", "--force"])
        .output()
        .unwrap();
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    for node in &cluster.nodes {
        node.signal("HUP");
    }
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    for node in &cluster.nodes {
        while !node.log().contains("new certificates are in use") {
            assert!(std::time::Instant::now() < deadline, "the old one stays\n{}", cluster.logs());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert_eq!(cluster.put(0, "after", "renewal").await.unwrap(), 201);
}
