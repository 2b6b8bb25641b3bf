//! A node of one, in this process.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::*;
use crate::api::{
    Caller, ChangeError, Consistency, Error, Found, Freshness, Get, Got, List, MemberChange,
    SeeStatus,
};
use crate::kv::{Asks, KeyRange, Matcher, Page, RangeQuery, Revision, Write};
use crate::pki::{Authority, Overwrite, PeerIdentity, Role, issue_authority, write_pair};
use crate::raft::{LogId, Term};
use crate::replica::Origin;
use crate::replica::forwarding::Fate;
use crate::server::allowed::Allowed;
use crate::server::peer::at_leader::Leader;
use crate::server::run::event::{Asker, Control, Request};
use crate::server::run::mailbox::NotTaken;
use crate::server::wire::{self, PeerAnswer, PeerRead, PeerReply};

async fn start(home: &std::path::Path) -> Server {
    let text = "servers: {a: '127.0.0.1:1'}\nhttpServers: {a: '127.0.0.1:2'}\nlocalServerName: a\n";
    let file = home.join("cluster.yml");
    let mut config = Config::parse(&file, text, None).unwrap();
    config.data = home.join("data");
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let (cluster, name) = (config.cluster.clone(), config.name.to_string().parse().unwrap());
    let (ca, ca_key) = (home.join("ca.crt"), home.join("ca.key"));
    let issued = issue_authority(&cluster, 1).unwrap();
    write_pair((&ca, &issued.certificate), (&ca_key, &issued.key), Overwrite::Never).unwrap();
    let identity = PeerIdentity { cluster, role: Role::Node, name };
    let issued = Authority::load(&ca, &ca_key).unwrap().issue(&identity, &[], 1).unwrap();
    let (cert, key) = (home.join("a.crt"), home.join("a.key"));
    write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Never).unwrap();
    (config.tls.ca, config.tls.cert, config.tls.key) = (ca, cert, key);
    let server = Server::start(Arc::new(config)).await.unwrap();
    server.handle().write(anybodys(&server.handle(), put()), soon()).await.unwrap();
    server
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn anybodys<T: Asks>(handle: &Handle, request: T) -> Allowed<T> {
    handle.allow(&Caller::Anybody, request).unwrap()
}

fn put() -> Write {
    Write::put(Bytes::from_static(b"key"), Bytes::from_static(b"value"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_mailbox_full_of_writes_it_answers_health_checks_and_offers_of_snapshots() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path()).await;
    let (handle, mailbox) = (server.handle(), server.mailbox.clone());
    let done = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let (mailbox, done) = (mailbox.clone(), done.clone());
        move || {
            let mut full = 0;
            while !done.load(Ordering::Relaxed) {
                let request = Request::Write {
                    write: put(),
                    origin: Origin::default(),
                    from: Asker::Client,
                    reply: oneshot::channel().0,
                };
                full += u64::from(mailbox.try_send(request) == Err(NotTaken::Full));
            }
            full
        }
    });
    for _ in 0..20 {
        assert_eq!(handle.healthy().await, Ok(()));
        let (reply, wanted) = oneshot::channel();
        let (from, term, last) = (handle.id(), Term(1), LogId::ZERO);
        mailbox.try_send_control(Control::OfferSnapshot { from, term, last, reply }).unwrap();
        let wanted = tokio::time::timeout(Duration::from_secs(20), wanted).await;
        assert_eq!(wanted, Ok(Ok(false)), "it has all of it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 0, "the places were taken");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_ended_is_shutting_down_and_not_busy() {
    let home = tempfile::tempdir().unwrap();
    let mut server = start(home.path()).await;
    let handle = server.handle();
    assert_eq!(handle.healthy().await, Ok(()));
    handle.damaged(StoreError::panicked("state"));
    match server.ended().await {
        Ending::Failed(Some(StoreError::Damaged { what: "state", .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(handle.write(anybodys(&handle, put()), soon()).await, Err(Error::ShuttingDown));
    let read = handle.read_barrier(Consistency::Linearizable, None, soon());
    assert_eq!(read.await, Err(Error::ShuttingDown));
    let change = handle.change(anybodys(&handle, MemberChange::Undo), false, soon()).await;
    assert_eq!(change.unwrap_err(), ChangeError::Failed(Error::ShuttingDown));
    let why = handle.healthy().await.unwrap_err();
    assert!(why.contains("shutting down"), "{why}");
    assert!(handle.status(&anybodys(&handle, SeeStatus)).await.is_none() && handle.is_stopping());
    // A peer tries whoever leads next.
    assert_eq!(
        handle.write_here(put(), Origin::default(), Asker::Client, soon()).await,
        Err(Fate::Again)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_peer_forwards_is_answered_as_what_it_means() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path()).await;
    let handle = server.handle();
    let answer = async |read| match wire::decode(
        &handle.answer_read(&Caller::Anybody, read, soon()).await,
    ) {
        Some(PeerReply::Read(Some(answer))) => answer,
        other => panic!("{other:?}"),
    };
    let get = |key, at, unless| {
        let freshness = Freshness { at, ..Freshness::default() };
        PeerRead::Get(Get { key: Bytes::from_static(key), freshness, unless })
    };
    let Ok(PeerAnswer::Got(Got { revision, found: Found::Item(item) })) =
        answer(get(b"key", None, None)).await
    else {
        panic!("it is there")
    };
    assert_eq!((&item.value[..], item.mod_revision), (&b"value"[..], revision));
    let found = |found| Ok(PeerAnswer::Got(Got { revision, found }));
    let same = Some(Matcher::Revisions(vec![revision]));
    assert_eq!(answer(get(b"key", None, same.clone())).await, found(Found::Unchanged(revision)));
    assert_eq!(answer(get(b"other", None, same)).await, found(Found::Absent));
    assert_eq!(answer(get(b"key", Some(revision), None)).await, found(Found::Item(item.clone())));
    let later = Revision(revision.0 + 1);
    let future = Err(Error::Future { asked: later, newest: revision });
    assert_eq!(answer(get(b"key", Some(later), None)).await, future);
    // More than a page is no peer's to ask for.
    let query = RangeQuery {
        range: KeyRange::all(),
        at: None,
        descending: false,
        keys_only: false,
        items_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let list = List { query, consistency: Consistency::Stale, min_revision: None };
    let page = Page { revision, items: vec![item], rest: None };
    assert_eq!(answer(PeerRead::List(list)).await, Ok(PeerAnswer::Page(page)));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_that_was_tried_comes_again_after_a_moment_and_not_after_the_deadline() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path()).await;
    let handle = server.handle();
    let mut leaders = handle.leaders(soon());
    assert_eq!(leaders.next().await, Ok(Leader::Here));
    let tried = Instant::now();
    assert_eq!(leaders.next_at_once().await, Ok(Leader::Here));
    assert_eq!(leaders.next().await, Ok(Leader::Here));
    assert!(tried.elapsed() >= Duration::from_millis(20));
    let mut late = handle.leaders(Instant::now());
    assert_eq!(late.next().await, Ok(Leader::Here));
    assert_eq!(late.next().await, Err(Error::NoLeader));
    server.stop().await.unwrap();
    assert_eq!(handle.leaders(soon()).next().await, Err(Error::ShuttingDown));
}
