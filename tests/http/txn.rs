//! `POST /v1/txn`.

use serde_json::{Value, json};

use crate::harness::Cluster;
use crate::raw::{Answer, Server};

fn send(server: &Server, body: &Value) -> Answer {
    server.send_body("POST /v1/txn", &[], body.to_string())
}

/// The answer to a transaction that is carried out.
#[track_caller]
fn carry_out(server: &Server, body: &Value) -> Value {
    let answer = send(server, body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    assert_eq!(json["revision"], answer.revision());
    json
}

fn put(server: &Server, key: &str, value: &str) -> u64 {
    server.send_body(&format!("PUT /v1/kv/{key}"), &[], value).revision()
}

/// The keys or the values of a result's items.
fn all<'a>(result: &'a Value, what: &str) -> Vec<&'a str> {
    let items = result["items"].as_array().or(result["previous"].as_array()).unwrap();
    items.iter().map(|item| item[what].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_compare_chooses_its_branch() {
    let server = Server::start().await;
    let created = put(&server, "k/a", "m");
    let changed = put(&server, "k/a", "n");
    put(&server, "k/b", "n");
    let newest = put(&server, "gone", "x");
    let deleted = server.send("DELETE /v1/kv/gone", &[]).revision();
    assert_eq!(deleted, newest + 1);
    let a = |compare: &str, op: &str, to: Value| json!({"key": "k/a", "compare": compare, "op": op, "to": to});
    let of = |over: &str, name: &str, compare: &str, op: &str, to: Value| json!({over: name, "compare": compare, "op": op, "to": to});
    let unchanged = |over: &str, name: &str, to: u64| json!({over: name, "compare": "unchanged_since", "to": to});
    for (compare, holds) in [
        (a("value", "==", json!("n")), true),
        (a("value", "!=", json!("n")), false),
        (a("value", "<", json!("o")), true),
        (a("value", ">=", json!("o")), false),
        (a("version", "==", json!(2)), true),
        (a("version", ">", json!(2)), false),
        (a("create_revision", "==", json!(created)), true),
        (a("create_revision", "<", json!(created)), false),
        (a("mod_revision", "<=", json!(changed)), true),
        (a("mod_revision", "!=", json!(changed)), false),
        (a("lease", "==", json!("0")), true),
        (a("lease", ">", json!(0)), false),
        (a("exists", "==", json!(true)), true),
        (a("exists", "!=", json!(true)), false),
        // What does not exist has the numbers 0, and no value.
        (of("key", "none", "version", "==", json!(0)), true),
        (of("key", "gone", "mod_revision", "==", json!(0)), true),
        (of("key", "none", "value", "==", json!("")), false),
        (of("key", "none", "value", "!=", json!("x")), false),
        (of("key", "none", "exists", "==", json!(false)), true),
        // Of a range for every key of it, and so for none.
        (of("prefix", "k/", "value", "==", json!("n")), true),
        (of("prefix", "k/", "version", "==", json!(1)), false),
        (of("prefix", "none", "value", "==", json!("")), true),
        (of("start", "k/b", "version", "==", json!(1)), true),
        (unchanged("key", "k/a", changed), true),
        (unchanged("key", "k/a", created), false),
        (unchanged("prefix", "k/", changed), false),
        (unchanged("prefix", "k/", changed + 1), true),
        (unchanged("key", "gone", newest), false),
        (unchanged("prefix", "g", newest), false),
        (unchanged("prefix", "g", deleted), true),
        (unchanged("key", "none", created), true),
    ] {
        // One that only reads is carried out by this node, one that writes by the log: both say the same.
        let reads = json!({"if": [compare], "then": [], "else": [{"get": {"key": "none"}}]});
        let answer = carry_out(&server, &reads);
        assert_eq!(answer["succeeded"], holds, "{compare}");
        assert_eq!(answer["results"].as_array().unwrap().is_empty(), holds);
        let writes = json!({"if": [compare], "then": [{"delete": {"key": "none"}}], "else": []});
        let answer = carry_out(&server, &writes);
        assert_eq!(
            (&answer["succeeded"], &answer["revision"]),
            (&json!(holds), &json!(deleted)),
            "{compare}"
        );
    }
    // All of them have to hold.
    let both = json!([a("version", "==", json!(2)), a("version", "==", json!(3))]);
    assert_eq!(carry_out(&server, &json!({"if": both, "else": []}))["succeeded"], false);
    assert_eq!(carry_out(&server, &json!({}))["succeeded"], true);
}

#[tokio::test]
async fn all_of_it_is_one_revision_and_operations_see_those_before_them() {
    let server = Server::start().await;
    let before = put(&server, "a", "old");
    server.send_body("PUT /v1/kv/b", &["Content-Type: text/x-mine"], "kept");
    let newest = put(&server, "c", "gone");
    let answer = carry_out(
        &server,
        &json!({"then": [
            {"get": {"prefix": ""}},
            {"put": {"key": "a", "value": "new", "previous": true}},
            {"put": {"key": "b", "keep_value": true, "keep_lease": true, "previous": true}},
            {"put": {"key_base64": "/w==", "value_base64": "/g==", "content_type": "a/b", "previous": true}},
            {"get": {"key": "a"}},
            {"delete": {"prefix": "c", "previous": true}},
            {"delete": {"prefix": "c", "previous": true}},
            {"delete": {"key": "none"}},
            {"get": {"start": "a", "keys_only": true}},
            {"get": {"key": "c"}},
            {"get": {"prefix": "", "limit": 2}},
        ]}),
    );
    let revision = newest + 1;
    assert_eq!((&answer["succeeded"], &answer["revision"]), (&json!(true), &json!(revision)));
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 11);
    assert_eq!(all(&results[0]["get"], "value"), ["old", "kept", "gone"]);
    let old = json!({"key": "a", "value": "old", "create_revision": before, "mod_revision": before, "version": 1});
    assert_eq!(results[1], json!({"put": {"revision": revision, "previous": old}}));
    assert_eq!(results[2]["put"]["previous"]["content_type"], "text/x-mine");
    assert_eq!(results[3], json!({"put": {"revision": revision}}));
    let new = json!({"key": "a", "value": "new", "create_revision": before, "mod_revision": revision, "version": 2});
    assert_eq!(results[4], json!({"get": {"items": [new]}}));
    assert_eq!(results[5]["delete"]["deleted"], 1);
    assert_eq!(all(&results[5]["delete"], "value"), ["gone"]);
    assert_eq!(results[6], json!({"delete": {"deleted": 0, "previous": []}}));
    assert_eq!(results[7], json!({"delete": {"deleted": 0}}));
    let keys = results[8]["get"]["items"].as_array().unwrap();
    assert_eq!(
        (keys.len(), &keys[0]["key"], &keys[2]["key_base64"]),
        (3, &json!("a"), &json!("/w=="))
    );
    assert!(keys.iter().all(|item| item["value"].is_null() && item["value_base64"].is_null()));
    assert_eq!(results[9], json!({"get": {"items": []}}));
    assert_eq!(
        (all(&results[10]["get"], "value"), &results[10]["get"]["more"]),
        (vec!["new", "kept"], &json!(true))
    );
    let kept = server.send("GET /v1/kv/b", &[]);
    assert_eq!((kept.text(), kept.header("content-type")), ("kept", Some("text/x-mine")));
    assert_eq!(kept.etag(), format!("\"{revision}\""));
    assert_eq!(server.send("GET /v1/kv/%ff", &[]).body, b"\xfe");
    // Whatever changed nothing is no revision.
    let nothing = json!({"then": [{"delete": {"key": "none"}}, {"get": {"prefix": "a"}}, {"delete": {"prefix": "x", "previous": true}}]});
    let answer = carry_out(&server, &nothing);
    assert_eq!(answer["revision"], revision);
    assert_eq!(all(&answer["results"][1]["get"], "value"), ["new"]);
}

