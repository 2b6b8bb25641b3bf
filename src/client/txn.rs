//! Transactions.

use bytes::Bytes;
use reqwest::Method;

use super::{Call, Client, Error, json_bytes};
use crate::api::{TxnDone, TxnJson, TxnRequest};

impl Client {
    /// Carries a transaction out. That its compares do not hold is no error: [`TxnDone::succeeded`] says so.
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnDone, Error> {
        self.txn_json(&json_bytes(&request.to_json())?).await
    }

    /// The same of one that is stated in JSON, as `POST /v1/txn` takes it.
    pub async fn txn_json(&self, request: &Bytes) -> Result<TxnDone, Error> {
        let call = Call { body: Some(request), ..Call::new(Method::POST, "v1/txn") };
        let answer: TxnJson<'static> = self.json(call).await?;
        // It was carried out, or by somebody who does not speak as konsen does.
        answer.into_done().map_err(|error| Error::Unknown(format!("a broken answer: {error}")))
    }
}
