//! What becomes of what is under way when a right is taken away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::PATIENCE;
use crate::{Guarded, MOMENT, problem};

fn app(may: &[&str]) -> serde_json::Value {
    json!({"rights": [{"prefix": "app/", "may": may}]})
}

/// Writers and readers at every node, while their right is given and taken again and again: whatever is asked after it was
/// acknowledged that the right is gone is refused, at every node, and whatever is asked after it is back goes well.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_allowed_that_is_asked_after_a_right_was_taken() {
    let guarded = Arc::new(Guarded::start(3).await);
    let mut token = guarded.user("app", &app(&["read", "write"])).await;
    for round in 0..10 {
        let taken = Arc::new(AtomicBool::new(false));
        let tasks = (0..6).map(|number| {
            let (guarded, token, taken) = (guarded.clone(), token.clone(), taken.clone());
            tokio::spawn(async move {
                let (node, reads) = (number % 3, number >= 3);
                let request = match reads {
                    true => "GET /v1/kv/app/x".to_owned(),
                    false => format!("PUT /v1/kv/app/{number}"),
                };
                let (mut before, mut after) = (0, 0);
                let deadline = Instant::now() + PATIENCE;
                while after < 5 && Instant::now() < deadline {
                    let late = taken.load(Ordering::SeqCst);
                    let (status, text) = guarded.send(node, &token, &request, "v").await;
                    if late {
                        let told = format!("round {round}, {request} at {node}: {text}");
                        assert!(matches!(status, 401 | 403), "{told}");
                        after += 1;
                    } else {
                        assert!(matches!(status, 200..=204 | 401 | 403 | 404), "{status} {text}");
                        before += usize::from(!matches!(status, 401 | 403));
                    }
                }
                assert!(
                    before > 0 && after == 5,
                    "{before} went well before, {after} were refused"
                );
            })
        });
        let tasks: Vec<_> = tasks.collect();
        tokio::time::sleep(MOMENT).await;
        // The role, the user's role, what the role says, the token, or what the token was.
        match round % 5 {
            0 => drop(guarded.admin("PUT /v1/auth/roles/app", &app(&["watch"])).await),
            1 => drop(guarded.admin("PUT /v1/auth/users/app", &json!({"roles": []})).await),
            2 => drop(guarded.admin("DELETE /v1/auth/roles/app", &json!(null)).await),
            3 => drop(guarded.admin("DELETE /v1/auth/tokens/app", &json!(null)).await),
            _ => drop(guarded.admin("PUT /v1/auth/tokens/app", &json!({"user": "app"})).await),
        }
        taken.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.unwrap();
        }
        guarded.admin("PUT /v1/auth/roles/app", &app(&["read", "write"])).await;
        guarded.admin("PUT /v1/auth/users/app", &json!({"roles": ["app"]})).await;
        let made = guarded.admin("PUT /v1/auth/tokens/app", &json!({"user": "app"})).await;
        token = made["token"].as_str().unwrap().to_owned();
        for node in 0..3 {
            let (status, text) = guarded.send(node, &token, "PUT /v1/kv/app/x", "v").await;
            assert!(matches!(status, 201 | 204), "{status} {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_what_streams_ends_with_the_right() {
    let guarded = Guarded::start(3).await;
    let token = guarded.user("app", &app(&["read", "watch"])).await;
    let large = "v".repeat(256 << 10);
    for number in 0..48 {
        let request = format!("PUT /v1/kv/app/{number}");
        assert_eq!(guarded.send(0, &guarded.admin, &request, large.clone()).await.0, 201);
    }
    guarded.settle().await;
    let waits: Vec<_> = (0..3)
        .map(|node| {
            let asked = guarded.ask(node, &token, "GET /v1/kv/app/none?wait=60s");
            tokio::spawn(async move {
                let answer = asked.timeout(PATIENCE).send().await.unwrap();
                problem(answer).await
            })
        })
        .collect();
    // A stream of which its client takes only the beginning.
    let stream = guarded.ask(1, &token, "GET /v1/kv?prefix=app/");
    let stream = stream.header("accept", "application/x-ndjson").timeout(PATIENCE);
    let mut stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some());
    tokio::time::sleep(MOMENT).await;
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    let began = Instant::now();
    guarded.admin("PUT /v1/auth/roles/app", &app(&["write"])).await;
    for wait in waits {
        assert_eq!(wait.await.unwrap(), (403, "forbidden".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut bytes = 0;
    let ended = loop {
        match stream.chunk().await {
            Ok(Some(chunk)) => bytes += chunk.len(),
            Ok(None) => break "whole",
            Err(_) => break "cut off",
        }
    };
    // What the client's and the server's buffers held may still come.
    assert_eq!(ended, "cut off", "after {bytes} bytes");
    assert!(bytes < 48 * large.len(), "{bytes}");
}

/// A node that stands still knows nothing of what is taken meanwhile. Whatever it is sent, and looks at when it goes on, goes by
/// what holds then.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_does_not_let_in_by_what_it_knew() {
    let guarded = Guarded::start(3).await;
    let everything = json!({"rights": [{"prefix": "", "may": ["read", "write"]}], "admin": ["auth", "backup", "leader", "compact"]});
    for how in ["token", "token-again", "user", "user-again"] {
        let token = guarded.user("app", &everything).await;
        guarded.settle().await;
        let leader = guarded.leader().await;
        let (lagging, other) = ((leader + 1) % 3, leader);
        guarded.cluster.nodes[lagging].signal("STOP");
        let admin = async |request: &str, body: serde_json::Value| {
            let (status, text) =
                guarded.send(other, &guarded.admin, request, body.to_string()).await;
            assert!(status < 300, "{request}: {status} {text}");
        };
        match how {
            "token" => admin("DELETE /v1/auth/tokens/app", json!(null)).await,
            "token-again" => admin("PUT /v1/auth/tokens/app", json!({"user": "app"})).await,
            "user" => admin("DELETE /v1/auth/users/app", json!(null)).await,
            _ => {
                admin("DELETE /v1/auth/users/app", json!(null)).await;
                admin("PUT /v1/auth/users/app", json!({"roles": ["app"]})).await;
            }
        }
        admin("PUT /v1/kv/after", json!("taken")).await;
        let txn = json!({"then": [{"get": {"key": "after"}}]}).to_string();
        let asked: Vec<_> = [
            ("GET /v1/kv/after", String::new()),
            ("PUT /v1/kv/stolen", "x".to_owned()),
            ("GET /v1/kv?prefix=after", String::new()),
            ("POST /v1/txn", txn),
            ("GET /v1/snapshot", String::new()),
            ("PUT /v1/auth/tokens/mine", json!({"user": "admin"}).to_string()),
            ("PUT /v1/auth/users/mine", json!({"roles": ["admin"]}).to_string()),
            ("POST /v1/cluster/leader", "{}".to_owned()),
        ]
        .into_iter()
        .map(|(request, body)| {
            let sent = guarded.ask(lagging, &token, request).body(body).timeout(PATIENCE).send();
            (request, tokio::spawn(sent))
        })
        .collect();
        // They wait in the node's sockets.
        tokio::time::sleep(MOMENT).await;
        guarded.cluster.nodes[lagging].signal("CONT");
        for (request, answer) in asked {
            let answer = answer.await.unwrap().unwrap();
            let (status, text) =
                (answer.status().as_u16(), answer.text().await.unwrap_or_default());
            assert!(matches!(status, 401 | 403), "{how}, {request}: {status} {text}");
        }
        let (status, _) = guarded.send(other, &guarded.admin, "GET /v1/kv/stolen", "").await;
        assert_eq!(status, 404, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_ends_with_its_token() {
    let guarded = Guarded::start(1).await;
    let role = json!({"rights": [{"prefix": "", "may": ["read", "watch"]}], "admin": ["backup"]});
    let large = "v".repeat(512 << 10);
    for number in 0..32 {
        let request = format!("PUT /v1/kv/app/{number}");
        assert_eq!(guarded.send(0, &guarded.admin, &request, large.clone()).await.0, 201);
    }
    for how in ["deleted", "replaced", "ended"] {
        guarded.user("app", &role).await;
        let ttl = if how == "ended" {
            json!({"user": "app", "ttl": "2s"})
        } else {
            json!({"user": "app"})
        };
        let made = guarded.admin("PUT /v1/auth/tokens/app", &ttl).await;
        let token = made["token"].as_str().unwrap().to_owned();
        let wait = guarded.ask(0, &token, "GET /v1/kv/none?wait=60s").timeout(PATIENCE).send();
        let wait = tokio::spawn(wait);
        let mut begun = Vec::new();
        for (path, accept) in
            [("/v1/kv?prefix=app/", "application/x-ndjson"), ("/v1/snapshot", "*/*")]
        {
            let asked = guarded.ask(0, &token, &format!("GET {path}")).header("accept", accept);
            let mut answer = asked.timeout(PATIENCE).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.chunk().await.unwrap().is_some());
            begun.push((path, answer));
        }
        match how {
            "deleted" => drop(guarded.admin("DELETE /v1/auth/tokens/app", &json!(null)).await),
            "replaced" => {
                drop(guarded.admin("PUT /v1/auth/tokens/app", &json!({"user": "app"})).await)
            }
            _ => {}
        }
        assert_eq!(wait.await.unwrap().unwrap().status(), 401, "{how}");
        for (path, mut answer) in begun {
            let cut_off = loop {
                match answer.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(cut_off, "{how}: {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_outlive_leaders_and_starts() {
    let mut guarded = Guarded::start(3).await;
    let token = guarded.user("app", &app(&["read", "write"])).await;
    guarded.settle().await;
    let leader = guarded.leader().await;
    guarded.cluster.nodes[leader].kill();
    let other = (leader + 1) % 3;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, text) = guarded.send(other, &token, "PUT /v1/kv/app/x", "1").await;
        if matches!(status, 201 | 204) {
            break;
        }
        assert!(matches!(status, 503 | 504), "{status} {text}");
        assert!(Instant::now() < deadline, "{}", guarded.cluster.logs());
    }
    assert_eq!(guarded.send(other, &token, "PUT /v1/kv/b", "1").await.0, 403);
    guarded.cluster.nodes[leader].start();
    guarded.cluster.wait_ready(leader).await;
    assert_eq!(guarded.send(leader, &token, "GET /v1/kv/app/x", "").await, (200, "1".to_owned()));
    assert_eq!(guarded.send(leader, &token, "GET /v1/kv/b", "").await.0, 403);
    assert_eq!(guarded.send(leader, "konsen_x", "GET /v1/kv/b", "").await.0, 401);
}
