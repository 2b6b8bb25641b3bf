//! By what a client is known.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Identity};
use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, konsen};
use crate::{Guarded, MOMENT, problem};

fn made(dir: &Path, arguments: &[&str]) {
    let output = konsen().current_dir(dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn https(dir: &Path, who: Option<&str>) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = Certificate::from_pem(&fs::read(dir.join("certs/ca.crt")).unwrap()).unwrap();
    let mut client =
        Client::builder().no_proxy().timeout(Duration::from_secs(8)).tls_certs_only([ca]);
    if let Some(who) = who {
        let mut pem = fs::read(dir.join(format!("{who}.key"))).unwrap();
        pem.extend(fs::read(dir.join(format!("{who}.crt"))).unwrap());
        client = client.identity(Identity::from_pem(&pem).unwrap());
    }
    client.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_as_good_as_its_users_rights() {
    let mut cluster = Cluster::build(3, "http: { tls: true, clientAuth: optional }\n");
    let dir = cluster.dir.path().to_path_buf();
    for name in ["admin", "alice", "bob"] {
        made(&dir, &["cert", "client", "--name", name, "--force"]);
    }
    cluster.nodes.iter_mut().for_each(|node| node.start());
    let url = |node: usize, path: &str| cluster.url(node, path).replace("http://", "https://");
    let (admin, alice, bob) = (
        https(&dir, Some("certs/admin")),
        https(&dir, Some("certs/alice")),
        https(&dir, Some("certs/bob")),
    );
    let nobody = https(&dir, None);
    let deadline = Instant::now() + PATIENCE;
    while !nobody.get(url(0, "/readyz")).send().await.is_ok_and(|answer| answer.status() == 200) {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // From the first moment on.
    assert_eq!(nobody.get(url(0, "/v1/kv/a")).send().await.unwrap().status(), 401);
    assert_eq!(alice.get(url(0, "/v1/kv/a")).send().await.unwrap().status(), 403);
    let role = json!({"rights": [{"prefix": "app/", "may": ["read", "write"]}]});
    for (path, body) in
        [("/v1/auth/roles/app", role), ("/v1/auth/users/alice", json!({"roles": ["app"]}))]
    {
        let done = admin.put(url(1, path)).body(body.to_string()).send().await.unwrap();
        assert_eq!(done.status(), 201);
    }
    assert_eq!(alice.put(url(2, "/v1/kv/app/x")).body("1").send().await.unwrap().status(), 201);
    assert_eq!(
        problem(alice.get(url(2, "/v1/kv/b")).send().await.unwrap()).await,
        (403, "forbidden".into())
    );
    assert_eq!(bob.get(url(2, "/v1/kv/app/x")).send().await.unwrap().status(), 403);
    // Credentials of the request count before those of the connection.
    let wrong = alice.get(url(2, "/v1/kv/app/x")).bearer_auth("konsen_wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let made = admin.put(url(0, "/v1/auth/tokens/t")).body(json!({"user": "alice"}).to_string());
    let token: Value = made.send().await.unwrap().json().await.unwrap();
    let token = token["token"].as_str().unwrap();
    assert_eq!(
        bob.get(url(0, "/v1/kv/app/x")).bearer_auth(token).send().await.unwrap().status(),
        200
    );
    // Taken away while the connection stays.
    let gone = admin.delete(url(0, "/v1/auth/users/alice")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    for node in 0..3 {
        // What is linearizable is refused at once, at whatever node.
        let asked = alice.get(url(node, "/v1/kv/app/x")).send().await.unwrap();
        assert_eq!(asked.status(), 403, "node {node}");
        assert_eq!(
            bob.get(url(node, "/v1/kv/app/x")).bearer_auth(token).send().await.unwrap().status(),
            401
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_as_bearer_or_basic_and_end() {
    let guarded = Guarded::start(1).await;
    let role = json!({"rights": [{"prefix": "", "may": ["read", "write"]}]});
    let token = guarded.user("app", &role).await;
    assert!(token.starts_with("konsen_") && token.len() > 43, "{token}");
    let url = guarded.cluster.url(0, "/v1/kv/a");
    let http = &guarded.cluster.http;
    let status =
        async |request: reqwest::RequestBuilder| problem(request.send().await.unwrap()).await;
    assert_eq!(status(http.get(&url).bearer_auth(&token)).await.0, 404);
    assert_eq!(status(http.get(&url).basic_auth("app", Some(&token))).await.0, 404);
    let unknown = (401, "unauthenticated".to_owned());
    assert_eq!(status(http.get(&url).basic_auth("admin", Some(&token))).await, unknown);
    assert_eq!(status(http.get(&url).basic_auth("app", Some("x"))).await, unknown);
    assert_eq!(status(http.get(&url).header("authorization", "Digest x")).await, unknown);
    assert_eq!(status(http.get(&url)).await, unknown);
    assert_eq!(status(http.get(&url).bearer_auth(&token[..token.len() - 1])).await, unknown);
    // One that ends.
    let short = json!({"user": "app", "ttl": "1s"});
    let made = guarded.admin("PUT /v1/auth/tokens/short", &short).await;
    let short = made["token"].as_str().unwrap();
    assert_eq!(status(http.get(&url).bearer_auth(short)).await.0, 404);
    let deadline = Instant::now() + PATIENCE;
    while status(http.get(&url).bearer_auth(short)).await != unknown {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(MOMENT / 6).await;
    }
    // Nobody is told a token again, and no file holds one.
    let all = guarded.admin("GET /v1/auth/tokens", &json!(null)).await;
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert!(!all.to_string().contains("konsen_"), "{all}");
    let mut files = vec![guarded.cluster.nodes[0].home.clone()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = fs::read(&path).unwrap();
            for secret in [&token[..], short, &guarded.admin] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "a token is in {}", path.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_who_may_do_what_is_checked() {
    let guarded = Guarded::start(1).await;
    let http = &guarded.cluster.http;
    for (request, body, expected) in [
        ("PUT /v1/auth/users/Anna", r#"{"roles":[]}"#, (400, "invalid-parameter")),
        ("PUT /v1/auth/users/anna", r#"{"roles":["none"]}"#, (409, "access-conflict")),
        ("PUT /v1/auth/users/anna", "[]", (400, "malformed")),
        ("PUT /v1/auth/users/anna", r#"{"role":"x"}"#, (400, "malformed")),
        ("PUT /v1/auth/users/anna", r#"{"name":"other","roles":[]}"#, (400, "malformed")),
        ("PUT /v1/auth/users/admin", r#"{"roles":[]}"#, (409, "access-conflict")),
        ("DELETE /v1/auth/users/admin", "", (409, "access-conflict")),
        ("DELETE /v1/auth/users/none", "", (404, "no-such-name")),
        ("PUT /v1/auth/roles/admin", "{}", (409, "access-conflict")),
        ("DELETE /v1/auth/roles/admin", "", (409, "access-conflict")),
        (
            "PUT /v1/auth/roles/x",
            r#"{"rights":[{"prefix":"a","may":["own"]}]}"#,
            (400, "malformed"),
        ),
        (
            "PUT /v1/auth/roles/x",
            r#"{"rights":[{"prefix":"a","may":["read"],"until":3}]}"#,
            (400, "malformed"),
        ),
        ("PUT /v1/auth/roles/x", r#"{"admin":["everything"]}"#, (400, "malformed")),
        ("PUT /v1/auth/tokens/x", r#"{"user":"none"}"#, (409, "access-conflict")),
        ("PUT /v1/auth/tokens/x", r#"{"user":"admin","ttl":"soon"}"#, (400, "malformed")),
        ("PUT /v1/auth/tokens/x", r#"{"user":"admin","ttl":"0s"}"#, (400, "malformed")),
        ("GET /v1/auth/tokens/none", "", (404, "no-such-name")),
        ("GET /v1/auth/tokens?x=1", "", (400, "unknown-parameter")),
        ("POST /v1/auth/can", r#"{"may":"read"}"#, (400, "malformed")),
        ("POST /v1/auth/users/anna", "{}", (405, "method-not-allowed")),
        ("GET /v1/auth", "", (404, "no-such-route")),
    ] {
        let asked = guarded.ask(0, &guarded.admin, request).body(body).send().await.unwrap();
        let (status, name) = problem(asked).await;
        assert_eq!((status, &name[..]), expected, "{request} {body}");
    }
    // A web page of elsewhere, with the user's credentials.
    let page = http
        .put(guarded.cluster.url(0, "/v1/auth/users/anna"))
        .bearer_auth(&guarded.admin)
        .header("origin", "http://elsewhere")
        .body(r#"{"roles":[]}"#);
    assert_eq!(problem(page.send().await.unwrap()).await, (403, "cross-site".into()));
    // All that there may be of it, and one more.
    let large = json!({"rights": [{"prefix": "x".repeat(4000), "may": ["read"]}]}).to_string();
    let mut statuses = Vec::new();
    for number in 0..100 {
        let request = format!("PUT /v1/auth/roles/role-{number}");
        statuses.push(guarded.send(0, &guarded.admin, &request, large.clone()).await.0);
    }
    assert!(statuses.contains(&201) && statuses.ends_with(&[409]), "{statuses:?}");
    let body = "x".repeat(200 << 10);
    let (status, _) = guarded.send(0, &guarded.admin, "PUT /v1/auth/roles/x", body).await;
    assert_eq!(status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_has_to_be_an_administrators() {
    let cluster = Cluster::start(1).await;
    let put = |path: &str, body: Value| {
        let asked = cluster.http.put(cluster.url(0, path)).body(body.to_string()).send();
        async { problem(asked.await.unwrap()).await }
    };
    assert_eq!(put("/v1/auth/users/anna", json!({"roles": []})).await.0, 201);
    let conflict = put("/v1/auth/tokens/t", json!({"user": "anna"})).await;
    assert_eq!(conflict, (409, "access-conflict".into()));
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 201, "everybody may, still");
    assert_eq!(put("/v1/auth/tokens/t", json!({"user": "admin"})).await.0, 201);
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 401);
    assert_eq!(put("/v1/auth/tokens/t", json!({"user": "admin"})).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_asks_no_more_often_than_is_allowed() {
    let guarded = Guarded::start_configured(1, "limits: { userRate: 20 }\n").await;
    let role = json!({"rights": [{"prefix": "", "may": ["read"]}]});
    let token = guarded.user("app", &role).await;
    let mut refused = None;
    for _ in 0..200 {
        let answer = guarded.ask(0, &token, "GET /v1/kv/a").send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), 404);
    }
    let refused = refused.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("limits.userRate"));
    // Nobody else is refused for it, nor is it for long.
    assert_eq!(guarded.send(0, &guarded.admin, "GET /v1/kv/a", "").await.0, 404);
    let deadline = Instant::now() + PATIENCE;
    while guarded.send(0, &token, "GET /v1/kv/a", "").await.0 != 404 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(MOMENT).await;
    }
    let page = guarded.cluster.http.get(guarded.cluster.url(0, "/metrics")).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(!page.contains("refusals_total{reason=\"user_rate\"} 0\n"), "{page}");
}
