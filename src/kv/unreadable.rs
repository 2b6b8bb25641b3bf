//! What a release cannot read.

use super::level::FeatureLevel;

/// Why the bytes of a command or of a record are none that this release understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is of a layout that came later.
    #[error("it has layout {found}, which konsen {own} does not know: it was written by a newer release", own = env!("CARGO_PKG_VERSION"))]
    NewerLayout {
        /// Which.
        found: u8,
    },
    /// It is of a feature level that came later.
    #[error("it has feature level {found}, and konsen {own} knows level {known}: it was written by a newer release", own = env!("CARGO_PKG_VERSION"), known = FeatureLevel::HIGHEST)]
    NewerLevel {
        /// Which.
        found: FeatureLevel,
    },
    /// The cluster is at a feature level that came later.
    #[error("the cluster was raised to feature level {found} by konsen {release}, and this is konsen {own}, which knows level {known}: it was written by a newer release; run that one", own = env!("CARGO_PKG_VERSION"), known = FeatureLevel::HIGHEST)]
    Raised {
        /// Which.
        found: FeatureLevel,
        /// Who raised it.
        release: String,
    },
    /// A record is of a kind that came later.
    #[error("it is of kind {kind}, which konsen {own} does not know: it was written by a newer release", own = env!("CARGO_PKG_VERSION"))]
    NewerRecord {
        /// Which.
        kind: u16,
    },
    /// It is not what it must be.
    #[error("it cannot be read: {0}")]
    Damaged(&'static str),
}

impl Unreadable {
    /// Nothing, if a node that knows all levels up to `highest` knows that one, to which `release` has raised the cluster.
    pub(super) fn beyond(
        level: FeatureLevel,
        highest: FeatureLevel,
        release: &str,
    ) -> Result<(), Unreadable> {
        match level <= highest {
            true => Ok(()),
            false => Err(Unreadable::Raised { found: level, release: release.to_owned() }),
        }
    }
}
