//! Whether a request is allowed: one piece of code for all that clients ask for, and for what peers pass on for them.
//!
//! Whatever serves a client takes its request as [`Allowed`] only, and [`Handle::allow`] is the one way to such a one. A kind of
//! request that does not say what it needs ([`Asks`]) cannot become one.
//!
//! It is found out when the request comes, and once more where it is carried out: reads right before they look at the state,
//! writes as they are applied ([`Outcome::Outdated`](crate::kv::Outcome::Outdated)). So what is under way when a right is taken
//! is refused, whoever passed it on.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;

use super::handle::Handle;
use crate::api::{Caller, Consistency, Error, Proof, SeeAccess, SeeStatus};
use crate::config::ClientAuth;
use crate::kv::{Access, AccessRevision, Ask, Asks, FeatureLevel, Name, Serial, TokenHash};
use crate::pki::{self, PeerIdentity, Role};

/// How long a refusal may wait for what is committed by now.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(1);

/// A request that was found to be allowed, at one state of who may do what.
#[derive(Clone, Debug)]
pub struct Allowed<T> {
    request: T,
    caller: Caller,
    under: AccessRevision,
}

impl<T> Deref for Allowed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.request
    }
}

impl<T> Allowed<T> {
    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The request, for whoever has carried it out, or is to.
    pub(super) fn into_request(self) -> T {
        self.request
    }

    /// What the request is carried out as: it must need nothing beyond what the request does.
    pub(super) fn as_part<U>(&self, part: impl FnOnce(&T) -> U) -> Allowed<U> {
        let (caller, under) = (self.caller.clone(), self.under);
        Allowed { request: part(&self.request), caller, under }
    }
}

impl Handle {
    /// Whether not everybody may do everything: the cluster has decided so, or this node's configuration says that clients
    /// show who they are.
    pub fn controls_access(&self) -> bool {
        self.shared.config.http.client_auth != ClientAuth::None || self.state().access().is_on()
    }

    /// Lets a request through, if this caller may all that it asks for.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] and [`Error::Forbidden`]: nothing was done.
    pub fn allow<T: Asks>(&self, caller: &Caller, request: T) -> Result<Allowed<T>, Error> {
        let under = self.decide(caller, &request)?;
        Ok(Allowed { request, caller: caller.clone(), under })
    }

    /// The same for a client of this node, which may know of a right that it was given in a moment: what this node refuses it
    /// looks at once more when it has all that is committed by now.
    ///
    /// # Errors
    /// As [`Handle::allow`].
    pub async fn admit<T: Asks>(&self, caller: &Caller, request: T) -> Result<Allowed<T>, Error> {
        let under = match self.decide(caller, &request) {
            Err(_) if self.catches_up().await => self.decide(caller, &request)?,
            decided => decided?,
        };
        Ok(Allowed { request, caller: caller.clone(), under })
    }

    /// Waits until this node has what is committed now; whether it does.
    async fn catches_up(&self) -> bool {
        let deadline = Instant::now() + CATCH_UP_TIME_MAX;
        self.read_barrier(Consistency::Linearizable, None, deadline).await.is_ok()
    }

    /// Whether a request is still allowed, as of what this node has applied by now; by which state.
    ///
    /// # Errors
    /// As [`Handle::allow`].
    pub fn still_allowed<T: Asks>(&self, allowed: &Allowed<T>) -> Result<AccessRevision, Error> {
        let access = self.state().access();
        if access.revision() == allowed.under {
            // What ends by itself changes nothing.
            return self.still_holds(&access, &allowed.caller).map(|()| allowed.under);
        }
        self.decide(&allowed.caller, &allowed.request)
    }

    /// Waits until a request is not allowed any more.
    pub async fn until_forbidden<T: Asks>(&self, allowed: &Allowed<T>) {
        let mut access = self.shared.access.clone();
        while self.still_allowed(allowed).is_ok() {
            tokio::select! {
                changed = access.changed() => if changed.is_err() {
                    // The node stops, which says nothing of rights.
                    std::future::pending::<()>().await;
                },
                // What was shown ends by the clock.
                () = tokio::time::sleep(until_next_second()) => {}
            }
        }
    }