#[tokio::test]
async fn transactions_inside_of_one_are_part_of_it() {
    let server = Server::start().await;
    let newest = put(&server, "a", "1");
    let nested = |then: Value| json!({"txn": {"if": [{"key": "a", "compare": "value", "to": "1"}], "then": then, "else": [{"get": {"key": "a"}}]}});
    // Compares see the state before, wherever they are; side by side one key may be changed twice.
    let answer = carry_out(
        &server,
        &json!({"then": [
            nested(json!([{"delete": {"prefix": "a", "previous": true}}])),
            {"get": {"prefix": "a"}},
            nested(json!([{"put": {"key": "a", "value": "2", "previous": true}}, nested(json!([{"get": {"key": "a"}}]))])),
            nested(json!([{"delete": {"key": "a", "previous": true}}])),
            nested(json!([{"put": {"key": "a", "value": "3", "previous": true}}])),
            {"txn": {"if": [{"key": "a", "compare": "value", "to": "3"}], "else": [{"get": {"prefix": "a"}}]}},
        ]}),
    );
    let revision = newest + 1;
    let results = &answer["results"];
    assert_eq!(answer["revision"], revision);
    let inside = |at: usize| &results[at]["txn"]["results"];
    assert_eq!(all(&inside(0)[0]["delete"], "value"), ["1"]);
    assert_eq!(results[1], json!({"get": {"items": []}}));
    // It was deleted before, in the same revision.
    assert_eq!(inside(2)[0], json!({"put": {"revision": revision}}));
    let deepest = &inside(2)[1]["txn"];
    assert_eq!(deepest["succeeded"], true);
    assert_eq!(all(&deepest["results"][0]["get"], "value"), ["2"]);
    assert_eq!(all(&inside(3)[0]["delete"], "value"), ["2"]);
    assert_eq!(inside(4)[0], json!({"put": {"revision": revision}}));
    assert_eq!(results[5]["txn"]["succeeded"], false);
    assert_eq!(all(&inside(5)[0]["get"], "value"), ["3"]);
    let now = server.send("GET /v1/kv/a", &["Accept: application/json"]).json();
    let item = json!({"key": "a", "value": "3", "create_revision": revision, "mod_revision": revision, "version": 1});
    assert_eq!(now, item);
    assert_eq!(server.send(&format!("GET /v1/kv/a?revision={newest}"), &[]).text(), "1");
}

