//! Reads that may take long, on threads of their own: see [`crate::server::run::readers`].

use std::time::Instant;

use bytes::Bytes;

use crate::api::Error;
use crate::kv::{Item, Page, RangeQuery, Revision, Write};
use crate::server::handle::Handle;
use crate::server::run::readers::{Queued, ROWS_UNWATCHED};
use crate::store::{CountRead, Counted, PastRead, RangeRead, ReadError, State};

impl Handle {
    /// Ends the reads that may take long; those who wait for them hear that the node stops.
    pub(crate) fn end_reads(&self) {
        self.shared.readers.close();
    }

    /// A page of a listing as this node has it, and what `then` makes of it, at most until the deadline. It ends after
    /// `limits.listRows` rows, with less items than asked for, or none, and says where to go on.
    pub(crate) async fn range<T: Send + 'static>(
        &self,
        query: RangeQuery,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let mut read = RangeRead::within(query, self.shared.limits.list_rows_max);
        let step = move |state: &State, pause: &mut dyn FnMut() -> bool| read.step(state, pause);
        self.read_slowly(deadline, step, then, Queued::Fresh).await
    }

    /// One key as it was at a revision, and the revision that it was read at, at most until the deadline.
    pub(crate) async fn get_past(
        &self,
        key: Bytes,
        at: Revision,
        deadline: Instant,
    ) -> Result<(Revision, Option<Item>), Error> {
        let mut read = PastRead::new(key, at);
        // Most reads of the past are of what is nearly the newest: those need not wait for a thread.
        let found = read.step(&self.shared.state, &mut || true);
        if let Some(found) = found.map_err(|error| self.read_failed(error))? {
            return Ok(found);
        }
        let step = move |state: &State, pause: &mut dyn FnMut() -> bool| read.step(state, pause);
        self.read_slowly(deadline, step, |found| found, Queued::Fresh).await
    }

    /// Whether a write looks at too much, by the rows that this node has.
    pub(crate) async fn count(&self, write: &Write, deadline: Instant) -> Result<Counted, Error> {
        let mut read = CountRead::new(write);
        // Most ranges are small: those need not wait for a thread.
        let mut rows = 0;
        let mut pause = || {
            rows += 1;
            rows == ROWS_UNWATCHED
        };
        let found = read.step(&self.shared.state, &mut pause);
        if let Some(counted) = found.map_err(|error| self.read_failed(error))? {
            return Ok(counted);
        }
        let step = move |state: &State, pause: &mut dyn FnMut() -> bool| read.step(state, pause);
        self.read_slowly(deadline, step, |counted| counted, Queued::Fresh).await
    }

    /// Does `work`, which reads a bounded part of a file, where that holds nobody up. How often it is asked for at a
    /// time is the caller's to bound.
    pub(crate) async fn read_apart<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let mut work = Some(work);
        // It is asked once only.
        let step = move |_: &State, _: &mut dyn FnMut() -> bool| Ok(work.take().map(|work| work()));
        self.read_slowly(deadline, step, |done| done, Queued::Begun).await
    }

    pub(super) async fn read_slowly<R: 'static, T: Send + 'static>(
        &self,
        deadline: Instant,
        step: impl FnMut(&State, &mut dyn FnMut() -> bool) -> Result<Option<R>, ReadError>
        + Send
        + 'static,
        then: impl FnOnce(R) -> T + Send + 'static,
        queued: Queued,
    ) -> Result<T, Error> {
        let state = self.shared.state.clone();
        let read = self.shared.readers.read(state, deadline, step, then, queued).await?;
        read.map_err(|error| self.read_failed(error))
    }
}
