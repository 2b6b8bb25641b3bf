//! Who may do what, on clusters of real processes: identities, rights on everything that can be asked for, and what becomes of
//! both when they are taken away.
#![allow(clippy::unwrap_used)]
// A test's modules are shared between binaries by path, so that their items are `pub`.
#![allow(unreachable_pub)]

// Only a part of what the cluster's tests need is used here.
#[allow(dead_code)]
#[path = "../cluster/harness.rs"]
mod harness;

mod advisories;
mod commands;
mod differential;
mod identities;
mod model;
mod revocation;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use harness::Cluster;

/// A cluster with access control, and the token of its administrator.
pub(crate) struct Guarded {
    pub(crate) cluster: Cluster,
    pub(crate) admin: String,
}

impl Guarded {
    /// So many nodes, on loopback, without TLS.
    pub(crate) async fn start(nodes: usize) -> Guarded {
        Guarded::start_configured(nodes, "").await
    }

    /// The same, with `extra` appended to cluster.yml.
    pub(crate) async fn start_configured(nodes: usize, extra: &str) -> Guarded {
        let cluster = Cluster::start_configured(nodes, extra).await;
        let url = cluster.url(0, "/v1/auth/tokens/root");
        let body = json!({"user": "admin"}).to_string();
        let made = cluster.http.put(url).body(body).send().await.unwrap();
        assert_eq!(made.status(), 201, "{}", cluster.logs());
        let admin = made.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
        Guarded { cluster, admin }
    }

    /// A request of whoever has this token.
    pub(crate) fn ask(&self, node: usize, token: &str, request: &str) -> RequestBuilder {
        let (method, path) = request.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        self.cluster.http.request(method, self.cluster.url(node, path)).bearer_auth(token)
    }

    /// The same with a body; the status and the answer.
    pub(crate) async fn send(
        &self,
        node: usize,
        token: &str,
        request: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, String) {
        let answer = self.ask(node, token, request).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    }

    /// What the administrator asks for, which has to go well.
    #[track_caller]
    pub(crate) fn admin(&self, request: &str, body: &Value) -> impl Future<Output = Value> {
        let asked = self.ask(0, &self.admin, request).body(body.to_string()).send();
        let request = request.to_owned();
        async move {
            let answer = asked.await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert!(status.is_success(), "{request}: {status} {text}");
            serde_json::from_str(&text).unwrap_or_default()
        }
    }

    /// Makes a user with one role of the same name; its token.
    pub(crate) async fn user(&self, name: &str, role: &Value) -> String {
        self.admin(&format!("PUT /v1/auth/roles/{name}"), role).await;
        self.admin(&format!("PUT /v1/auth/users/{name}"), &json!({"roles": [name]})).await;
        let made = self.admin(&format!("PUT /v1/auth/tokens/{name}"), &json!({"user": name})).await;
        made["token"].as_str().unwrap().to_owned()
    }

    /// Which node leads.
    pub(crate) async fn leader(&self) -> usize {
        let (_, text) = self.send(0, &self.admin, "GET /v1/status", "").await;
        let status: Value = serde_json::from_str(&text).unwrap();
        let name = status["leader"].as_str().unwrap();
        name.trim_start_matches("node").parse::<usize>().unwrap() - 1
    }

    /// Every node has applied what the others have.
    pub(crate) async fn settle(&self) {
        let (status, _) = self.send(0, &self.admin, "PUT /v1/kv/zz/settled", "x").await;
        assert!(status < 300, "{status}");
        for node in 0..self.cluster.nodes.len() {
            let (status, _) = self.send(node, &self.admin, "GET /v1/kv/zz/settled", "").await;
            assert_eq!(status, 200);
        }
    }
}

/// The name of a problem; empty if the answer is none.
pub(crate) async fn problem(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let name = json["type"].as_str().unwrap_or_default();
    (status, name.trim_start_matches("urn:konsen:problem:").to_owned())
}

/// A moment in which nothing has to happen.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);
