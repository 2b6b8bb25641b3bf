//! `DELETE /v1/kv`: range deletes, in one revision or in steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use tokio::time::timeout_at;

use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::{json_response, range};
use super::query::Query;
use super::{Api, headers, key};
use crate::api::{Caller, DeletedJson, Error};
use crate::kv::{DELETED_PER_KEY_MAX, KeyRange, Outcome, Revision, Single, Write};

const PARAMETERS: &[&str] = &["prefix", "start", "end", "atomic"];
/// The most keys of one step, if `limits.deleteKeys` are not fewer. Writes that come meanwhile wait for a step, so they wait
/// a few milliseconds: with a pause after each step the others' p99 was 26 to 43 ms on two busy cores while a million keys
/// went, without pauses 22 to 61 ms, and 87 to 111 ms with ten times as many keys. Half as many made it no better, and took longer.
const STEP_KEYS_MAX: u64 = 1_000;
/// The longest pause after a step. It is as long as the step took, so that a deletion takes half of the cluster at most,
/// and the less the more others have to do; but a step that took seconds waited for a leader.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// `DELETE /v1/kv`.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let (range, in_steps) = deletion(request.uri().query())?;
    headers::refuse_idempotency_key(request.headers())?;
    headers::refuse_conditions(request.headers(), "a range delete cannot be conditional")?;
    let deadline = headers::deadline(request.headers())?;
    let caller = caller_of(request.extensions());
    drop(request);
    if in_steps {
        return delete_in_steps(&api, &caller, range, deadline).await;
    }
    let keys_max = api.handle.limits().delete_keys_max;
    let write = api.handle.admit(&caller, Write::delete_range(range, keys_max)).await?;
    let reply = api.handle.write(write, deadline).await?;
    match (reply.outcome.single(), reply.outcome) {
        (Some(Single::Deleted { count }), _) => {
            Ok(deleted(DeletedJson { deleted: count, revision: reply.revision, steps: None }))
        }
        (_, Outcome::TooManyKeys) => Err(too_many(keys_max).at(reply.revision)),
        (_, other) => Err(key::unexpected(other, reply.revision)),
    }
}

fn too_many(keys_max: u64) -> Problem {
    let detail = format!(
        "the range holds more than {keys_max} keys (limits.deleteKeys), or {DELETED_PER_KEY_MAX} times as many with \
         those that were deleted and are not swept yet, the most that one revision deletes; ?atomic=false deletes them in steps, each a \
         revision of its own, and smaller ranges go one by one"
    );
    Problem::new(Kind::TooManyKeys, detail)
}

fn deleted(done: DeletedJson) -> Response {
    // Serializing plain data into memory cannot fail.
    json_response(done.revision, serde_json::to_vec(&done).unwrap_or_default())
}

/// Deletes a range a bounded step at a time, for as long as somebody waits for the answer: whoever goes away drops this
/// future, and no step follows. What goes wrong after the first step says how far it came.
///
/// Several deletions take turns, a step and its pause at a time: they take together what one takes.
async fn delete_in_steps(
    api: &Api,
    caller: &Caller,
    mut range: KeyRange,
    deadline: Instant,
) -> Result<Response, Problem> {
    let keys_max = api.handle.limits().delete_keys_max.min(STEP_KEYS_MAX);
    let mut done = DeletedJson { deleted: 0, revision: Revision(0), steps: Some(0) };
    loop {
        let _turn = tokio::select! {
            turn = timeout_at(deadline.into(), api.deletions.acquire()) => {
                turn.map_err(|_| late(&done))?
            }
            () = api.stopping.cancelled() => return Err(so_far(Error::ShuttingDown.into(), &done)),
        };
        let began = Instant::now();
        let write = Write::DeleteStep { range: range.clone(), keys_max };
        let reply = match api.handle.admit(caller, write).await {
            Ok(write) => api.handle.write(write, deadline).await,
            Err(error) => Err(error),
        };
        let reply = reply.map_err(|error| so_far(error.into(), &done))?;
        let (count, next) = match reply.outcome {
            Outcome::Stepped { count, next } => (count, next),
            other => return Err(so_far(key::unexpected(other, reply.revision), &done)),
        };
        done.deleted += count;
        done.revision = reply.revision;
        done.steps = done.steps.map(|steps| steps + u64::from(count > 0));
        match next {
            None => return Ok(deleted(done)),
            Some(next) => range.start = next,
        }
        let until = Instant::now() + began.elapsed().min(PAUSE_MAX);
        if until >= deadline {
            return Err(late(&done));
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = api.stopping.cancelled() => return Err(so_far(Error::ShuttingDown.into(), &done)),
        }
    }
}

