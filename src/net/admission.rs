//! Whose handshakes are taken up: anybody can ask for one, and each costs memory, time and a signature.
//!
//! Places and rates are apart for addresses where members are known to be and for all others, so that no crowd
//! of strangers keeps out a member that was restarted.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The most handshakes under way with addresses of members.
pub(super) const MEMBERS_MAX: usize = 128;
/// The most of them with one such address.
pub(super) const PER_MEMBER_MAX: usize = 32;
/// The most handshakes under way with others.
pub(super) const STRANGERS_MAX: usize = 64;
/// The most of them with one address; of IPv6 with one network of 64 bits.
pub(super) const PER_STRANGER_MAX: usize = 8;
/// With so many strangers at the door, they first have to prove that their address is theirs.
const STRANGERS_BUSY: usize = 8;
/// The most handshakes with strangers that begin in a second.
pub(super) const STRANGERS_PER_SECOND: u32 = 100;
/// The most addresses of members that are remembered; with more, all are learnt anew.
const KNOWN_MAX: usize = 1024;

/// What becomes of who asks for a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has this place until [`Admission::ended`].
    Begin(Place),
    /// It has to prove its address first (RFC 9000, section 8.1.2).
    Prove,
    /// There is no place for it now.
    Refuse,
}

/// The place of a handshake that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    network: IpAddr,
    member: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Admission {
    known: HashSet<IpAddr>,
    under_way: HashMap<IpAddr, usize>,
    members: usize,
    strangers: usize,
    /// What strangers may still begin.
    credit: f64,
    counted: Instant,
}

impl Admission {
    pub(super) fn new(now: Instant) -> Admission {
        Admission {
            known: HashSet::new(),
            under_way: HashMap::new(),
            members: 0,
            strangers: 0,
            credit: f64::from(STRANGERS_PER_SECOND),
            counted: now,
        }
    }

    /// A member is, or may be, at that address.
    pub(super) fn learn(&mut self, address: IpAddr) {
        let network = network_of(address);
        // Those that members have now are learnt again as they are dialled and come; those of years ago are not.
        if self.known.len() >= KNOWN_MAX && !self.known.contains(&network) {
            self.known.clear();
        }
        self.known.insert(network);
    }

    /// Decides about a handshake; `proved`: the address is known to be the asker's.
    pub(super) fn ask(&mut self, address: IpAddr, proved: bool, now: Instant) -> Verdict {
        let network = network_of(address);
        let with_it = self.under_way.get(&network).copied().unwrap_or(0);
        let member = self.known.contains(&network);
        if member {
            if with_it >= PER_MEMBER_MAX || self.members >= MEMBERS_MAX {
                return Verdict::Refuse;
            }
            // Somebody else may claim the address: half of its places are for those who prove it.
            if !proved && with_it >= PER_MEMBER_MAX / 2 {
                return Verdict::Prove;
            }
            self.members += 1;
        } else {
            if with_it >= PER_STRANGER_MAX || self.strangers >= STRANGERS_MAX {
                return Verdict::Refuse;
            }
            if !proved && self.strangers >= STRANGERS_BUSY {
                return Verdict::Prove;
            }
            if !self.spend(now) {
                return Verdict::Refuse;
            }
            self.strangers += 1;
        }
        *self.under_way.entry(network).or_default() += 1;
        Verdict::Begin(Place { network, member })
    }

    /// A handshake that began is over, well or badly.
    pub(super) fn ended(&mut self, Place { network, member }: Place) {
        if let Some(with_it) = self.under_way.get_mut(&network) {
            *with_it -= 1;
            if *with_it == 0 {
                self.under_way.remove(&network);
            }
        }
        let count = if member { &mut self.members } else { &mut self.strangers };
        *count -= 1;
    }

    fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).min(Duration::from_secs(1));
        self.counted = now;
        let most = f64::from(STRANGERS_PER_SECOND);
        self.credit = (self.credit + passed.as_secs_f64() * most).min(most);
        let may = self.credit >= 1.0;
        if may {
            self.credit -= 1.0;
        }
        may
    }
}

