//! Who hears of what is applied.

use bytes::Bytes;

use crate::kv::Revision;

/// Hears of what is applied. It is called by the thread that applies, and must not keep it.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// Whether anybody wants to hear. Whoever says so before it reads the state hears of all that it does not
    /// read.
    fn watches(&self) -> bool;
    /// These keys changed; the state is of that revision now.
    fn changed(&self, keys: &[Bytes], revision: Revision);
    /// Another state has taken the place of the one that was.
    fn replaced(&self);
}
