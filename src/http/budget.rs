//! The memory that answers may take, all together and those of one address, what bodies of one address may take, and how
//! many of one address may wait.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::Extensions;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::error::{Kind, Problem};
use crate::server::Refusal;

/// What counts as a small answer, in bytes.
const SMALL_BYTES: usize = 4096;

/// So much of something may be taken at a time.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl Counter {
    /// Takes so much, if no more than `max` is taken then; one alone may be larger.
    fn take(&self, amount: usize, max: usize) -> bool {
        let fits = |used: usize| {
            let now = used.checked_add(amount)?;
            (now <= max || used == 0).then_some(now)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Takes so much, whatever is taken already.
    fn force(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn give_back(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the requests of one address hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    requests: Counter,
    answer_bytes: Counter,
    waiters: Counter,
    body_bytes: OnceLock<BodyBytes>,
}

/// One permit for each byte that the bodies of one address may have.
#[derive(Clone, Debug)]
pub(super) struct BodyBytes {
    /// Of small ones.
    pub(super) small: Arc<Semaphore>,
    /// Of others.
    pub(super) large: Arc<Semaphore>,
}

/// Whom a request is from: the address of its connection; nobody's if a peer passed it on.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    held: Option<Arc<Held>>,
    from: Option<IpAddr>,
}

impl Guest {
    /// One more address.
    pub(super) fn new() -> Guest {
        Guest { held: Some(Arc::default()), from: None }
    }

    /// The same for a connection from that address: what it holds counts with others of the same host.
    pub(super) fn at(&self, from: IpAddr) -> Guest {
        Guest { from: Some(from), ..self.clone() }
    }

    /// The address that its requests come from.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.from
    }

    /// The one that a request carries.
    pub(super) fn of(extensions: &Extensions) -> Guest {
        extensions.get::<Guest>().cloned().unwrap_or_default()
    }

    /// What its bodies may take, made when it has the first; none if there is no bound.
    pub(super) fn body_bytes(&self, make: impl FnOnce() -> BodyBytes) -> Option<BodyBytes> {
        self.held.as_ref().map(|held| held.body_bytes.get_or_init(make).clone())
    }

    /// A place to wait at; it is free again when this is dropped.
    pub(super) fn wait(&self, max: usize) -> Result<Waiting<'_>, Problem> {
        if let Some(held) = &self.held
            && !held.waiters.take(1, max.max(1))
        {
            let detail =
                "too many requests of this address wait for a change (half of limits.waiters)";
            return Err(Problem::new(Kind::TooBusy, detail).refused(Refusal::Waiters));
        }
        Ok(Waiting(self))
    }
}

/// One who waits, as long as this is held.
pub(super) struct Waiting<'a>(&'a Guest);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(held) = &self.0.held {
            held.waiters.give_back(1);
        }
    }
}

/// How many requests are carried out at a time: so many that a machine has enough to do, and so few that none of them waits long
/// for the others. Whoever finds no place is refused for little, before anything was done.
#[derive(Debug)]
pub(super) struct Requests {
    under_way: Counter,
    max: usize,
}

impl Requests {
    /// So many for all; half of them for one address.
    pub(super) fn new(max: usize) -> Requests {
        Requests { under_way: Counter::default(), max }
    }

    /// A place to be carried out in; it is free again when this is dropped.
    pub(super) fn begin<'a>(&'a self, guest: &'a Guest) -> Result<UnderWay<'a>, Problem> {
        let held = guest.held.as_deref();
        if held.is_some_and(|held| !held.requests.take(1, (self.max / 2).max(1))) {
            let detail =
                "too many requests of this address are carried out (half of limits.requests)";
            return Err(Problem::new(Kind::TooBusy, detail).refused(Refusal::Requests));
        }
        if !self.under_way.take(1, self.max) {
            if let Some(held) = held {
                held.requests.give_back(1);
            }
            let detail = "too many requests are carried out (limits.requests)";
            return Err(Problem::new(Kind::TooBusy, detail).refused(Refusal::Requests));
        }
        Ok(UnderWay { requests: self, held })
    }
}

/// A request that is carried out, as long as this is held.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    requests: &'a Requests,
    held: Option<&'a Held>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.requests.under_way.give_back(1);
        if let Some(held) = self.held {
            held.requests.give_back(1);
        }
    }
}

/// The memory set aside for answers.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    used: Arc<Counter>,
    max: usize,
}

impl Answers {
    /// So many bytes for all; half of them for one address.
    pub(super) fn new(max: usize) -> Answers {
        Answers { used: Arc::default(), max }
    }

