//! Places for connections: so many at all, so many of one address, and a few that are kept for asking how the node is and
//! for administration.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Guest;
use crate::api::Limits;

/// How many connections there may be beside `limits.connections`, each for one request about the node or the cluster.
pub const SPARE_CONNECTIONS: usize = 64;
/// How many of them one address may have.
const SPARE_PER_ADDRESS: usize = SPARE_CONNECTIONS / 2;

/// What the spare places are for.
const SPARE_PATHS: &[&str] = &[
    "/healthz",
    "/readyz",
    "/metrics",
    "/health",
    "/ready",
    "/api/status",
    "/v1/status",
    "/v1/compact",
    "/v1/cluster",
];

/// Whether a request is what the spare places are for.
pub(super) fn is_spare(path: &str) -> bool {
    SPARE_PATHS.contains(&path) || path.starts_with("/v1/cluster/") || path.starts_with("/v1/auth/")
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    per_address_max: usize,
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    spare: usize,
    guest: Option<Guest>,
}

/// A place for a connection that is about to be accepted.
#[derive(Debug)]
pub(super) struct Free {
    permit: OwnedSemaphorePermit,
    spare: bool,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    /// Whether it is for one request about the node or the cluster.
    pub(super) spare: bool,
    /// Whom its requests are from.
    pub(super) guest: Guest,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Places> {
        let all = limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Places {
            all: Arc::new(Semaphore::new(all)),
            spare: Arc::new(Semaphore::new(SPARE_CONNECTIONS)),
            per_address_max: limits.connections_per_address_max,
            addresses: Mutex::default(),
        })
    }

    /// Waits until there is a place.
    pub(super) async fn free(&self) -> io::Result<Free> {
        // Neither is ever closed.
        let (permit, spare) = tokio::select! {
            biased;
            permit = self.all.clone().acquire_owned() => (permit, false),
            permit = self.spare.clone().acquire_owned() => (permit, true),
        };
        Ok(Free { permit: permit.map_err(io::Error::other)?, spare })
    }

    /// A place, if there is one.
    pub(super) fn free_now(&self) -> Option<Free> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        Some(Free { permit, spare: false })
    }

    /// Gives a place to a connection from that address; none if the address has too many.
    pub(super) fn take(self: &Arc<Self>, free: Free, address: IpAddr) -> Option<Place> {
        let from = address;
        let address = whose(address);
        let mut addresses = self.addresses.lock();
        let of = addresses.entry(address).or_default();
        let Free { mut permit, mut spare } = free;
        // One may have become free while the connection was waited for.
        if spare && let Ok(other) = self.all.clone().try_acquire_owned() {
            (permit, spare) = (other, false);
        }
        if !spare && of.connections >= self.per_address_max {
            // What is left of the others' places is not its.
            spare = true;
            match self.spare.clone().try_acquire_owned() {
                Ok(other) => permit = other,
                Err(_) => return None,
            }
        }
        if spare {
            if of.spare >= SPARE_PER_ADDRESS {
                if of.spare + of.connections == 0 {
                    addresses.remove(&address);
                }
                return None;
            }
            of.spare += 1;
        } else {
            of.connections += 1;
        }
        let guest = of.guest.get_or_insert_with(Guest::new).at(from);
        Some(Place { places: self.clone(), address, spare, guest, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.places.addresses.lock();
        let Some(of) = addresses.get_mut(&self.address) else { return };
        if self.spare {
            of.spare -= 1;
        } else {
            of.connections -= 1;
        }
        if of.connections + of.spare == 0 {
            addresses.remove(&self.address);
        }
    }
}

/// What counts as one address: of IPv6 whatever one host is usually given.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: usize, per_address_max: usize) -> Arc<Places> {
        Arc::new(Places {
            all: Arc::new(Semaphore::new(all)),
            spare: Arc::new(Semaphore::new(SPARE_CONNECTIONS)),
            per_address_max,
            addresses: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_a_few_places_are_kept() {
        let places = places(5, 2);
        let (one, other) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let mut taken = Vec::new();
        for _ in 0..2 {
            taken.push(places.take(places.free().await.unwrap(), one).unwrap());
        }
        assert!(taken.iter().all(|place| !place.spare));
        for _ in 0..SPARE_PER_ADDRESS {
            let place = places.take(places.free().await.unwrap(), one).unwrap();
            assert!(place.spare);
            taken.push(place);
        }
        assert!(places.take(places.free().await.unwrap(), one).is_none());
        let others: Vec<Place> =
            (0..2).map(|_| places.take(places.free_now().unwrap(), other).unwrap()).collect();
        assert!(others.iter().all(|place| !place.spare));
        drop(taken);
        assert!(!places.take(places.free().await.unwrap(), one).unwrap().spare);
        drop(others);
        // Of those that are waited for at a spare place, too.
        let all: Vec<_> = std::iter::from_fn(|| places.free_now()).collect();
        let free = places.free().await.unwrap();
        assert!(free.spare);
        drop(all);
        assert!(!places.take(free, other).unwrap().spare);
        assert!(places.addresses.lock().is_empty());
    }

    #[test]
    fn hosts_are_told_apart_by_what_they_are_given() {
        let of = |text: &str| whose(text.parse().unwrap()).to_string();
        assert_eq!(of("10.0.0.7"), "10.0.0.7");
        assert_eq!(of("::ffff:10.0.0.7"), "10.0.0.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn health_and_administration_are_spared_a_place() {
        let spared =
            ["/healthz", "/v1/cluster/members/node1", "/v1/status", "/metrics", "/v1/auth/users/x"];
        for path in spared {
            assert!(is_spare(path), "{path}");
        }
        for path in ["/v1/kv/healthz", "/v1/snapshot", "/", "/v1/clusters"] {
            assert!(!is_spare(path), "{path}");
        }
    }
}
