//! An operator, who changes the membership by the command line or over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, konsen};

/// How long an order may take at the node that is asked, unless the operator is more or less patient.
const ORDER: Duration = Duration::from_secs(15);

/// How orders are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    CommandLine,
    Http,
}

pub(crate) const BOTH: [By; 2] = [By::CommandLine, By::Http];

/// Where a node listens, for its peers and for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) raft: String,
    pub(crate) http: String,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Add { name: String, at: At, learner: bool },
    Remove { name: String, force: bool },
    Promote { name: String },
    Replace { name: String, at: Option<At>, force: bool },
    Undo { force: bool },
    Transfer { to: Option<String> },
}

impl Order {
    pub(crate) fn replace(name: &str, force: bool) -> Order {
        Order::Replace { name: name.to_owned(), at: None, force }
    }

    pub(crate) fn remove(name: &str, force: bool) -> Order {
        Order::Remove { name: name.to_owned(), force }
    }

    pub(crate) fn transfer(to: &str) -> Order {
        Order::Transfer { to: Some(to.to_owned()) }
    }

    /// The words behind `konsen`.
    fn words(&self) -> Vec<String> {
        let mut words: Vec<&str> = Vec::new();
        let mut forced = false;
        match self {
            Order::Add { name, at, learner } => {
                words.extend(["member", "add", name]);
                words.extend(["--raft-address", &at.raft, "--http-address", &at.http]);
                words.extend(learner.then_some("--learner"));
            }
            Order::Remove { name, force } => {
                words.extend(["member", "remove", name]);
                forced = *force;
            }
            Order::Promote { name } => words.extend(["member", "promote", name]),
            Order::Replace { name, at, force } => {
                words.extend(["member", "replace", name]);
                if let Some(at) = at {
                    words.extend(["--raft-address", &at.raft, "--http-address", &at.http]);
                }
                forced = *force;
            }
            Order::Undo { force } => {
                words.extend(["member", "undo"]);
                forced = *force;
            }
            Order::Transfer { to } => {
                words.extend(["leader", "transfer"]);
                words.extend(to.as_deref());
            }
        }
        words.extend(forced.then_some("--force"));
        words.into_iter().map(str::to_owned).collect()
    }

    /// Whether the command makes a folder for a node.
    fn makes_folder(&self) -> bool {
        matches!(self, Order::Add { .. } | Order::Replace { .. })
    }

    /// Method, path and body.
    fn request(&self) -> (&'static str, String, String) {
        let members = "/v1/cluster/members";
        let forced = |path: String, force: &bool| match force {
            true => path + "?force=true",
            false => path,
        };
        match self {
            Order::Add { name, at: At { raft, http }, learner } => {
                let body = json!({
                    "name": name, "raft_address": raft, "http_address": http, "learner": learner,
                });
                ("POST", members.to_owned(), body.to_string())
            }
            Order::Remove { name, force } => {
                ("DELETE", forced(format!("{members}/{name}"), force), String::new())
            }
            Order::Promote { name } => ("POST", format!("{members}/{name}/promote"), String::new()),
            Order::Replace { name, at, force } => {
                let body = at.as_ref().map(|At { raft, http }| {
                    json!({ "raft_address": raft, "http_address": http }).to_string()
                });
                let path = forced(format!("{members}/{name}/replace"), force);
                ("POST", path, body.unwrap_or_default())
            }
            Order::Undo { force } => {
                ("POST", forced(format!("{members}/undo"), force), String::new())
            }
            Order::Transfer { to } => {
                let body = to.as_ref().map(|to| json!({ "to": to }).to_string());
                ("POST", "/v1/cluster/leader".to_owned(), body.unwrap_or_default())
            }
        }
    }
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It was understood and refused.
    Refused,
    /// Nobody could do it now, and it certainly was not done.
    Unavailable,
    /// It may have been done.
    Unknown,
}

/// An answer to an order.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    /// The exit code, or the status of HTTP; 0 where there was no answer.
    pub(crate) code: i32,
    /// What was said.
    pub(crate) text: String,
}