#[tokio::test]
async fn what_only_reads_writes_no_entry() {
    let server = Server::start().await;
    put(&server, "a", "1");
    let revision = put(&server, "a", "2");
    let status = || server.send("GET /v1/status", &[]).json();
    let before = status();
    for _ in 0..20 {
        let answer = carry_out(
            &server,
            &json!({"if": [{"prefix": "a", "compare": "value", "to": "2"}],
                "then": [{"get": {"key": "a"}}, {"get": {"prefix": ""}}, {"txn": {"then": [{"get": {"key": "b"}}]}}],
                "else": [{"get": {"key": "a"}}]}),
        );
        assert_eq!(answer["revision"], revision);
        assert_eq!(all(&answer["results"][1]["get"], "value"), ["2"]);
        assert_eq!(answer["results"][2]["txn"]["results"][0], json!({"get": {"items": []}}));
    }
    assert_eq!(status()["last_index"], before["last_index"]);
    carry_out(&server, &json!({"then": [{"delete": {"key": "none"}}]}));
    assert_ne!(status()["last_index"], before["last_index"]);
}

#[tokio::test]
async fn an_answer_holds_so_much_and_says_where_there_is_more() {
    let server = Server::start().await;
    for part in 0..11 {
        let ops: Vec<Value> = (0..100)
            .map(|number| json!({"put": {"key": format!("k{:04}", 100 * part + number), "value": "x"}}))
            .collect();
        carry_out(&server, &json!({ "then": ops }));
    }
    let reads = json!([{"get": {"prefix": "k"}}, {"get": {"prefix": "k", "limit": 5000}}, {"get": {"start": "k0100"}}]);
    let results = carry_out(&server, &json!({ "then": reads }))["results"].clone();
    assert_eq!(all(&results[0]["get"], "key").len(), 1000);
    assert_eq!(all(&results[1]["get"], "key").len(), 1000);
    assert_eq!(
        (&results[0]["get"]["more"], &results[1]["get"]["more"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(all(&results[2]["get"], "key").len(), 1000);
    assert_eq!(results[2]["get"].get("more"), None);
    let deleted =
        carry_out(&server, &json!({"then": [{"delete": {"prefix": "k", "previous": true}}]}));
    let deleted = &deleted["results"][0]["delete"];
    assert_eq!(
        (&deleted["deleted"], all(deleted, "key").len(), &deleted["more"]),
        (&json!(1100), 1000, &json!(true))
    );

    let large = "v".repeat(1_000_000);
    for number in 0..6 {
        put(&server, &format!("l{number}"), &large);
    }
    let reads = json!([{"get": {"key": "l0", "keys_only": true}}, {"get": {"prefix": "l"}}, {"get": {"key": "l0"}}, {"get": {"key": "none"}}]);
    for write in [json!([]), json!([{"put": {"key": "x", "value": "1"}}])] {
        let mut ops = write.as_array().unwrap().clone();
        let skipped = ops.len();
        ops.extend(reads.as_array().unwrap().clone());
        let results = carry_out(&server, &json!({ "then": ops }))["results"].clone();
        let results = &results.as_array().unwrap()[skipped..];
        assert_eq!(all(&results[0]["get"], "key"), ["l0"]);
        assert_eq!(all(&results[1]["get"], "key").len(), 5, "with the one that makes it full");
        assert_eq!(results[1]["get"]["more"], true);
        assert_eq!(results[2], json!({"get": {"items": [], "more": true}}));
        assert_eq!(results[3], json!({"get": {"items": []}}));
    }
    let puts: Vec<Value> = (0..6)
        .map(|number| json!({"put": {"key": format!("l{number}"), "value": "", "previous": true}}))
        .collect();
    let answer = carry_out(&server, &json!({ "then": puts }));
    let answered: Vec<bool> =
        (0..6).map(|at| answer["results"][at]["put"]["previous"].is_object()).collect();
    assert_eq!(answered, [true, true, true, true, true, false]);
    assert_eq!(answer["results"][5]["put"]["more"], true);
    assert_eq!(answer.get("unread"), None);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let server = Server::start_with("limits:\n  deleteKeys: 10\n  value: 1KiB\n").await;
    let oldest = put(&server, "a", "1");
    for number in 0..11 {
        put(&server, &format!("k{number:02}"), "x");
    }
    let newest = put(&server, "a", "2");
    assert_eq!(
        server.send_body("POST /v1/compact", &[], json!({ "revision": newest }).to_string()).status,
        200
    );
    let sets = json!({"put": {"key": "new", "value": "1"}});
    let refuse = |body: Value, status: u16, name: &str, what: &str| {
        let answer = send(&server, &body);
        let detail = answer.problem(status, name);
        assert!(detail.contains(what), "{detail}");
        answer
    };
    let since = json!([{"key": "a", "compare": "unchanged_since", "to": oldest}]);
    let what = format!("the oldest that can be asked about is {newest}");
    for then in [json!([]), json!([sets])] {
        let answer = refuse(json!({"if": since, "then": then}), 410, "compacted", &what);
        assert_eq!(answer.revision(), newest);
    }
    // Whatever else is compared before or behind it.
    let fails = json!({"key": "a", "compare": "exists", "to": false});
    for compares in [json!([fails, since[0]]), json!([since[0], fails])] {
        refuse(json!({"if": compares, "then": [sets]}), 410, "compacted", &what);
    }
    for future in [newest + 1, u64::MAX] {
        let since = json!([fails, {"prefix": "a", "compare": "unchanged_since", "to": future}]);
        let what = format!("not reached yet; the store is at {newest}");
        for then in [json!([]), json!([sets])] {
            refuse(json!({"if": since, "then": then}), 400, "future-revision", &what);
        }
    }
    for condition in ["If-None-Match: *", "If-Match: \"1\""] {
        let answer =
            server.send_body("POST /v1/txn", &[condition], json!({"then": [sets]}).to_string());
        let detail = answer.problem(400, "invalid-header");
        assert!(detail.contains("compares"), "{detail}");
    }
    let keeps = json!({"put": {"key": "absent", "keep_value": true}});
    refuse(json!({"then": [sets, keeps]}), 412, "nothing-to-keep", "\"absent\"");
    let many = "more than 10 keys (limits.deleteKeys)";
    refuse(json!({"then": [sets, {"delete": {"prefix": "k"}}]}), 413, "too-many-keys", many);
    let compare = json!([{"prefix": "k", "compare": "version", "to": 1}]);
    refuse(json!({"if": compare, "then": [sets]}), 413, "too-many-keys", many);
    refuse(json!({"if": compare}), 413, "too-many-keys", many);
    let large = json!({"put": {"key": "a", "value": "x".repeat(1025)}});
    refuse(json!({"then": [sets, large]}), 413, "value-too-large", "then[1].put");
    let huge = server.send_body("POST /v1/txn", &[], vec![b' '; 2 << 20]);
    huge.problem(413, "value-too-large");
    refuse(json!({"then": [sets, sets]}), 400, "invalid-transaction", "then[1]");
    let many = |count: usize| json!({"then": [sets], "else": vec![json!({"delete": {"key": "a"}}); count]});
    refuse(many(129), 400, "invalid-transaction", "limits.txnOperations");
    refuse(json!({"then": [{"put": {"key": "", "value": ""}}]}), 400, "invalid-key", "then[0].put");
    let long = json!({"get": {"key": "k".repeat(4097)}});
    refuse(json!({"then": [long]}), 414, "key-too-long", "then[0].get");
    let lease = json!({"put": {"key": "a", "value": "", "lease": 7}});
    refuse(json!({"then": [lease]}), 400, "not-supported", "leases");
    refuse(
        json!({"then": [{"put": {"key": "a", "vlue": ""}}]}),
        400,
        "malformed",
        "then[0].put: unknown field `vlue`",
    );
    refuse(json!({"then": [{"delete": {"prefix": ""}}]}), 400, "malformed", "not empty");
    for body in ["", "[]", "{", "{}{}", "null"] {
        server.send_body("POST /v1/txn", &[], body).problem(400, "malformed");
    }
    server.send_body("POST /v1/txn?revision=1", &[], "{}").problem(400, "unknown-parameter");
    server.send_body("POST /v1/txn", &["Idempotency-Key: t"], "{}").problem(400, "not-supported");
    server.send("GET /v1/txn", &[]).problem(405, "method-not-allowed");
    assert_eq!(server.send("GET /v1/status", &[]).json()["revision"], newest);
    server.send("GET /v1/kv/new", &[]).problem(404, "no-such-key");
    assert_eq!(carry_out(&server, &many(128))["succeeded"], true);
}

/// A client that waits for nothing else sees what it replaced, whoever gives the past up meanwhile, at whatever node.
#[tokio::test]
async fn previous_values_are_there_at_every_node_whatever_is_compacted() {
    let cluster = Cluster::start(3).await;
    cluster.wait_leader().await;
    let post = |node: usize, path: &str, body: Value| {
        cluster.http.post(cluster.url(node, path)).body(body.to_string()).send()
    };
    let mut last = Vec::new();
    for round in 0..60 {
        let node = round % 3;
        let keys = ["a", "b", "c"];
        let mut ops: Vec<Value> = keys
            .iter()
            .map(|key| json!({"put": {"key": key, "value": format!("{key}{round}"), "previous": true}}))
            .collect();
        ops.insert(0, json!({"get": {"prefix": ""}}));
        ops.push(json!({"get": {"prefix": ""}}));
        let answer = post(node, "/v1/txn", json!({ "then": ops })).await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer.get("unread"), None, "{answer}");
        let results = &answer["results"];
        assert_eq!(all(&results[0]["get"], "value"), last);
        let now: Vec<String> = keys.iter().map(|key| format!("{key}{round}")).collect();
        assert_eq!(all(&results[4]["get"], "value"), now);
        for (at, value) in last.iter().enumerate() {
            assert_eq!(results[at + 1]["put"]["previous"]["value"], *value);
        }
        let revision = &answer["revision"];
        let compacted = post(node, "/v1/compact", json!({ "revision": revision })).await.unwrap();
        assert_eq!(compacted.status(), 200);
        last = now;
    }
}

/// A node without room on its disk lets the leader answer in its place, by the leader's limits.
#[tokio::test]
async fn what_only_reads_is_answered_by_the_leader_where_a_node_may_lag() {
    let mut cluster = Cluster::build(3, "limits: {deleteKeys: 2, freeSpace: 64MiB}\n");
    let file = cluster.nodes[2].home.join("cluster.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("deleteKeys: 2", "deleteKeys: 10");
    std::fs::write(&file, text.replace("freeSpace: 64MiB", "freeSpace: 1TiB")).unwrap();
    cluster.nodes.iter_mut().for_each(|node| node.start());
    let leader = cluster.wait_leader().await;
    assert_ne!(leader, 2, "it has no room");
    let post = |node: usize, body: Value| {
        cluster.http.post(cluster.url(node, "/v1/txn")).body(body.to_string()).send()
    };
    let puts: Vec<Value> =
        ["a", "b", "c"].iter().map(|key| json!({"put": {"key": key, "value": key}})).collect();
    assert_eq!(post(leader, json!({ "then": puts })).await.unwrap().status(), 200);
    let reads = json!({"then": [{"get": {"prefix": ""}}, {"txn": {"then": [{"get": {"prefix": "", "keys_only": true, "limit": 1}}]}}]});
    let [there, here] =
        [post(leader, reads.clone()).await, post(2, reads).await].map(Result::unwrap);
    let (there, here): (Value, Value) = (there.json().await.unwrap(), here.json().await.unwrap());
    assert_eq!(there, here);
    assert_eq!(all(&here["results"][0]["get"], "value"), ["a", "b", "c"]);
    let compares = json!({"if": [{"prefix": "", "compare": "version", "to": 1}]});
    let refused = post(2, compares).await.unwrap();
    assert_eq!(refused.status(), 413);
}

/// The rows that a page of a listing looks at are no bound here: there is nothing to go on from.
#[tokio::test]
async fn a_range_is_found_behind_however_many_deletions() {
    let server = Server::start_with("limits: {listRows: 5}\n").await;
    for number in 0..20 {
        put(&server, &format!("q{number:02}"), "x");
    }
    let job = ["Content-Type: text/plain"];
    assert_eq!(server.send_body("PUT /v1/kv/qz", &job, "job").status, 201);
    carry_out(&server, &json!({"then": [{"delete": {"start": "q", "end": "qz"}}]}));
    let first = json!({"get": {"prefix": "q", "limit": 1}});
    for ops in [json!([first]), json!([{"put": {"key": "x", "value": ""}}, first])] {
        let results = carry_out(&server, &json!({ "then": ops }))["results"].clone();
        let found = &results[ops.as_array().unwrap().len() - 1]["get"];
        assert_eq!((all(found, "key"), found.get("more")), (vec!["qz"], None), "{found}");
    }
    // Keys alone are the same, by name and in a range.
    let reads = json!([{"get": {"key": "qz", "keys_only": true}}, {"get": {"prefix": "q", "keys_only": true}}]);
    let results = carry_out(&server, &json!({ "then": reads }))["results"].clone();
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0]["get"]["items"][0].get("content_type"), None);
}

/// Who does not take large answers gets no more of them, and hears all the same that the transaction was carried out.
#[tokio::test]
async fn what_was_carried_out_is_told_even_where_nothing_can_be_shown() {
    let server = Server::start_with("limits: {value: 16MiB, answers: 1MiB}\n").await;
    put(&server, "huge", &"h".repeat(15 << 20));
    put(&server, "large", &"l".repeat(100_000));
    let mut idle = server.connect();
    std::io::Write::write_all(&mut idle, b"GET /v1/kv/huge HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let body = json!({"then": [{"put": {"key": "x", "value": "1"}}, {"get": {"prefix": "l"}}, {"delete": {"key": "x2"}}]});
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    let answer = loop {
        let answer = carry_out(&server, &body);
        if answer.get("unread").is_some() {
            break answer;
        }
        assert_eq!(all(&answer["results"][1]["get"], "key"), ["large"]);
        assert!(std::time::Instant::now() < deadline, "the answer is taken by nobody");
    };
    assert!(answer["unread"].as_str().unwrap().contains("other answers"), "{answer}");
    let revision = &answer["revision"];
    let results = json!([{"put": {"revision": revision}}, {"get": {"items": [], "more": true}}, {"delete": {"deleted": 0}}]);
    assert_eq!((&answer["succeeded"], &answer["results"]), (&json!(true), &results));
    assert_eq!(&server.send("GET /v1/status", &[]).json()["revision"], revision);
    // What only reads can be asked again, and must not look as if there were nothing.
    let reads = json!({"then": [{"get": {"key": "x"}}, {"get": {"prefix": "l"}}]});
    send(&server, &reads).problem(429, "too-busy");
    drop(idle);
}
