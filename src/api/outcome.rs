//! What is certain about a request that failed.

use serde::{Deserialize, Serialize};

/// What is certain about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing changed, and nothing will.
    NotApplied,
    /// The change may have happened, or may still happen.
    Unknown,
}
