//! When a leader gives up for its disk.

use std::time::Duration;

/// Whether a disk is so slow that a leader is to hand over: that of the log, which has not answered a write for so long, or
/// one that has not answered for so long what apply has to read. A leader has the time to find out after it has begun: where
/// all are as slow, they would hand over to each other at once, again and again.
pub fn is_disk_slow(
    write: Duration,
    lookup: Duration,
    leads_for: Duration,
    election_timeout: Duration,
) -> bool {
    write.max(lookup).min(leads_for) > election_timeout
}
