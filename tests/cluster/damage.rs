//! Files that changed while nobody looked: the node says what and where, and takes no part.

use std::fs;
use std::path::Path;

use crate::harness::Cluster;

/// Flips a bit in the middle of every place where `needle` stands in the file.
fn damage(file: &Path, needle: &str) {
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<usize> =
        (0..bytes.len()).filter(|&at| bytes[at..].starts_with(needle.as_bytes())).collect();
    assert!(!places.is_empty(), "{needle} is not in {}", file.display());
    for at in places {
        bytes[at + needle.len() / 2] ^= 1;
    }
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_file_is_damaged_says_so_and_the_others_serve() {
    for file in ["log.wal", "state.redb"] {
        let mut cluster = Cluster::start(3).await;
        cluster.put(0, "key", "a-value-to-be-found").await.unwrap();
        cluster.wait_ready_all().await;
        assert_eq!(cluster.nodes[1].terminate().code(), Some(0));
        let path = cluster.nodes[1].home.join("data").join(file);
        damage(&path, "a-value-to-be-found");
        let from = cluster.nodes[1].log().len();
        cluster.nodes[1].start();
        assert_eq!(cluster.nodes[1].wait().code(), Some(1));
        let said = cluster.nodes[1].log()[from..].to_owned();
        let told: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(told.len(), 1, "not one clear line:\n{said}");
        assert!(told[0].contains(&format!("data/{file}: ")), "{said}");
        assert!(said.contains("\nhint: ") && said.contains("member replace node2"), "{said}");
        eprintln!("{said}");
        assert_eq!(
            cluster.get(0, "key").await.unwrap().as_deref(),
            Some("a-value-to-be-found"),
            "{}",
            cluster.logs()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_nobody_reads_is_found_while_the_node_serves() {
    let mut cluster = Cluster::start(1).await;
    for key in 0..200 {
        cluster
            .put(0, &format!("key {key}"), &"a value that takes room ".repeat(40))
            .await
            .unwrap();
    }
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    let path = cluster.nodes[0].home.join("data/state.redb");
    let mut bytes = fs::read(&path).unwrap();
    // How many rows there are, in each page with such values: also in those that nothing of is in use any more.
    let needle = b"a value that takes room ";
    let pages: Vec<usize> = (0..bytes.len())
        .step_by(4096)
        .filter(|&page| bytes[page..page + 4096].windows(needle.len()).any(|part| part == needle))
        .collect();
    pages.iter().for_each(|page| bytes[page + 2] ^= 1);
    fs::write(&path, bytes).unwrap();
    let from = cluster.nodes[0].log().len();
    cluster.nodes[0].start();
    assert_eq!(cluster.nodes[0].wait().code(), Some(1));
    let said = cluster.nodes[0].log()[from..].to_owned();
    let told: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(told.len(), 1, "not one clear line:\n{said}");
    let named = |page: &usize| told[0].contains(&format!("the page at byte {page} of "));
    assert!(pages.iter().any(named), "{said}");
    assert!(told[0].contains("data/state.redb") && said.contains("\nhint: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_is_not_told_to_ask_the_others() {
    let mut cluster = Cluster::start(1).await;
    cluster.put(0, "key", "a-value-to-be-found").await.unwrap();
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    damage(&cluster.nodes[0].home.join("data/log.wal"), "a-value-to-be-found");
    cluster.nodes[0].start();
    assert_eq!(cluster.nodes[0].wait().code(), Some(1));
    let said = cluster.nodes[0].log();
    assert!(
        said.contains("hint: no other node has") && said.contains("snapshot restore"),
        "{said}"
    );
    assert!(!said.contains("member replace"), "{said}");
}
