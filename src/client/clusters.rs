//! Whether all endpoints belong to one cluster: whoever names two changes one of them by chance.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;

use super::send::{HEDGE_AFTER, SEARCH_TIME_MAX};
use super::{Call, Client, Error, json_body};
use crate::api::{Members, Status};

impl Client {
    /// Refuses endpoints of different clusters. Whoever says nothing is not waited for longer than others are, and
    /// one that belongs to a cluster is asked first from then on.
    pub async fn one_cluster(&self) -> Result<(), Error> {
        let call = &Call::new(Method::GET, "v1/status");
        let ask = |at: usize| async move {
            let answer = self.send_to(&self.endpoints[at], call).await.ok()?;
            json_body::<Status>(answer).await.ok().map(|status| (at, status))
        };
        let mut asked: FuturesUnordered<_> = (0..self.endpoints.len()).map(ask).collect();
        let mut told: BTreeMap<usize, Status> = BTreeMap::new();
        let mut until = tokio::time::Instant::now() + SEARCH_TIME_MAX;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, asked.next()).await {
            let Some((at, status)) = answer else { continue };
            if status.cluster_id.is_some() {
                until = until.min(tokio::time::Instant::now() + HEDGE_AFTER);
            }
            told.insert(at, status);
        }
        let all = told.iter().map(|(at, status)| (self.endpoints[*at].as_str(), status));
        differ(all).map_or(Ok(()), Err)?;
        let count = self.endpoints.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut order = (0..count).map(|number| (first + number) % count);
        let belongs = |at: &usize| told.get(at).is_some_and(|status| status.cluster_id.is_some());
        let chosen = order.clone().find(belongs).or_else(|| order.find(|at| told.contains_key(at)));
        if let Some(at) = chosen {
            self.first.store(at, Ordering::Relaxed);
            *self.answered.lock() = Some(Instant::now());
        }
        Ok(())
    }

    /// Waits until the members are decided to be as `wanted` says; false if they are not within that time, or within
    /// the time that an answer may take.
    pub async fn settles(&self, within: Duration, wanted: impl Fn(&Members) -> bool) -> bool {
        let deadline = Instant::now() + within.min(self.timeout);
        loop {
            let members = self.members().await;
            if members.is_ok_and(|members| members.decided && wanted(&members)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // Members have no event.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Between two looks at the members.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is wrong with endpoints that belong to different clusters; none where all that belong to any belong to the
/// same.
pub fn differ<'a>(endpoints: impl Iterator<Item = (&'a str, &'a Status)>) -> Option<Error> {
    let mut clusters: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (endpoint, status) in endpoints {
        if let Some(id) = &status.cluster_id {
            let endpoint = endpoint.trim_end_matches('/');
            clusters.entry((&status.cluster, id)).or_default().push(endpoint);
        }
    }
    if clusters.len() < 2 {
        return None;
    }
    let one = |((name, id), endpoints): (&(&str, &str), &Vec<&str>)| {
        format!("{} to {name} ({id})", endpoints.join(", "))
    };
    let all: Vec<String> = clusters.iter().map(one).collect();
    Some(Error::SeveralClusters(format!(
        "the endpoints belong to different clusters: {}",
        all.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cluster: &str, id: Option<&str>) -> Status {
        let mut status: Status = serde_json::from_str(SAMPLE).unwrap_or_else(|e| panic!("{e}"));
        (status.cluster, status.cluster_id) = (cluster.to_owned(), id.map(str::to_owned));
        status
    }

    const SAMPLE: &str = r#"{"name":"n1","id":"1","role":"follower","term":1,"commit":1,"applied":1,
        "last_index":1,"revision":1,"compact_revision":0,"log_bytes":1,"state_bytes":1,"version":"0",
        "uptime_ms":1,"next_index":{},"match_index":{}}"#;

    #[test]
    fn only_those_that_belong_to_clusters_can_belong_to_different_ones() {
        let (a, b, none) = (of("k", Some("a")), of("k", Some("b")), of("k", None));
        let all = |of: &[(&'static str, &Status)]| differ(of.iter().copied());
        assert_eq!(all(&[("http://1/", &a), ("http://2/", &none), ("http://3/", &a)]), None);
        let said = all(&[("http://1/", &a), ("http://2/", &b), ("http://3/", &a)]);
        let expected = "the endpoints belong to different clusters: http://1, http://3 to k (a); \
                        http://2 to k (b)";
        assert_eq!(said, Some(Error::SeveralClusters(expected.to_owned())));
    }
}