/// The problem, with what was deleted before it.
fn so_far(problem: Problem, done: &DeletedJson) -> Problem {
    match done.deleted {
        0 => problem,
        deleted => {
            let steps = done.steps.unwrap_or_default();
            problem.after(&format!("{deleted} keys were deleted before, in {steps} steps"))
        }
    }
}

/// The time is up, and no step is under way.
fn late(done: &DeletedJson) -> Problem {
    match done.deleted {
        // What was done was to look at what others had deleted.
        0 => Problem::new(
            Kind::ReadTimedOut,
            "the deadline passed before the end of the range; nothing was deleted",
        ),
        _ => {
            let detail = "the deadline passed before the end of the range";
            so_far(Problem::new(Kind::OutcomeUnknown, detail), done)
        }
    }
}

/// The range to delete, and whether that may take several revisions.
fn deletion(raw: Option<&str>) -> Result<(KeyRange, bool), Problem> {
    let query = Query::parse(raw, PARAMETERS)?;
    // An unset shell variable in `?start=a&end=$E` must not delete all that follows.
    if query.bytes("end").is_some_and(|end| end.is_empty()) {
        let detail = "end is empty; leave it out to delete to the end of the keys";
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    let range = range(&query);
    // Nor one in `?prefix=$P` empty the store.
    if range.start.is_empty() && range.end.is_none() {
        return Err(Problem::new(
            Kind::InvalidParameter,
            "a range delete needs a prefix, start or end that is not empty; \
             start=%00 deletes every key",
        ));
    }
    Ok((range, query.flag("atomic")? == Some(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_delete_needs_a_range() {
        for raw in [None, Some(""), Some("prefix="), Some("start="), Some("prefix=%ff&start=")] {
            let result = deletion(raw);
            let names_a_range = raw == Some("prefix=%ff&start=");
            assert_eq!(result.is_ok(), names_a_range, "{raw:?}");
        }
        assert!(deletion(Some("start=%00")).is_ok());
        assert!(deletion(Some("end=m")).is_ok());
        assert!(deletion(Some("start=a&end=")).is_err());
        assert!(!deletion(Some("prefix=a&atomic=true")).unwrap().1);
        assert!(deletion(Some("prefix=a&atomic=false")).unwrap().1);
        assert!(deletion(Some("limit=1")).is_err());
    }

    #[test]
    fn a_deadline_that_passes_between_two_steps_tells_what_is_gone() {
        let outcome = |deleted, steps| {
            let done = DeletedJson { deleted, revision: Revision(9), steps: Some(steps) };
            let problem: serde_json::Value = serde_json::from_slice(&late(&done).json()).unwrap();
            let text = |name: &str| problem[name].as_str().unwrap().to_owned();
            (text("outcome"), text("detail"))
        };
        let (nothing, detail) = outcome(0, 0);
        assert_eq!(nothing, "not_applied");
        assert!(detail.ends_with("nothing was deleted"), "{detail}");
        let (some, detail) = outcome(2000, 2);
        assert_eq!(some, "unknown");
        assert!(detail.ends_with("2000 keys were deleted before, in 2 steps"), "{detail}");
    }
}
