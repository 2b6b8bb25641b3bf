//! What the body of a request is about: noted by whoever reads it, for whoever records the request.

use std::sync::Arc;

use axum::http::Extensions;
use parking_lot::Mutex;

use crate::audit::{Target, Targets};
use crate::kv::{KeyRange, Over};

/// What the body of a request is about, noted by whoever reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Arc<Mutex<Targets>>);

impl Trail {
    /// What was noted.
    pub(super) fn take(&self) -> Targets {
        std::mem::take(&mut *self.0.lock())
    }

    /// Notes something that the request of these extensions is about, if it is recorded.
    pub(super) fn note(extensions: &Extensions, note: impl FnOnce(&mut Targets)) {
        if let Some(Trail(targets)) = extensions.get::<Trail>() {
            note(&mut targets.lock());
        }
    }
}

/// Adds what a transaction names.
pub(super) fn over(targets: &mut Targets, over: &Over) {
    targets.add(match over {
        Over::Key(key) => Target::Key(key.clone()),
        Over::Range(range) => of_range(range.clone()),
    });
}

/// The keys of a range.
pub(super) fn of_range(range: KeyRange) -> Target {
    Target::Range { start: range.start, end: range.end }
}