    /// Whose token has this hash; of one that is not known here yet as of all that is committed by now.
    pub async fn holder(&self, hash: &TokenHash) -> Option<Name> {
        let holder = || self.state().access().holder(hash, now()).cloned();
        match holder() {
            None if self.catches_up().await => holder(),
            holder => holder,
        }
    }

    /// Whom a certificate stands for, which a client showed and its connection was let in with.
    pub fn certified(&self, certificate: &CertificateDer<'_>) -> Option<Caller> {
        let identity = PeerIdentity::from_certificate(certificate).ok()?;
        let ends = pki::not_after(certificate).ok()?.unix_timestamp();
        let ends = u64::try_from(ends).unwrap_or_default();
        let serial = Serial::new(&pki::serial_of(certificate).ok()?).ok()?;
        Some(match identity.role {
            Role::Client => Caller::User {
                name: identity.name.as_str().parse().ok()?,
                by: Proof::Certificate { ends, serial },
            },
            Role::Node => Caller::Node { name: identity.name.to_string(), ends, serial },
        })
    }

    /// Whether a certificate was revoked, as this node has applied it.
    pub fn is_revoked(&self, serial: &Serial) -> bool {
        self.state().access().revoked().contains_key(serial)
    }

    /// Waits until a certificate is revoked.
    pub async fn until_revoked(&self, serial: &Serial) {
        let mut access = self.shared.access.clone();
        while !self.is_revoked(serial) {
            if access.changed().await.is_err() {
                // The node stops, which says nothing of certificates.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Everything about who may do what, as this node has it now.
    pub fn access(&self, _: &Allowed<SeeAccess>) -> Arc<Access> {
        self.state().access()
    }

    /// The roles of whoever asks, as this node has them now.
    pub fn own_roles(&self, known: &Allowed<SeeStatus>) -> BTreeSet<Name> {
        let access = self.state().access();
        let user = known.caller().user().and_then(|name| access.users().get(name));
        user.map(|user| user.roles.clone()).unwrap_or_default()
    }

    /// Whether all members know who asks what peers pass on: earlier releases do not.
    pub(super) fn peers_know_callers(&self) -> bool {
        self.state().level() >= FeatureLevel::ACCESS
    }

    fn decide(&self, caller: &Caller, request: &dyn Asks) -> Result<AccessRevision, Error> {
        let access = self.state().access();
        self.still_holds(&access, caller)?;
        let refused = match caller {
            Caller::Anybody => None,
            Caller::User { name, .. } if !access.users().contains_key(name) => {
                let what = format!(
                    "there is no user {name}; an administrator can make it: konsen auth user set {name}"
                );
                return Err(Error::Forbidden(what));
            }
            Caller::User { name, .. } => access.refuses(name, request),
            Caller::Node { .. } => {
                let mut refused = None;
                request.asks(&mut |ask| {
                    if ask != Ask::BeKnown {
                        refused = Some(ask.to_string());
                    }
                });
                refused
            }
        };
        match refused {
            None => Ok(access.revision()),
            Some(what) => Err(Error::Forbidden(format!("{caller} may not {what}"))),
        }
    }

    /// Whether it is still known who asks: a token may have been deleted, or its user, a certificate revoked, and everything ends.
    fn still_holds(&self, access: &Access, caller: &Caller) -> Result<(), Error> {
        let holds = match caller {
            Caller::Anybody => !self.controls_access(),
            Caller::User { name, by: Proof::Token(hash) } => {
                access.holder(hash, now()) == Some(name)
            }
            Caller::User { by: Proof::Certificate { ends, serial }, .. } => {
                now() < *ends && !self.is_revoked(serial)
            }
            Caller::Node { name, ends, serial } => {
                now() < *ends && !self.is_revoked(serial) && self.is_member(name)
            }
        };
        if holds { Ok(()) } else { Err(Error::Unauthenticated) }
    }

    fn is_member(&self, name: &str) -> bool {
        self.membership().is_some_and(|now| now.by_name(name).is_some())
    }
}

/// What ends, ends with a second.
fn until_next_second() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into())
}

/// Seconds since 1970, by this host's clock.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
