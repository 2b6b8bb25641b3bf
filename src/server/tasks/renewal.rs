//! Renews a node's certificate in time. Its key stays on its host: a member that has the authority's key signs a request. Where
//! no member has it, the request lies in a file, and whoever looks after the node is told what to do with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use time::OffsetDateTime;

use crate::net::{Asking, RequestError};
use crate::pki::{self, Life, Material};
use crate::raft::NodeId;
use crate::server::certificates::Facts;
use crate::server::handle::Handle;
use crate::server::wire::{NotSigned, PeerReply, PeerRequest};

/// How often to look whether it is time, by the wall clock, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long one member may take to sign.
const SIGN_TIME_MAX: Duration = Duration::from_secs(5);

/// What the task is given.
pub(crate) struct Renewing {
    pub(crate) handle: Handle,
    pub(crate) facts: Arc<ArcSwap<Facts>>,
}

/// When to try: what came of it since the certificate was due.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tries {
    failures: u32,
    last: Option<OffsetDateTime>,
}

impl Tries {
    fn is_due(&self, life: Life, now: OffsetDateTime, spread: f64) -> bool {
        now >= life.renewal(spread)
            && self.last.is_none_or(|last| {
                // A clock that was set back does not keep it waiting.
                now < last
                    || now - last >= life.pause(last, self.failures.saturating_sub(1), spread)
            })
    }

    fn failed(&mut self, now: OffsetDateTime) {
        *self = Tries { failures: self.failures.saturating_add(1), last: Some(now) };
    }
}

/// Why there is no new certificate.
enum Not {
    /// No member has the authority's key.
    Outside,
    /// Something went wrong, as a part of a sentence.
    Failed(String),
}

impl Renewing {
    /// Renews the certificate when it is time, and when somebody asks for it.
    pub(crate) async fn run(self) {
        let spread = rand::random();
        let (mut life, mut tries) = (None, Tries::default());
        loop {
            let asks = tokio::select! {
                asks = self.handle.shared.renewal.asked() => asks,
                () = tokio::time::sleep(LOOK_EVERY) => Vec::new(),
            };
            let now = OffsetDateTime::now_utc();
            let in_use = self.facts.load().life;
            if life != in_use {
                // It was renewed, be it by somebody else.
                (life, tries) = (in_use, Tries::default());
                self.handle.shared.renewal.set_waits_for(None);
            }
            let Some(in_use) = in_use else { continue };
            if asks.is_empty() && !tries.is_due(in_use, now, spread) {
                continue;
            }
            let renewed = self.renew().await;
            let told = match renewed {
                Ok(until) => {
                    tracing::info!(until, "this node's certificate was renewed");
                    self.handle.shared.renewal.installed.notify_one();
                    Ok(until)
                }
                Err(not) => {
                    tries.failed(now);
                    Err(self.tell(not, in_use))
                }
            };
            for ask in asks {
                // Whoever asked may have gone.
                let _ = ask.send(told.clone());
            }
        }
    }

    /// Says what the renewal waits for; the sentence.
    fn tell(&self, not: Not, life: Life) -> String {
        let config = &self.handle.shared.config;
        let what = match not {
            Not::Outside => {
                let request = pki::request_file(&config.tls.cert);
                format!(
                    "no member has the authority's key, so an operator signs the next certificate of {}: {} is the request; \
                     where the authority is, `konsen cert sign --request {}` makes a certificate of it, to be put on this \
                     node's host into {}",
                    config.name,
                    request.display(),
                    request.file_name().unwrap_or_default().display(),
                    config.tls.cert.display()
                )
            }
            Not::Failed(why) => format!(
                "the certificate of {}, which ends {}, could not be renewed: {why}; it is tried again",
                config.name,
                pki::rfc3339(life.until)
            ),
        };
        let waits_for = &self.handle.shared.renewal;
        if waits_for.waits_for().is_none_or(|before| *before != what) {
            tracing::warn!("{what}");
        }
        waits_for.set_waits_for(Some(what.clone()));
        what
    }

    async fn renew(&self) -> Result<String, Not> {
        let config = &self.handle.shared.config;
        let failed = |error: &dyn std::fmt::Display| Not::Failed(error.to_string());
        let material = config.material().map_err(|error| failed(&error))?;
        let tls = &config.tls;
        let prepared = pki::prepare(&material.identity, &material.hosts, &tls.key)
            .map_err(|error| failed(&error))?;
        let signed = match self.signed(&prepared.request, &material).await {
            Ok(signed) => signed,
            Err(not) => {
                if matches!(not, Not::Outside) {
                    prepared.leave_request(&tls.cert).map_err(|error| failed(&error))?;
                }
                return Err(not);
            }
        };
        let until = pki::install(&signed, &material.identity, &tls.ca, &tls.cert, &tls.key)
            .map_err(|error| failed(&error))?;
        Ok(pki::rfc3339(until))
    }

    /// Has one of the members sign, this one first.
    async fn signed(&self, request: &str, material: &Material) -> Result<String, Not> {
        let own = self.handle.id();
        let mut refused = Vec::new();
        if let Some(leaf) = material.chain.first() {
            let asking = Asking { id: own, certificate: Arc::new(leaf.clone()) };
            match self.handle.sign(&asking, request.as_bytes()) {
                Ok(signed) => return Ok(signed),
                Err(NotSigned::NoSigner) => {}
                Err(NotSigned::Refused(why)) => refused.push(format!("this node: {why}")),
            }
        }
        let Some(now) = self.handle.membership() else {
            return Err(Not::Failed("this node belongs to no cluster yet".to_owned()));
        };
        for (id, member) in now.members.iter().filter(|(id, member)| **id != own && member.seen) {
            match self.ask(*id, request).await {
                Ok(Ok(signed)) => return Ok(signed),
                Ok(Err(NotSigned::NoSigner)) => {}
                Ok(Err(NotSigned::Refused(why))) => refused.push(format!("{}: {why}", member.name)),
                Err(_) => refused.push(format!("{} does not answer", member.name)),
            }
        }
        Err(if refused.is_empty() { Not::Outside } else { Not::Failed(refused.join("; ")) })
    }

    async fn ask(
        &self,
        id: NodeId,
        request: &str,
    ) -> Result<Result<String, NotSigned>, RequestError> {
        let question = PeerRequest::Sign { request: Bytes::copy_from_slice(request.as_bytes()) };
        match self.handle.ask(id, &question, Instant::now() + SIGN_TIME_MAX).await? {
            Some(PeerReply::Signed(signed)) => Ok(signed),
            // An earlier release, which signs nothing.
            _ => Ok(Err(NotSigned::NoSigner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn what_fails_is_tried_again_after_a_while_and_after_a_clock_was_set_back() {
        let from = OffsetDateTime::UNIX_EPOCH;
        let life = Life { from, until: from + Duration::days(90) };
        let mut tries = Tries::default();
        assert!(!tries.is_due(life, from + Duration::days(59), 0.0));
        let due = from + Duration::days(60);
        assert!(tries.is_due(life, due, 0.0));
        tries.failed(due);
        assert!(!tries.is_due(life, due + Duration::seconds(1), 0.0));
        assert!(tries.is_due(life, due + Duration::minutes(1), 0.0));
        for _ in 0..20 {
            tries.failed(due);
        }
        assert!(!tries.is_due(life, due + Duration::minutes(59), 0.0));
        assert!(tries.is_due(life, due + Duration::hours(1), 0.0));
        let later = due + Duration::days(1);
        tries.failed(later);
        assert!(tries.is_due(life, due, 0.0), "the clock was set back by a day");
    }
}