    /// Sets memory aside before there is something to put into it.
    pub(super) fn reserve(&self, guest: &Guest, bytes: usize) -> Result<Share, Problem> {
        // Large answers that nobody takes leave room for small ones.
        let more = if bytes <= SMALL_BYTES { self.max / 4 } else { 0 };
        let whose = match &guest.held {
            Some(held) if !held.answer_bytes.take(bytes, (self.max + more) / 2) => {
                Some("of this address")
            }
            _ if !self.used.take(bytes, self.max + more) => {
                if let Some(held) = &guest.held {
                    held.answer_bytes.give_back(bytes);
                }
                Some("of other requests")
            }
            _ => None,
        };
        match whose {
            None => Ok(Share { used: self.used.clone(), guest: guest.clone(), bytes }),
            Some(whose) => {
                let detail = format!(
                    "answers {whose} that were not taken yet fill the memory set aside for them \
                     (limits.answers)"
                );
                Err(Problem::new(Kind::TooBusy, detail).refused(Refusal::Answers))
            }
        }
    }

    /// These bytes; they count until the last of them is dropped.
    pub(super) fn hold(&self, guest: &Guest, bytes: Bytes) -> Result<Bytes, Problem> {
        Ok(self.reserve(guest, bytes.len())?.seal(bytes))
    }

    /// The same, whatever is held already: of an answer that must be given, or of a small part of one.
    pub(super) fn hold_anyway(&self, bytes: Bytes) -> Bytes {
        self.used.force(bytes.len());
        let bytes_held = bytes.len();
        let guest = Guest::default();
        Share { used: self.used.clone(), guest, bytes: bytes_held }.seal(bytes)
    }

    /// How many bytes are held.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.used()
    }
}

/// A share of the memory set aside for answers, until it is dropped.
pub(super) struct Share {
    used: Arc<Counter>,
    guest: Guest,
    bytes: usize,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Share {
    /// The bytes that it was set aside for, whose share they carry.
    fn seal(self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() { bytes } else { Bytes::from_owner(Sealed { bytes, _share: self }) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.give_back(self.bytes);
        if let Some(held) = &self.guest.held {
            held.answer_bytes.give_back(self.bytes);
        }
    }
}

/// Bytes and their share, which goes when they do.
struct Sealed {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_share_a_budget_until_their_last_byte_is_gone() {
        let answers = Answers::new(100 * SMALL_BYTES);
        let (one, two) = (Guest::new(), Guest::new());
        let held = answers.hold(&one, Bytes::from(vec![1; 40 * SMALL_BYTES])).unwrap();
        assert_eq!(
            answers.hold(&one, Bytes::from(vec![1; 20 * SMALL_BYTES])).unwrap_err().kind(),
            Kind::TooBusy
        );
        let other = answers.hold(&two, Bytes::from(vec![2; 50 * SMALL_BYTES])).unwrap();
        assert_eq!(
            answers.hold(&Guest::default(), held.slice(..20 * SMALL_BYTES)).unwrap_err().kind(),
            Kind::TooBusy
        );
        let part = held.slice(3..4);
        drop(held);
        assert_eq!(answers.used(), 90 * SMALL_BYTES);
        // There is room for small ones.
        drop(answers.hold(&one, Bytes::from_static(b"small")).unwrap());
        drop((part, other));
        assert_eq!(answers.used(), 0);
        // One alone may be larger than all.
        assert_eq!(
            answers.hold(&one, Bytes::from(vec![1; 400 * SMALL_BYTES])).unwrap().len(),
            400 * SMALL_BYTES
        );
        let share = answers.reserve(&one, 10).unwrap();
        assert_eq!(answers.used(), 10);
        drop(share);
        drop(answers.hold_anyway(Bytes::from_static(b"x")));
        assert_eq!((answers.used(), one.held.unwrap().answer_bytes.used()), (0, 0));
    }

    #[test]
    fn requests_are_counted_and_those_of_one_address_are_half_of_them() {
        let (one, two, peer) = (Guest::new(), Guest::new(), Guest::default());
        let requests = Requests::new(4);
        let first = requests.begin(&one).unwrap();
        let _second = requests.begin(&one).unwrap();
        let refused = requests.begin(&one).unwrap_err();
        assert_eq!((refused.kind(), requests.under_way.used()), (Kind::TooBusy, 2));
        let _others = [requests.begin(&two).unwrap(), requests.begin(&peer).unwrap()];
        assert_eq!(requests.begin(&two).unwrap_err().kind(), Kind::TooBusy);
        assert_eq!(
            two.held.as_ref().unwrap().requests.used(),
            1,
            "nothing is kept of who is refused"
        );
        drop(first);
        drop(requests.begin(&two).unwrap());
        assert_eq!(requests.under_way.used(), 3);
    }

    #[test]
    fn places_to_wait_are_counted_by_address() {
        let (one, two) = (Guest::new(), Guest::new());
        let first = one.wait(2).unwrap();
        let _second = one.wait(2).unwrap();
        assert_eq!(one.wait(2).err().unwrap().kind(), Kind::TooBusy);
        assert!(two.wait(2).is_ok() && Guest::default().wait(0).is_ok());
        drop(first);
        assert!(one.wait(2).is_ok());
    }
}
