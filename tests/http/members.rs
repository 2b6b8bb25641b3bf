//! `/v1/cluster/members`: what is taken, what is refused, and what becomes of it.

use serde_json::{Value, json};

use crate::harness::Cluster;
use crate::raw::{Answer, Server};

fn addresses(port: u16) -> (String, String) {
    (format!("127.0.0.9:{port}"), format!("127.0.0.9:{}", port + 1))
}

fn add(server: &Server, name: &str, more: &[(&str, Value)]) -> Answer {
    let (raft, http) = addresses(9);
    let mut body = json!({ "name": name, "raft_address": raft, "http_address": http });
    for (key, value) in more {
        body[*key] = value.clone();
    }
    server.send_body("POST /v1/cluster/members", &[], body.to_string())
}

fn member(answer: &Answer, name: &str) -> Value {
    let members = answer.json()["members"].as_array().cloned().unwrap();
    members.into_iter().find(|member| member["name"] == name).unwrap()
}

#[tokio::test]
async fn a_learner_stays_one_where_that_is_wanted() {
    let server = Server::start().await;
    let added = add(&server, "node4", &[]);
    assert_eq!(added.status, 201);
    assert_eq!(
        (&member(&added, "node4")["voter"], &member(&added, "node4")["promote"]),
        (&json!(false), &json!(true))
    );
    // Repeated, it changes nothing.
    assert_eq!(add(&server, "node4", &[]).status, 201);
    let removed = server.send("DELETE /v1/cluster/members/node4", &[]);
    assert_eq!((removed.status, removed.json()["members"].as_array().unwrap().len()), (200, 1));
    let added = add(&server, "node4", &[("learner", json!(true))]);
    assert_eq!(member(&added, "node4")["promote"], false);
    // Another host under its name is another matter.
    let other = add(&server, "node4", &[("raft_address", json!("127.0.0.8:7"))]);
    other.problem(409, "membership-conflict");
}

#[tokio::test]
async fn a_replacement_has_the_addresses_that_it_is_given() {
    let server = Server::start().await;
    add(&server, "node4", &[]);
    let (raft, http) = addresses(70);
    let wanted = json!({ "raft_address": raft, "http_address": http });
    let replaced =
        server.send_body("POST /v1/cluster/members/node4/replace", &[], wanted.to_string());
    assert_eq!(replaced.status, 200);
    let replaced = member(&replaced, "node4");
    assert_eq!(
        (&replaced["raft_address"], &replaced["http_address"]),
        (&json!(raft), &json!(http))
    );
}

#[tokio::test]
async fn a_member_that_answers_is_replaced_by_force_only() {
    let cluster = Cluster::start(3).await;
    let server = Server { port: cluster.nodes[0].http_port, cluster };
    let path = "POST /v1/cluster/members/node3/replace";
    let refused = server.send(path, &[]).problem(409, "membership-conflict");
    assert!(refused.contains("node3 answers") && refused.contains("force it"), "{refused}");
    let refused = server.send(&format!("{path}?force=false"), &[]);
    refused.problem(409, "membership-conflict");
    let replaced = server.send(&format!("{path}?force=true"), &[]);
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_eq!(member(&replaced, "node3")["id"], Value::Null);
    // Nor is another put out while the new one is awaited.
    let refused = server.send("DELETE /v1/cluster/members/node2", &[]);
    let refused = refused.problem(409, "membership-conflict");
    assert!(refused.contains("node3 is awaited"), "{refused}");
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let server = Server::start().await;
    // None of them is kept for a repetition, so a token would promise too much.
    let token = &["Idempotency-Key: once"];
    let requests = [
        "POST /v1/cluster/members",
        "DELETE /v1/cluster/members/node9",
        "POST /v1/cluster/members/node9/promote",
        "POST /v1/cluster/members/node9/replace",
        "POST /v1/cluster/members/undo",
    ];
    for request in requests {
        server.send(request, token).problem(400, "not-supported");
        server.send(&format!("{request}?unknown=1"), &[]).problem(400, "unknown-parameter");
        server.send(&format!("{request}?force=perhaps"), &[]).problem(400, "invalid-parameter");
        server.send_body(request, &[], "[1]").problem(400, "malformed");
    }
    server.send("DELETE /v1/cluster/members/node9", &[]).problem(404, "no-such-member");
    let nothing = server.send("POST /v1/cluster/members/undo", &[]);
    let nothing = nothing.problem(409, "membership-conflict");
    assert!(nothing.contains("no change of the membership is under way"), "{nothing}");
}
