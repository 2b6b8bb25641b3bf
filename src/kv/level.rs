//! The feature level: which commands and records a cluster may use, so that no member meets one that it does not know.

use serde::{Deserialize, Serialize};

/// A feature level. A release knows all up to its highest; the cluster has one that all members know, and it only ever
/// grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// What every release knows: the level of a cluster that begins.
    pub const BASE: FeatureLevel = FeatureLevel(1);
    /// From here on the cluster knows who may do what: commands say by which [`AccessRevision`](super::AccessRevision) they
    /// were admitted.
    pub const ACCESS: FeatureLevel = FeatureLevel(2);
    /// The highest that this release knows.
    #[cfg(not(feature = "next-level"))]
    pub const HIGHEST: FeatureLevel = FeatureLevel::ACCESS;
    /// The highest that this release knows.
    #[cfg(feature = "next-level")]
    pub const HIGHEST: FeatureLevel = FeatureLevel(3);
}

impl Default for FeatureLevel {
    fn default() -> FeatureLevel {
        FeatureLevel::BASE
    }
}

impl std::fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
