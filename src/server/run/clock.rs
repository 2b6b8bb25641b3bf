//! The clock that leases trust.

use crate::raft::Moment;

/// Since the host started, the time that it slept included: a leader whose host was suspended must not
/// think that its lease still holds.
pub(crate) fn now() -> Moment {
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let us = |value: i64, per: u64| u64::try_from(value).unwrap_or(0).saturating_mul(per);
    Moment(us(since.tv_sec, 1_000_000).saturating_add(us(since.tv_nsec, 1) / 1000))
}
