//! `POST /v1/txn`: compares, and what is done if they hold and if they do not, in one revision.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;

use super::budget::Guest;
use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use super::trail::{self, Trail};
use super::{Api, body, headers, key};
use crate::api::{
    TXN_EXTRA_BYTES_MAX, TXN_LISTS_MAX, TxnDone, TxnError, TxnJson, TxnLimits, TxnRequest,
};
use crate::kv::{DELETED_PER_KEY_MAX, Outcome, Refusal, Reply, Revision};

/// How many bytes of JSON a compare or an operation takes beside its keys and values, blanks included.
const OPERATION_BYTES: usize = 256;
/// An answer of no more bytes is given whatever others have left of the memory for answers.
const SMALL_BYTES: usize = 4096;

/// `POST /v1/txn`.
pub(super) async fn txn(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let (parts, body) = request.into_parts();
    headers::refuse_idempotency_key(&parts.headers)?;
    headers::refuse_conditions(&parts.headers, "a transaction has compares of its own")?;
    let timeout = headers::timeout(&parts.headers)?;
    let guest = Guest::of(&parts.extensions);
    let limits = api.handle.txn_limits();
    let held = body::read(&parts, body, body_bytes_max(&limits), &api.bodies).await?;
    let _under_way = api.requests.begin(&guest)?;
    let caller = caller_of(&parts.extensions);
    let request = TxnRequest::parse(&held.bytes, &limits)?;
    Trail::note(&parts.extensions, |targets| {
        request.for_each_over(&mut |over| trail::over(targets, over));
    });
    // There may be many who wait, and a head may be large.
    drop(parts);
    // The time counts from the body's end, so that a slow upload does not use it up.
    let deadline = Instant::now() + timeout;
    let only_reads = request.is_read_only();
    let request = api.handle.admit(&caller, request).await?;
    let carried = api.handle.txn(request, deadline, answer).await?;
    let Answer { revision, body, short } = carried.map_err(|reply| refused(&api, reply))?;
    let body = match (api.answers.hold(&guest, body.clone()), short) {
        (Ok(body), _) => body,
        (Err(_), None) => api.answers.hold_anyway(body),
        // Who only reads loses nothing and asks again; what was carried out is told, whatever others have left of the memory.
        (Err(busy), Some(_)) if only_reads => return Err(busy),
        (Err(_), Some(short)) => api.answers.hold_anyway(short),
    };
    Ok(json_response(revision, Body::from(body)))
}

/// JSON writes a byte in six characters at most.
fn body_bytes_max(limits: &TxnLimits) -> usize {
    let operations = limits.operations_max.saturating_mul(TXN_LISTS_MAX);
    let texts = limits.value_bytes_max.saturating_add(TXN_EXTRA_BYTES_MAX).saturating_mul(6);
    texts.saturating_add(operations.saturating_mul(OPERATION_BYTES))
}

/// An answer and, if it is large, the same without what was read.
struct Answer {
    revision: Revision,
    body: Bytes,
    short: Option<Bytes>,
}

fn answer(mut done: TxnDone) -> Answer {
    // Serializing plain data into memory cannot fail.
    let json =
        |done: &TxnDone| Bytes::from(serde_json::to_vec(&TxnJson::new(done)).unwrap_or_default());
    let (revision, body) = (done.revision, json(&done));
    let short = (body.len() > SMALL_BYTES).then(|| {
        done.leave_out("other answers that were not taken yet fill the memory set aside for them");
        json(&done)
    });
    Answer { revision, body, short }
}

impl From<TxnError> for Problem {
    fn from(error: TxnError) -> Problem {
        Problem::new(error.kind, error.detail)
    }
}

/// The problem of a transaction that was not carried out.
fn refused(api: &Api, reply: Reply) -> Problem {
    let Reply { revision, outcome } = reply;
    let (kind, detail) = match outcome {
        Outcome::Refused(Refusal::NothingToKeep { key }) => {
            let detail = format!(
                "keep_value: the key \"{}\" did not exist before the transaction",
                key.escape_ascii()
            );
            (Kind::NothingToKeep, detail)
        }
        Outcome::Refused(Refusal::NoSuchLease { key, lease }) => {
            let detail =
                format!("there is no lease {lease} for the key \"{}\"", key.escape_ascii());
            (Kind::Refused, detail)
        }
        Outcome::CompactedAlready { oldest } => {
            let detail = format!(
                "unchanged_since names a revision that is compacted; the oldest that can be asked about is {oldest}"
            );
            (Kind::Compacted, detail)
        }
        Outcome::NotReached => {
            let detail = format!(
                "unchanged_since names a revision that is not reached yet; the store is at {revision}"
            );
            (Kind::FutureRevision, detail)
        }
        Outcome::TooManyKeys => {
            let keys_max = api.handle.limits().delete_keys_max;
            let detail = format!(
                "the ranges of the compares and deletions hold more than {keys_max} keys (limits.deleteKeys), or \
                 {DELETED_PER_KEY_MAX} times as many with those that were deleted and are not swept yet, the most that one \
                 transaction looks at; what was deleted stops to count once it is compacted and swept, smaller ranges hold less"
            );
            (Kind::TooManyKeys, detail)
        }
        Outcome::TooManyBytes => {
            let detail =
                "the values that the compares look at, and that puts keep, are too large together";
            (Kind::ValueTooLarge, detail.to_owned())
        }
        other => return key::unexpected(other, revision),
    };
    Problem::new(kind, detail).at(revision)
}
