use super::*;
use crate::api::TxnOp;
use crate::client::{Options, TlsFiles};
use crate::kv::{Over, Test};

/// A transaction of a client whom nobody answers: whatever succeeds has asked nobody.
fn transaction() -> Transaction {
    let options = Options {
        endpoints: vec!["127.0.0.1:1".to_owned()],
        tls: TlsFiles::default(),
        token: None,
        timeout: Duration::from_secs(1),
    };
    Client::new(&options).unwrap().begin()
}

/// What would be sent.
fn request(txn: &Transaction) -> TxnRequest {
    let state = std::mem::take(&mut *txn.shared.state.lock());
    state.into_request(OPERATIONS_MAX).unwrap()
}

#[tokio::test]
async fn nothing_is_asked_for_nothing_and_for_reads_alone() {
    assert_eq!(transaction().commit().await, Ok(None));
    let reads = transaction();
    reads.reads_at(Revision(7)).unwrap();
    reads.shared.state.lock().reads.add(&KeyRange::all());
    // A later answer does not move it.
    reads.reads_at(Revision(9)).unwrap();
    assert_eq!(reads.commit().await, Ok(Some(Revision(7))));
}

#[tokio::test]
async fn what_was_written_is_read_back_without_asking_and_is_no_condition() {
    let txn = transaction();
    txn.put("a", "1").unwrap();
    txn.delete("b").unwrap();
    assert_eq!(txn.get(b"a").await, Ok(Some("1".into())));
    assert_eq!(txn.get(b"b").await, Ok(None));
    assert_eq!(txn.list(&KeyRange::all(), 0).await, Ok(Vec::new()));
    assert!(matches!(txn.get(b"c").await, Err(Error::Unavailable(_))));
    let request = request(&txn);
    assert!(request.compares.is_empty() && request.otherwise.is_empty());
    assert_eq!(request.then.len(), 2);
    assert!(matches!(&request.then[1], TxnOp::Delete { over: Over::Key(key), .. } if key == "b"));
}

#[test]
fn what_was_read_is_a_condition_also_if_it_is_written_later() {
    let txn = transaction();
    txn.reads_at(Revision(7)).unwrap();
    txn.shared.state.lock().reads.add(&KeyRange::key(&"a".into()));
    txn.put("a", "1").unwrap();
    let request = request(&txn);
    assert_eq!(request.compares.len(), 1);
    assert_eq!(request.compares[0].over, Over::Key("a".into()));
    assert_eq!(request.compares[0].test, Test::UnchangedSince(Revision(7)));
}

#[tokio::test]
async fn too_much_is_refused_before_anybody_is_asked() {
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Usage(_))));
    let txn = transaction();
    for number in 0..OPERATIONS_MAX {
        txn.put(number.to_string(), "").unwrap();
    }
    txn.delete("0").unwrap();
    refused(txn.put("one more", ""));
    refused(txn.put("", ""));
    refused(txn.put(vec![b'a'; KEY_BYTES_MAX + 1], ""));
    refused(txn.list(&KeyRange::all(), LIST_ITEMS_MAX + 1).await.map(drop));
    txn.reads_at(Revision(7)).unwrap();
    for number in 0..=OPERATIONS_MAX {
        txn.shared.state.lock().reads.add(&KeyRange::key(&number.to_string().into()));
    }
    refused(txn.commit().await.map(drop));
    let txn = transaction().with_operations_max(1);
    txn.put("a", "").unwrap();
    refused(txn.delete("b"));
}

#[tokio::test]
async fn one_whose_past_is_given_up_or_whose_time_is_up_does_not_commit() {
    let txn = transaction();
    txn.put("a", "1").unwrap();
    let _ = txn.failed(Error::Compacted(String::new()));
    assert!(txn.is_outdated());
    assert!(matches!(txn.commit().await, Err(Error::Compacted(_))));
    let mut txn = transaction();
    txn.put("a", "1").unwrap();
    txn.due = Some(Instant::now());
    assert_eq!(txn.get(b"b").await, Err(out_of_time()));
    assert_eq!(txn.commit().await, Err(out_of_time()));
    let (txn, late) = (transaction(), transaction());
    let late = Transaction { shared: Arc::clone(&txn.shared), ..late };
    assert_eq!(txn.commit().await, Ok(None));
    assert!(matches!(late.put("a", "1"), Err(Error::Usage(_))));
    assert!(matches!(transaction().reads_at(Revision(0)), Err(Error::Failed(_))));
}
