//! Transactions that are stated whole, in one request.

use bytes::Bytes;
use reqwest::Method;

use super::{Call, Client, Error, json_bytes};
use crate::api::{TxnDone, TxnJson, TxnLimits, TxnRequest};

impl Client {
    /// Carries a transaction out. That its compares do not hold is no error: [`TxnDone::succeeded`] says so. One that only
    /// reads is asked of the next endpoint, too, where one does not answer, and its outcome is never unknown.
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnDone, Error> {
        self.carry_out(&json_bytes(&request.to_json())?, request.is_read_only()).await
    }

    /// The same of one that is stated in JSON, as `POST /v1/txn` takes it.
    pub async fn txn_json(&self, request: &Bytes) -> Result<TxnDone, Error> {
        self.carry_out(request, only_reads(request)).await
    }

    async fn carry_out(&self, request: &Bytes, only_reads: bool) -> Result<TxnDone, Error> {
        let call = Call { body: Some(request), only_reads, ..Call::new(Method::POST, "v1/txn") };
        let answer: TxnJson<'static> = self.json(call).await?;
        answer.into_done().map_err(|error| {
            let text = format!("a broken answer: {error}");
            // It was carried out, or by somebody who does not speak as konsen does.
            if only_reads { Error::Failed(text) } else { Error::Unknown(text) }
        })
    }
}

/// Whether a transaction is one that certainly changes nothing; what is not understood here may.
fn only_reads(request: &[u8]) -> bool {
    // How much it may ask for is the server's to say.
    let limits = TxnLimits { operations_max: usize::MAX, value_bytes_max: usize::MAX };
    TxnRequest::parse(request, &limits).is_ok_and(|request| request.is_read_only())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_counts_as_a_read() {
        for (text, reads) in [
            (r#"{"then":[{"get":{"key":"a"}}]}"#, true),
            (r#"{"if":[{"key":"a","compare":"exists","to":true}],"then":[]}"#, true),
            (r#"{"then":[],"else":[{"txn":{"then":[{"delete":{"key":"a"}}]}}]}"#, false),
            (r#"{"then":[{"get":{"key":"a"}}],"else":[{"put":{"key":"a","value":""}}]}"#, false),
            (r#"{"then":[{"get":{"key":"a"}},{"later":{"key":"a"}}]}"#, false),
            ("", false),
        ] {
            assert_eq!(only_reads(text.as_bytes()), reads, "{text}");
        }
    }
}
