//! Whose certificates may be revoked.

use crate::api::SeeAccess;
use crate::kv::Serial;
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;

/// How long a certificate may still be good of whose end nothing is known, in seconds: ten years.
const UNKNOWN_LIFE: u64 = 10 * 366 * 24 * 3600;

impl Handle {
    /// When the last certificate of the cluster's authority ends at the latest, in seconds since 1970.
    pub fn certificates_end(&self, now: u64) -> u64 {
        let last = self.shared.facts.load().last_end().and_then(|end| u64::try_from(end).ok());
        last.filter(|end| *end > now).unwrap_or(now.saturating_add(UNKNOWN_LIFE))
    }

    /// Whether enough voters could still speak to each other if a certificate were revoked: else nobody could ever take that
    /// back.
    ///
    /// # Errors
    /// Whose certificate it is and what to do, as a sentence.
    pub fn spares_quorum(&self, _: &Allowed<SeeAccess>, serial: &Serial) -> Result<(), String> {
        let Some(now) = self.membership() else { return Ok(()) };
        let access = self.state().access();
        let peers = self.net().peers();
        let own = self.shared.facts.load().serial;
        let shows = |id| match id == self.id() {
            true => own,
            false => {
                peers.iter().find(|peer| peer.seat == id).and_then(|peer| peer.certificate_serial)
            }
        };
        let voters: Vec<_> = now.voters.iter().map(|id| (*id, shows(*id))).collect();
        let Some((whose, _)) = voters.iter().find(|(_, shown)| shown.as_ref() == Some(serial))
        else {
            return Ok(());
        };
        let lost = voters.iter().filter(|(_, shown)| {
            shown
                .as_ref()
                .is_some_and(|shown| shown == serial || access.revoked().contains_key(shown))
        });
        if spares_quorum(voters.len(), lost.count()) {
            return Ok(());
        }
        let name = self.name_of(*whose).unwrap_or_default();
        Err(format!(
            "that is the certificate of {name}, and without it too few voters of {} could speak to each other: renew it first \
             (`konsen cert renew --member {name}`) and revoke the old one, or put {name} out",
            voters.len()
        ))
    }
}

/// Whether a majority of so many voters is left without those. The only one of a cluster speaks to nobody.
fn spares_quorum(voters: usize, lost: usize) -> bool {
    voters <= 1 || (voters - lost) * 2 > voters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_has_to_be_left() {
        let spares = |voters, lost| spares_quorum(voters, lost);
        assert!(spares(1, 1) && spares(3, 1) && spares(5, 2) && spares(4, 1));
        assert!(!spares(2, 1) && !spares(3, 2) && !spares(4, 2) && !spares(5, 3));
    }
}
