//! `/v1/kv`: listings and range deletes.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::PATIENCE;
use crate::raw::{Answer, Server, read};

fn keys(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = answer.json();
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect()
}

fn names(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| format!("k{number:04}")).collect()
}

/// Puts `k0000`, `k0001`, … in one revision.
fn fill(server: &Server, count: u32) -> u64 {
    let form: Vec<String> =
        (0..count).map(|number| format!("k{number:04}=value{number}")).collect();
    let content_type = ["Content-Type: application/x-www-form-urlencoded"];
    let answer = server.send_body("POST /konsen", &content_type, form.join("&"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.revision()
}

#[tokio::test]
async fn pages_follow_each_other_at_one_revision() {
    let server = Server::start().await;
    let revision = fill(&server, 25);
    for (order, expected) in [("asc", names(0..25)), ("desc", names((0..25).rev()))] {
        let mut page = server.send(&format!("GET /v1/kv?limit=10&prefix=k&order={order}"), &[]);
        let mut listed = keys(&page);
        let at = page.revision();
        assert!(at >= revision);
        let mut pages = 1;
        while let Some(next) = page.json()["next"].as_str().map(str::to_owned) {
            // What happens between two pages does not show.
            server.send_body(&format!("PUT /v1/kv/k0012{order}{pages}"), &[], "new");
            server.send("DELETE /v1/kv/k0024", &[]);
            let link = page.header("link").unwrap().to_owned();
            assert!(link.contains(&format!("cursor={next}")) && link.ends_with("; rel=\"next\""));
            let target = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
            page = server.send(&format!("GET {target}"), &[]);
            assert_eq!((page.json()["revision"].as_u64(), page.revision()), (Some(at), at));
            listed.extend(keys(&page));
            pages += 1;
        }
        assert_eq!(pages, 3);
        assert_eq!(page.header("link"), None);
        assert_eq!(listed, expected);
        fill(&server, 25);
        assert_eq!(server.send("DELETE /v1/kv?start=k0012a&end=k0013", &[]).status, 200);
    }
}

#[tokio::test]
async fn a_listing_shows_what_was_asked_for() {
    let server = Server::start().await;
    let revision = fill(&server, 5);
    server.send_body("PUT /v1/kv/%ff", &[], b"\xfe");
    let list = |query: &str| server.send(&format!("GET /v1/kv?{query}"), &[]);

    let whole = list("prefix=k0001").text().to_owned();
    let expected = format!(
        r#"{{"revision":{},"items":[{{"key":"k0001","value":"value1","create_revision":{revision},"mod_revision":{revision},"version":1}}]}}"#,
        revision + 1
    );
    assert_eq!(whole, expected);
    let only_keys = list("prefix=k0001&keys_only=true").json();
    assert_eq!(only_keys["items"][0].get("value"), None);
    assert_eq!(only_keys["items"][0]["key"], "k0001");

    assert_eq!(keys(&list("start=k0001&end=k0003")), names(1..3));
    assert_eq!(keys(&list("start=k0003&prefix=k")), names(3..5));
    assert_eq!(keys(&list("start=k0003&end=k0001")), names(0..0));
    assert_eq!(keys(&list("prefix=none")), names(0..0));
    let bytes = list("start=l").json();
    assert_eq!(bytes["items"][0]["key_base64"], "/w==");
    assert_eq!(bytes["items"][0]["value_base64"], "/g==");
    assert_eq!(list("prefix=%ff").json()["items"].as_array().unwrap().len(), 1);

    server.send("DELETE /v1/kv/k0002", &[]);
    assert_eq!(keys(&list(&format!("prefix=k&revision={revision}"))), names(0..5));
    list("revision=100000").problem(400, "future-revision");
    let head = server.send("HEAD /v1/kv?prefix=k", &[]);
    let whole = list("prefix=k");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.header("content-length"));

    let cursor = list("limit=1").json()["next"].as_str().unwrap().to_owned();
    for broken in ["x", "", &cursor[1..], &format!("{cursor}A")] {
        list(&format!("cursor={broken}")).problem(400, "invalid-cursor");
    }
    for other in ["order=desc", "revision=1", "keys_only=true", "prefix=k", "start=k", "end=k0003"]
    {
        let refused = list(&format!("cursor={cursor}&{other}")).problem(400, "invalid-parameter");
        let name = other.split('=').next().unwrap();
        assert!(refused.contains(&format!("another {name};")), "{refused}");
    }
}

#[tokio::test]
async fn large_listings_are_cut_into_pages_or_streamed_whole() {
    let server = Server::start().await;
    let revision = fill(&server, 2500);
    // A limit beyond the largest page is "at most".
    let page = server.send("GET /v1/kv?limit=100000", &[]);
    assert_eq!(keys(&page), names(0..1000));
    assert!(page.header("link").is_some());

    let ndjson = ["Accept: application/x-ndjson"];
    let whole = server.send("GET /v1/kv?prefix=k", &ndjson);
    assert_eq!(whole.header("content-type"), Some("application/x-ndjson"));
    // One address with two representations: a cache has to keep them apart.
    for headers in [&ndjson[..], &[]] {
        let answer = server.send("GET /v1/kv?prefix=k", headers);
        assert_eq!(answer.header("vary"), Some("Accept"), "{headers:?}");
    }
    assert_eq!(whole.revision(), revision);
    let items: Vec<Value> =
        whole.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(items.len(), 2500);
    assert_eq!(items[2499]["key"], "k2499");
    assert_eq!(items[2499]["value"], "value2499");
    let some = server.send("GET /v1/kv?limit=1500&order=desc&keys_only", &ndjson);
    assert_eq!(some.text().lines().count(), 1500);
    assert!(some.text().starts_with(r#"{"key":"k2499","create_revision""#));
    assert_eq!(server.send("GET /v1/kv?prefix=none", &ndjson).text(), "");
    assert_eq!(server.send("HEAD /v1/kv", &ndjson).status, 200);
}

#[tokio::test]
async fn a_page_ends_after_four_mebibytes() {
    let server = Server::start().await;
    let value = "v".repeat(1024 * 1024);
    for number in 0..6 {
        assert_eq!(server.send_body(&format!("PUT /v1/kv/big{number}"), &[], &value).status, 201);
    }
    let page = server.send("GET /v1/kv", &[]);
    assert_eq!(keys(&page).len(), 4);
    let rest =
        server.send(&format!("GET /v1/kv?cursor={}", page.json()["next"].as_str().unwrap()), &[]);
    assert_eq!(keys(&rest), ["big4", "big5"]);
    let whole = server.send("GET /v1/kv", &["Accept: application/x-ndjson"]);
    assert_eq!(whole.text().lines().count(), 6);
}

/// All pages of a listing, by their cursors: the keys of each. Beside it others write.
fn walk(server: &Server, query: &str) -> (u64, Vec<Vec<String>>) {
    let mut page = server.send(&format!("GET /v1/kv?{query}"), &[]);
    let revision = page.revision();
    let mut pages = vec![keys(&page)];
    while let Some(next) = page.json()["next"].as_str().map(str::to_owned) {
        assert!(page.header("link").unwrap().contains(&next));
        assert_eq!(server.send("DELETE /v1/kv/k0039", &[]).status, 204);
        assert_eq!(server.send_body("PUT /v1/kv/k0039", &[], "new").status, 201);
        page = server.send(&format!("GET /v1/kv?cursor={next}"), &[]);
        assert_eq!((page.revision(), page.json()["revision"].as_u64()), (revision, Some(revision)));
        pages.push(keys(&page));
    }
    (revision, pages)
}

#[tokio::test]
async fn a_page_ends_where_it_has_looked_at_enough() {
    let server = Server::start_with("limits:\n  listRows: 10\n").await;
    let full = fill(&server, 40);
    assert_eq!(server.send("DELETE /v1/kv?start=k0005&end=k0039", &[]).json()["deleted"], 34);
    let live = || names((0..5).chain(39..40));
    for keys_only in ["", "&keys_only=true"] {
        let (_, up) = walk(&server, &format!("prefix=k{keys_only}"));
        assert_eq!(up, [names(0..5), names(0..0), names(0..0), names(39..40)]);
        let (_, down) = walk(&server, &format!("prefix=k&order=desc{keys_only}"));
        assert_eq!(down, [names(39..40), names(0..0), names(0..0), names((0..5).rev())]);
    }
    // Nothing but what is deleted: nothing in all pages.
    let (_, none) = walk(&server, "start=k0005&end=k0039");
    assert_eq!(none, vec![names(0..0); 4]);
    // What is newer than the revision counts, too.
    let (revision, past) = walk(&server, &format!("prefix=k&revision={full}"));
    assert_eq!((revision, past.concat()), (full, names(0..40)));
    assert!(past.len() > 5, "{past:?}");
    let some = server.send("GET /v1/kv?prefix=k&limit=7", &[]);
    assert_eq!(keys(&some).len(), 5);
    let link = some.header("link").unwrap();
    assert!(link.contains("&limit=7>"), "{link}");

    // Streams, and routes that know of no cursor, go on by themselves.
    let ndjson = ["Accept: application/x-ndjson"];
    for (query, expected) in
        [("prefix=k", live()), ("prefix=k&order=desc", live().into_iter().rev().collect())]
    {
        let stream = server.send(&format!("GET /v1/kv?{query}"), &ndjson);
        let lines = stream.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let listed: Vec<String> =
            lines.map(|item| item["key"].as_str().unwrap().to_owned()).collect();
        assert_eq!(listed, expected);
    }
    assert_eq!(server.send("GET /v1/kv?start=k0005&end=k0039", &ndjson).text(), "");
    assert_eq!(server.send("GET /v1/kv?prefix=k&limit=6", &ndjson).text().lines().count(), 6);
    let original = server.send("GET /api/keys?prefix=k", &[]).json();
    assert_eq!(original["keys"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn a_deletion_of_too_many_keys_is_refused_or_goes_in_steps() {
    let server = Server::start_with("limits:\n  deleteKeys: 10\n").await;
    let revision = fill(&server, 25);
    let refused = server.send("DELETE /v1/kv?prefix=k", &[]);
    assert_eq!(refused.revision(), revision);
    let detail = refused.problem(413, "too-many-keys");
    assert!(detail.contains("10 keys") && detail.contains("atomic=false"), "{detail}");
    assert_eq!(keys(&server.send("GET /v1/kv", &[])).len(), 25);
    let ten = server.send("DELETE /v1/kv?end=k0010", &[]);
    assert_eq!(ten.text(), format!(r#"{{"deleted":10,"revision":{}}}"#, revision + 1));
    fill(&server, 25);
    let all = server.send("DELETE /v1/kv?prefix=k&atomic=false", &[]);
    let expected = format!(r#"{{"deleted":25,"revision":{},"steps":3}}"#, revision + 5);
    assert_eq!((all.status, all.text()), (200, &*expected));
    let none = server.send("DELETE /v1/kv?prefix=k&atomic=false", &[]);
    let expected = format!(r#"{{"deleted":0,"revision":{},"steps":0}}"#, revision + 5);
    assert_eq!(none.text(), expected);
}

#[tokio::test]
async fn a_step_of_a_deletion_is_small_whatever_one_revision_may_delete() {
    let server = Server::start().await;
    let revision = fill(&server, 2500);
    let all = server.send("DELETE /v1/kv?prefix=k&atomic=false", &[]);
    let expected = format!(r#"{{"deleted":2500,"revision":{},"steps":3}}"#, revision + 3);
    assert_eq!((all.status, all.text()), (200, &*expected));
    fill(&server, 2500);
    let at_once = server.send("DELETE /v1/kv?prefix=k", &[]);
    assert_eq!(at_once.json()["deleted"], 2500);
}

/// Begins a deletion that takes long, and waits until it is under way.
async fn begin_long_deletion(server: &Server) -> TcpStream {
    let revision = fill(server, 10_000);
    let mut client = server.connect();
    let request = "DELETE /v1/kv?prefix=k&atomic=false HTTP/1.1\r\nHost: localhost\r\nKonsen-Timeout: 5m\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    while server.send("GET /v1/status", &[]).revision() < revision + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client
}

/// Together they take no more of the cluster than one.
#[tokio::test]
async fn deletions_in_steps_take_turns() {
    const KEYS: usize = 20;
    let server = Server::start_with("limits:\n  deleteKeys: 1\n").await;
    let prefixes = ["a", "b", "c", "d"];
    for prefix in prefixes {
        for key in 0..KEYS {
            server.send_body(&format!("PUT /v1/kv/{prefix}{key:02}"), &[], b"x");
        }
    }
    let begun: Vec<TcpStream> = prefixes
        .iter()
        .map(|prefix| {
            let mut client = server.connect();
            let request = format!(
                "DELETE /v1/kv?prefix={prefix}&atomic=false HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            );
            client.write_all(request.as_bytes()).unwrap();
            client
        })
        .collect();
    let mut last = 0;
    for mut client in begun {
        let answer = read(&mut client).json();
        assert_eq!((&answer["deleted"], &answer["steps"]), (&KEYS.into(), &KEYS.into()));
        last = last.max(answer["revision"].as_u64().unwrap());
    }
    let left = |revision: u64| {
        let line = format!("GET /v1/kv?revision={revision}&keys_only=true");
        let keys = keys(&server.send(&line, &[]));
        prefixes.map(|prefix| keys.iter().filter(|key| key.starts_with(prefix)).count())
    };
    let first = last - (KEYS * prefixes.len()) as u64;
    // Once all have begun, and before the first ends, nobody takes a step more than another.
    let all_begun = |left: &[usize; 4]| left.iter().all(|left| (1..KEYS).contains(left));
    let mut window = (first..last).map(left).filter(all_begun);
    let begin = window.next().expect("a time at which all are under way");
    let mut seen = 0;
    for left in window {
        let steps: Vec<usize> = begin.iter().zip(&left).map(|(before, now)| before - now).collect();
        let ahead = steps.iter().max().unwrap() - steps.iter().min().unwrap();
        assert!(ahead <= 1, "{begin:?}, then {left:?}");
        seen += 1;
    }
    assert!(seen > KEYS, "they went one after the other");
}

#[tokio::test]
async fn no_step_of_a_deletion_follows_once_the_client_has_gone() {
    let server = Server::start_with("limits:\n  deleteKeys: 1\n").await;
    drop(begin_long_deletion(&server).await);
    let end = Instant::now() + PATIENCE;
    let mut before = 0;
    loop {
        let revision = server.send("GET /v1/status", &[]).revision();
        if revision == before {
            break;
        }
        assert!(Instant::now() < end, "steps go on");
        before = revision;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!keys(&server.send("GET /v1/kv?prefix=k&limit=1", &[])).is_empty());
}

#[tokio::test]
async fn a_shutdown_ends_a_deletion_between_two_steps() {
    let server = Server::start_with("limits:\n  deleteKeys: 1\n").await;
    let mut client = begin_long_deletion(&server).await;
    server.cluster.nodes[0].signal("TERM");
    let answer = read(&mut client);
    let problem = answer.json();
    assert_eq!((answer.status, problem["outcome"].as_str()), (503, Some("unknown")), "{answer:?}");
    assert_eq!(problem["type"], "urn:konsen:problem:shutting-down");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("keys were deleted before, in "), "{detail}");
}

#[tokio::test]
async fn ranges_are_deleted_in_one_revision() {
    let server = Server::start().await;
    let revision = fill(&server, 10);
    let deleted = server.send("DELETE /v1/kv?prefix=k000&start=k0002&end=k0005", &[]);
    assert_eq!(deleted.text(), format!(r#"{{"deleted":3,"revision":{}}}"#, revision + 1));
    assert_eq!(deleted.revision(), revision + 1);
    let none = server.send("DELETE /v1/kv?prefix=none", &[]);
    assert_eq!(none.text(), format!(r#"{{"deleted":0,"revision":{}}}"#, revision + 1));
    for line in ["DELETE /v1/kv", "DELETE /v1/kv?prefix=", "DELETE /v1/kv?start="] {
        let detail = server.send(line, &[]).problem(400, "invalid-parameter");
        assert!(detail.contains("start=%00"), "{detail}");
    }
    let open = server.send("DELETE /v1/kv?start=k0001&end=", &[]);
    assert!(open.problem(400, "invalid-parameter").contains("end is empty"));
    assert_eq!(keys(&server.send("GET /v1/kv?start=k0008&end=", &[])), names(8..10));
    assert_eq!(keys(&server.send("GET /v1/kv", &[])).len(), 7);
    assert_eq!(server.send("DELETE /v1/kv?start=%00", &[]).json()["deleted"], 7);
    assert_eq!(keys(&server.send("GET /v1/kv", &[])).len(), 0);
}
