//! What servers answer, from any bytes.

use std::fmt::Debug;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::{Serialize, de::DeserializeOwned};

use super::error::{Failure, Problem, Told};
use super::{ETAG, REVISION, revision_in};
use crate::api::{ClusterStatus, DeletedJson, Outcome, PageJson, Status, TxnJson};

/// A status in two bytes, a line for each of the two headers with revisions, and a body. A write goes to
/// another endpoint only if the answer says that it was not applied, and if the answer says that nobody
/// knows, then nobody does. A body that is understood is written as one that means the same.
pub fn answers(data: &[u8]) {
    let Some((&[high, low], rest)) = data.split_first_chunk() else { return };
    let mut lines = rest.splitn(3, |&byte| byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [REVISION, ETAG] {
        if let Ok(value) = HeaderValue::from_bytes(lines.next().unwrap_or_default()) {
            headers.insert(name, value);
        }
    }
    let body = lines.next().unwrap_or_default();
    let told =
        Told { revision: revision_in(&headers, REVISION), current: revision_in(&headers, ETAG) };
    if let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([high, low])) {
        failure(status, body, told);
    }
    round_trip::<ClusterStatus>(body);
    round_trip::<Status>(body);
    round_trip::<PageJson<'static>>(body);
    round_trip::<DeletedJson>(body);
    round_trip::<TxnJson<'static>>(body);
    if let Ok(read) = serde_json::from_slice::<TxnJson<'static>>(body)
        && let Ok(done) = read.into_done()
    {
        let written = serde_json::to_vec(&TxnJson::new(&done)).expect("plain data");
        let again = serde_json::from_slice::<TxnJson<'static>>(&written).map(TxnJson::into_done);
        assert!(matches!(again, Ok(Ok(_))));
    }
}

fn failure(status: StatusCode, body: &[u8], told: Told) {
    for writes in [false, true] {
        let problem: Option<Problem> = serde_json::from_slice(body).ok();
        let outcome = problem.as_ref().and_then(|problem| problem.outcome);
        let Failure { error, may_try_another, .. } =
            Failure::of_answer(status, problem, told, writes);
        assert!(!error.to_string().is_empty());
        let certain = !writes || outcome == Some(Outcome::NotApplied);
        assert!(certain || !may_try_another, "it might happen twice");
        if certain {
            assert_eq!(error.outcome(), Outcome::NotApplied);
        } else if outcome == Some(Outcome::Unknown) || status.is_server_error() {
            assert_eq!(error.outcome(), Outcome::Unknown);
        }
    }
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    if let Ok(read) = serde_json::from_slice::<T>(body) {
        let written = serde_json::to_vec(&read).expect("plain data");
        assert_eq!(serde_json::from_slice::<T>(&written).ok(), Some(read));
    }
}