/// Whoever has one address of an IPv6 network has all of them.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> IpAddr {
        IpAddr::from([127, 0, 1, n])
    }

    fn begins(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Begin(_))
    }

    #[test]
    fn strangers_leave_the_places_of_members_alone() {
        let now = Instant::now();
        let mut door = Admission::new(now);
        door.learn(at(1));
        // Each of many proves its address, as whoever really has it can.
        let begun = (2..=200).filter(|stranger| begins(door.ask(at(*stranger), true, now)));
        assert_eq!(begun.count(), STRANGERS_MAX);
        let Verdict::Begin(first) = door.ask(at(1), false, now) else { panic!() };
        for _ in 1..PER_MEMBER_MAX / 2 {
            assert!(begins(door.ask(at(1), false, now)));
        }
        for _ in 0..PER_MEMBER_MAX / 2 {
            assert_eq!(door.ask(at(1), false, now), Verdict::Prove);
            assert!(begins(door.ask(at(1), true, now)));
        }
        assert_eq!(door.ask(at(1), true, now), Verdict::Refuse);
        door.ended(first);
        assert!(begins(door.ask(at(1), true, now)));
    }

    #[test]
    fn members_are_bounded_together_as_well_as_each() {
        let now = Instant::now();
        let mut door = Admission::new(now);
        let members = 1..=10;
        members.clone().for_each(|member| door.learn(at(member)));
        let asks = members.flat_map(|member| std::iter::repeat_n(at(member), PER_MEMBER_MAX));
        let begun = asks.filter(|member| begins(door.ask(*member, true, now))).count();
        assert_eq!(begun, MEMBERS_MAX);
        // It has none under way itself.
        assert_eq!(door.ask(at(10), true, now), Verdict::Refuse);
    }

    #[test]
    fn who_becomes_known_gives_its_place_back_where_it_had_it() {
        let now = Instant::now();
        let mut door = Admission::new(now);
        let Verdict::Begin(place) = door.ask(at(1), false, now) else { panic!() };
        door.learn(at(1));
        assert!(begins(door.ask(at(1), false, now)));
        door.ended(place);
        assert_eq!((door.members, door.strangers), (1, 0));
    }

    #[test]
    fn members_that_move_for_years_are_learnt_all_the_same() {
        let now = Instant::now();
        let mut door = Admission::new(now);
        for n in 0..=u32::try_from(KNOWN_MAX).unwrap() {
            door.learn(IpAddr::from(n.to_be_bytes()));
        }
        door.learn(at(1));
        assert!(door.known.contains(&at(1)) && door.known.len() <= KNOWN_MAX);
    }

    #[test]
    fn one_stranger_has_few_places_and_a_crowd_has_to_prove_itself() {
        let now = Instant::now();
        let mut door = Admission::new(now);
        for _ in 0..PER_STRANGER_MAX {
            assert!(begins(door.ask(at(9), false, now)));
        }
        assert_eq!(door.ask(at(9), true, now), Verdict::Refuse);
        assert_eq!(door.ask(at(10), false, now), Verdict::Prove);
        assert!(begins(door.ask(at(10), true, now)));
        let [a, b] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse::<IpAddr>());
        let (Ok(a), Ok(b)) = (a, b) else { panic!("addresses") };
        for _ in 0..PER_STRANGER_MAX {
            assert!(begins(door.ask(a, true, now)));
        }
        assert_eq!(door.ask(b, true, now), Verdict::Refuse, "of the same network");
    }

    #[test]
    fn strangers_begin_so_many_handshakes_a_second() {
        let start = Instant::now();
        let mut door = Admission::new(start);
        let mut begun = 0;
        for millisecond in 0..5_000u64 {
            let now = start + Duration::from_millis(millisecond);
            let stranger = at(u8::try_from(millisecond % 250).unwrap_or(0));
            if let Verdict::Begin(place) = door.ask(stranger, true, now) {
                begun += 1;
                door.ended(place);
            }
        }
        assert!((500..=601).contains(&begun), "{begun}");
        assert!(door.under_way.is_empty() && door.strangers == 0);
    }
}
