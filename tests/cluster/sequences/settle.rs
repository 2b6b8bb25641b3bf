//! The end of a sequence: everybody who belongs to the cluster becomes ready, and everybody else ends.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::PATIENCE;
use crate::hosts::{members, readdress, tell};
use crate::operator::At;

use super::judge::View;
use super::world::{Fate, World};

impl World {
    /// First those that are up, if they can decide; then all that there are, those too that were put out while they
    /// were down.
    pub(super) async fn settle(&mut self) {
        if self.judge.majority_is_up() {
            self.say("who is up has to become ready");
            self.all_are_where_they_belong(false).await;
        }
        self.say("all are started");
        for fate in [Fate::In, Fate::Late] {
            for host in 0..self.fates.len() {
                if self.fates[host] == fate && !self.cluster.nodes[host].runs() {
                    self.come_back(host);
                }
            }
        }
        self.all_are_where_they_belong(true).await;
    }

    /// Starts a host that was stopped or killed, elsewhere if another one has its place. If it is no member it may be
    /// one that nobody dials, so that it is told where those are that it knew.
    fn come_back(&mut self, host: usize) {
        let url = self.cluster.nodes[host].url("");
        let is_taken = |&other: &usize| {
            self.cluster.nodes[other].runs() && self.cluster.nodes[other].url("") == url
        };
        if (0..self.fates.len()).any(|other| is_taken(&other)) {
            readdress(&mut self.cluster.nodes[host], &At::free());
        }
        let view = self.judge.view();
        let id = self.judge.hosts(|hosts| hosts[host].id.clone());
        if !view.members.iter().any(|one| id.is_some() && one["id"].as_str() == id.as_deref()) {
            tell(&self.cluster.nodes[host], &view.places());
        }
        self.say(&format!("{} is started, as it is {:?}", self.named(host), self.fates[host]));
        self.fates[host] = Fate::In;
        self.start_host(host);
    }

    async fn all_are_where_they_belong(&mut self, bring: bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.reap();
            self.check();
            let view = self.judge.fresh_view(Duration::from_secs(1)).await;
            let waits = match &view {
                Some(view) => self.waits_for(view, bring).await,
                None => Some("nobody leads".to_owned()),
            };
            let Some(what) = waits else { return };
            assert!(Instant::now() < deadline, "it does not come to rest: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is still to happen; none if nothing is.
    async fn waits_for(&mut self, view: &View, bring: bool) -> Option<String> {
        for member in &view.members {
            let name = member["name"].as_str().unwrap_or_default().to_owned();
            let Some(id) = member["id"].as_str() else {
                if bring {
                    self.come(&name).await;
                    return Some(format!("{name} is to come"));
                }
                continue;
            };
            let hosts = self.judge.hosts(|hosts| hosts.clone());
            let host = hosts.iter().position(|host| host.id.as_deref() == Some(id));
            let Some(host) = host else { return Some(format!("{name} has not said who it is")) };
            assert!(
                self.fates[host] != Fate::Ended,
                "{} has ended, and is a member",
                self.named(host)
            );
            if !self.cluster.nodes[host].runs() {
                assert!(!bring, "{} does not run, and is a member", self.named(host));
                continue;
            }
            let url = self.cluster.url(host, "/readyz");
            let answer = self.cluster.http.get(url).timeout(Duration::from_secs(2)).send().await;
            match answer {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => {
                    let why = answer.text().await.unwrap_or_default();
                    return Some(format!("{} is not ready: {why}", self.named(host)));
                }
                Err(error) => {
                    return Some(format!("{} does not answer: {error}", self.named(host)));
                }
            }
        }
        let hosts = self.judge.hosts(|hosts| hosts.clone());
        for (host, known) in hosts.iter().enumerate() {
            let is_in = |own: &str| view.members.iter().any(|one| one["id"].as_str() == Some(own));
            let may_wait = known.answered && !known.belongs;
            if !self.cluster.nodes[host].runs()
                || may_wait
                || known.id.as_deref().is_some_and(is_in)
            {
                continue;
            }
            if self.knows_somebody(host, view).await {
                return Some(format!("{} is no member, and runs", self.named(host)));
            }
        }
        None
    }

    /// Whether any of the members has a name that the host knows, so that it can find out that it was put out.
    async fn knows_somebody(&self, host: usize, view: &View) -> bool {
        let known = members(&self.cluster, host).await;
        let Value::Array(known) = known else { return true };
        let others =
            known.iter().filter(|one| one["name"] != self.cluster.nodes[host].name.as_str());
        others.into_iter().any(|known| view.members.iter().any(|one| one["name"] == known["name"]))
    }
}
