//! How often each user asks: the generic cell rate algorithm (ITU-T I.371, annex A), whose state is one moment a user.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::{Kind, Problem};
use crate::api::Caller;
use crate::kv::Name;
use crate::server::Refusal;

/// The most users that are remembered; those who have not asked for a while are forgotten first. There are no more users than
/// that where none is deleted and made again all the time.
const USERS_MAX: usize = 16_384;

/// So many requests a second for each user, after as many at once.
#[derive(Debug)]
pub(super) struct Rates {
    /// Between two requests; none: no bound.
    interval: Option<Duration>,
    /// When the next request of each would be due, if it asked as evenly as it may.
    due: Mutex<HashMap<Name, Instant>>,
}

impl Rates {
    pub(super) fn new(a_second: Option<u64>) -> Rates {
        let interval = a_second
            .map(|rate| Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX));
        Rates { interval, due: Mutex::default() }
    }

    /// One more request of a user.
    ///
    /// # Errors
    /// It comes too early.
    pub(super) fn begin(&self, caller: &Caller, now: Instant) -> Result<(), Problem> {
        let (Some(interval), Some(user)) = (self.interval, caller.user()) else { return Ok(()) };
        let mut all = self.due.lock();
        if all.len() >= USERS_MAX && !all.contains_key(user) {
            all.retain(|_, due| *due > now);
        }
        let due = match all.get_mut(user) {
            Some(due) => due,
            None => all.entry(user.clone()).or_insert(now),
        };
        let next = (*due).max(now) + interval;
        if next > now + Duration::from_secs(1).max(interval) {
            let detail = format!(
                "the user {user} asks more often than {} times a second (limits.userRate)",
                1_000_000_000 / interval.as_nanos().max(1)
            );
            return Err(Problem::new(Kind::TooBusy, detail).refused(Refusal::UserRate));
        }
        *due = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Proof;

    fn user(name: &str) -> Caller {
        Caller::User { name: name.parse().unwrap(), by: Proof::Token([1; 32]) }
    }

    #[test]
    fn a_user_has_as_many_at_once_as_in_a_second() {
        let rates = Rates::new(Some(10));
        let now = Instant::now();
        let alice = user("alice");
        let asked = |at: Duration| rates.begin(&alice, now + at).is_ok();
        let ten = (0..20).filter(|_| asked(Duration::ZERO)).count();
        assert_eq!(ten, 10);
        assert!(!asked(Duration::from_millis(90)) && asked(Duration::from_millis(110)));
        assert!(!asked(Duration::from_millis(120)));
        // Another is another, and whoever is no user is not counted.
        assert!(rates.begin(&user("bob"), now).is_ok());
        assert!((0..100).all(|_| rates.begin(&Caller::Anybody, now).is_ok()));
        let later = (0..20).filter(|_| asked(Duration::from_secs(60))).count();
        assert_eq!(later, 10);
        let unbound = Rates::new(None);
        assert!((0..1000).all(|_| unbound.begin(&alice, now).is_ok()));
    }

    #[test]
    fn no_more_users_are_remembered_than_there_may_be() {
        let rates = Rates::new(Some(1000));
        let mut now = Instant::now();
        for number in 0..3 * USERS_MAX {
            now += Duration::from_millis(1);
            rates.begin(&user(&format!("user-{number}")), now).unwrap();
        }
        assert!(rates.due.lock().len() <= USERS_MAX + 1);
    }
}
