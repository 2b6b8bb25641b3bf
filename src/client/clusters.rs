//! Whether all endpoints belong to one cluster: whoever names two changes one of them by chance.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;

use super::error::{Failure, Heard};
use super::send::HEDGE_AFTER;
use super::{Call, Client, Error, TIMEOUT_MIN, json_body};
use crate::api::{Members, Status};

impl Client {
    /// Refuses endpoints of different clusters, and those of which none answers as konsen does. Whoever says nothing is not
    /// waited for longer than others are, and one that belongs to a cluster is asked first from then on.
    pub async fn one_cluster(&self) -> Result<(), Error> {
        let found = self.search(Instant::now() + self.timeout).await;
        found.map(drop).map_err(|failure| failure.error)
    }

    /// Who answers as konsen does, those first that belong to a cluster: one at least, and all of one cluster.
    pub(super) async fn search(&self, due: Instant) -> Result<Vec<usize>, Failure> {
        let call = &Call::new(Method::GET, "v1/status");
        let ask = |at: usize| async move {
            let endpoint = &self.endpoints[at];
            let answer = self.send_to(endpoint, call, due).await?;
            let status = json_body::<Status>(answer).await;
            status.map(|status| (at, status)).map_err(|error| Failure {
                error,
                may_try_another: true,
                heard: Heard::Misunderstood,
            })
        };
        let mut asked: FuturesUnordered<_> = (0..self.endpoints.len()).map(ask).collect();
        let mut told: BTreeMap<usize, Status> = BTreeMap::new();
        let mut most = None;
        let mut until = due;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until.into(), asked.next()).await {
            match answer {
                Ok((at, status)) => {
                    // Who belongs to no cluster may be the only one that lives, and only that is said then.
                    let more = if status.cluster_id.is_some() { HEDGE_AFTER } else { SEARCH_MORE };
                    let more = more.min(self.timeout / 4);
                    until = until.min(Instant::now() + more);
                    told.insert(at, status);
                }
                Err(failure) => most = Some(Failure::with_most_to_say(most, failure)),
            }
        }
        let all = told.iter().map(|(at, status)| (self.endpoints[*at].as_str(), status));
        if let Some(error) = differ(all) {
            return Err(Failure { error, may_try_another: false, heard: Heard::Answer });
        }
        let (mut order, outside): (Vec<usize>, Vec<usize>) = self
            .order()
            .filter(|at| told.contains_key(at))
            .partition(|at| told.get(at).is_some_and(|status| status.cluster_id.is_some()));
        order.extend(outside);
        match order.first() {
            Some(&at) => {
                self.proves(at);
                Ok(order)
            }
            None => Err(most.unwrap_or_else(|| Failure::of_silence(&self.endpoints[0]))),
        }
    }

    /// Waits until the members are decided to be as `wanted` says; false if they are not within that time, or within
    /// the time that an answer may take.
    pub async fn settles(&self, within: Duration, wanted: impl Fn(&Members) -> bool) -> bool {
        let due = Instant::now() + self.timeout;
        let deadline = Instant::now() + within.min(self.timeout);
        loop {
            let left = due.saturating_duration_since(Instant::now()).max(TIMEOUT_MIN);
            let members = Client { timeout: left, ..self.clone() }.members().await;
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

/// How long others are waited for once a node has answered that belongs to no cluster.
const SEARCH_MORE: Duration = Duration::from_secs(3);
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
