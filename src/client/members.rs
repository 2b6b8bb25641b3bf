//! Who belongs to the cluster.

use bytes::Bytes;
use reqwest::Method;

use super::error::Error;
use super::{Call, Client, encode};
use crate::api::{AddJson, Members, RenewedJson, ReplaceJson};

impl Client {
    /// The members, as the first endpoint that answers knows them.
    pub async fn members(&self) -> Result<Members, Error> {
        self.json(Call::new(Method::GET, "v1/cluster/members")).await
    }

    /// Takes a host in; the members then.
    pub async fn add_member(&self, wanted: &AddJson) -> Result<Members, Error> {
        self.change_members(Method::POST, "v1/cluster/members", Some(wanted), false).await
    }

    /// Puts a member out; the members then. What `force` overrides the refusals say.
    pub async fn remove_member(&self, name: &str, force: bool) -> Result<Members, Error> {
        let path = format!("v1/cluster/members/{}", encode(name.as_bytes()));
        self.change_members(Method::DELETE, &path, None::<&()>, force).await
    }

    /// Gives a learner a vote; the members then.
    pub async fn promote_member(&self, name: &str, force: bool) -> Result<Members, Error> {
        let path = format!("v1/cluster/members/{}/promote", encode(name.as_bytes()));
        self.change_members(Method::POST, &path, None::<&()>, force).await
    }

    /// Puts another host in a member's place; the members then.
    pub async fn replace_member(
        &self,
        name: &str,
        wanted: &ReplaceJson,
        force: bool,
    ) -> Result<Members, Error> {
        let path = format!("v1/cluster/members/{}/replace", encode(name.as_bytes()));
        self.change_members(Method::POST, &path, Some(wanted), force).await
    }

    /// Has a member renew its certificate; until when the new one is good.
    pub async fn renew_member(&self, name: &str) -> Result<RenewedJson, Error> {
        let path = format!("v1/cluster/members/{}/renew", encode(name.as_bytes()));
        self.json(Call::new(Method::POST, &path)).await
    }

    /// Undoes the change of the membership that is under way; the members then. With `force` and without a leader
    /// at any risk.
    pub async fn undo_change(&self, force: bool) -> Result<Members, Error> {
        self.change_members(Method::POST, "v1/cluster/members/undo", None::<&()>, force).await
    }

    async fn change_members<T: serde::Serialize>(
        &self,
        method: Method,
        path: &str,
        wanted: Option<&T>,
        force: bool,
    ) -> Result<Members, Error> {
        let body = wanted.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| Error::Usage(error.to_string()))?.map(Bytes::from);
        let mut call = Call::new(method, path);
        call.body = body.as_ref();
        if force {
            call.query.push(("force", "true".to_owned()));
        }
        self.json(call).await
    }
}
