//! The binary starts in the data directories that `tests/formats` has recorded.

#[path = "../formats/hex.rs"]
mod hex;
#[path = "../formats/recorded.rs"]
mod recorded;

use crate::harness::{Cluster, client_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_data_directory_is_served() {
    for folder in recorded::all() {
        let mut cluster = Cluster::build(1, "");
        // Clusters of which nobody is asked who they are do not look at it.
        cluster.http = client_with(recorded::TOKEN);
        recorded::unpack(&folder, &cluster.nodes[0].home.join("data"));
        for start in 0..2 {
            cluster.nodes[0].start();
            cluster.wait_ready(0).await;
            let plain = if start == 0 { "third" } else { "new" };
            assert_eq!(cluster.get(0, "plain").await, Ok(Some(plain.to_owned())));
            assert_eq!(cluster.get(0, "tail").await, Ok(Some("undecided".to_owned())));
            assert_eq!(cluster.get(0, "typed").await, Ok(None));
            assert_eq!(cluster.put(0, "plain", "new").await.unwrap(), 204);
            assert!(cluster.nodes[0].terminate().success(), "{}", cluster.logs());
        }
    }
}