impl Told {
    /// What was said where it was refused: exit code 1, or a conflict in HTTP.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.outcome, Outcome::Refused, "{}: {}", self.code, self.text);
        assert!(matches!(self.code, 1 | 409), "{}: {}", self.code, self.text);
        self.text
    }
}

/// Knows where nodes serve, and where the cluster's authority is.
#[derive(Clone)]
pub(crate) struct Operator {
    by: By,
    dir: PathBuf,
    /// The nodes that are asked, the first that answers in HTTP.
    endpoints: Vec<String>,
    http: reqwest::Client,
    /// Whether the command line makes folders for new nodes.
    folders: bool,
    patience: Duration,
}

impl Operator {
    /// One that knows all nodes that run, and asks the one at `first` first.
    pub(crate) fn of(cluster: &Cluster, by: By, first: usize) -> Operator {
        let nodes = &cluster.nodes;
        let order = [first].into_iter().chain((0..nodes.len()).filter(|node| *node != first));
        let endpoints = order.filter(|&node| nodes[node].runs()).map(|node| nodes[node].url(""));
        Operator {
            by,
            dir: cluster.dir.path().to_path_buf(),
            endpoints: endpoints.collect(),
            http: cluster.http.clone(),
            folders: true,
            patience: ORDER,
        }
    }

    pub(crate) fn without_folders(self) -> Operator {
        Operator { folders: false, ..self }
    }

    /// One that waits so long for an answer.
    pub(crate) fn patient(self, patience: Duration) -> Operator {
        Operator { patience, ..self }
    }

    pub(crate) async fn give(&self, order: &Order) -> Told {
        match self.by {
            By::CommandLine => self.command(order).await,
            By::Http => self.ask(order).await,
        }
    }

    async fn command(&self, order: &Order) -> Told {
        let mut command = tokio::process::Command::from(konsen());
        command.current_dir(&self.dir).args(order.words()).kill_on_drop(true);
        command.args(["--endpoints", &self.endpoints.join(",")]);
        command.args(["--timeout", &format!("{}ms", self.patience.as_millis())]);
        if order.makes_folder() {
            match self.folders {
                true => command.args(["--config", "cluster.yml"]),
                false => command.arg("--no-folder"),
            };
        }
        let output = command.output().await.unwrap();
        let code = output.status.code().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let outcome = match code {
            0 => Outcome::Done,
            5 => Outcome::Unavailable,
            6 => Outcome::Unknown,
            _ => Outcome::Refused,
        };
        Told { outcome, code, text: String::from_utf8_lossy(&said).into_owned() }
    }

    async fn ask(&self, order: &Order) -> Told {
        let mut told = None;
        for endpoint in &self.endpoints {
            let answer = self.ask_at(endpoint, order).await;
            let again = answer.outcome == Outcome::Unavailable;
            told = Some(answer);
            if !again {
                break;
            }
        }
        told.expect("an operator knows a node")
    }

    async fn ask_at(&self, endpoint: &str, order: &Order) -> Told {
        let (method, path, body) = order.request();
        let request = self.http.request(method.parse().unwrap(), format!("{endpoint}{path}"));
        let request = request
            .header("Konsen-Timeout", format!("{}ms", self.patience.as_millis()))
            .timeout(self.patience + Duration::from_secs(5));
        match request.body(body).send().await {
            Ok(answer) => {
                let code = answer.status().as_u16();
                let text = answer.text().await.unwrap_or_default();
                let problem: Value = serde_json::from_str(&text).unwrap_or_default();
                let outcome = match (code, problem["outcome"].as_str()) {
                    (200 | 201, _) => Outcome::Done,
                    (400..500, _) => Outcome::Refused,
                    (_, Some("not_applied")) => Outcome::Unavailable,
                    _ => Outcome::Unknown,
                };
                Told { outcome, code: i32::from(code), text }
            }
            Err(error) => {
                let unsent = error.is_connect();
                let outcome = if unsent { Outcome::Unavailable } else { Outcome::Unknown };
                Told { outcome, code: 0, text: format!("{error:?}") }
            }
        }
    }
}
