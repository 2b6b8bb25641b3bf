//! What peers ask, from any bytes.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use super::run::snapshots::{Received, Transfer};
use super::wire::{PeerReply, PeerRequest, decode, encode};

/// A request or a reply, of a transfer too, encodes to what decodes to it.
pub fn peer_requests(data: &[u8]) {
    round_trip::<PeerRequest>(data);
    round_trip::<PeerReply>(data);
    round_trip::<Transfer>(data);
    round_trip::<Received>(data);
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    if let Some(read) = decode::<T>(data) {
        assert_eq!(decode::<T>(&encode(&read)), Some(read));
    }
}
