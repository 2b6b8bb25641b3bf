//! Who may do what.

use bytes::Bytes;
use reqwest::Method;

use super::error::Error;
use super::{Call, Client, encode, json_bytes};
use crate::api::{
    AllowedJson, CanJson, NewTokenJson, RevokedJson, RoleJson, TokenJson, UserJson, WhoamiJson,
};

/// What a health check tells everybody.
#[derive(serde::Deserialize)]
struct HealthJson {
    leader: String,
}

impl Client {
    /// Who leads, as the first endpoint that answers sees it, which tells everybody; none if it knows of no leader.
    pub async fn leader(&self) -> Result<Option<String>, Error> {
        let health: HealthJson = self.json(Call::new(Method::GET, "health")).await?;
        Ok(Some(health.leader).filter(|leader| !leader.is_empty()))
    }

    /// Who asks, as the first endpoint that answers sees it.
    pub async fn whoami(&self) -> Result<WhoamiJson, Error> {
        self.json(Call::new(Method::GET, "v1/auth/whoami")).await
    }

    /// Whether somebody may do something.
    pub async fn can(&self, question: &CanJson) -> Result<bool, Error> {
        let body = json_bytes(question)?;
        let call = Call { body: Some(&body), ..Call::new(Method::POST, "v1/auth/can") };
        let answer: AllowedJson = self.json(call).await?;
        Ok(answer.allowed)
    }

    /// All users.
    pub async fn users(&self) -> Result<Vec<UserJson>, Error> {
        self.json(Call::new(Method::GET, "v1/auth/users")).await
    }

    /// All roles.
    pub async fn roles(&self) -> Result<Vec<RoleJson>, Error> {
        self.json(Call::new(Method::GET, "v1/auth/roles")).await
    }

    /// All tokens, without themselves.
    pub async fn tokens(&self) -> Result<Vec<TokenJson>, Error> {
        self.json(Call::new(Method::GET, "v1/auth/tokens")).await
    }

    /// Sets a user, whoever it was.
    pub async fn put_user(&self, name: &str, user: &UserJson) -> Result<(), Error> {
        self.put_access("users", name, json_bytes(user)?).await
    }

    /// Sets a role, whatever it was.
    pub async fn put_role(&self, name: &str, role: &RoleJson) -> Result<(), Error> {
        self.put_access("roles", name, json_bytes(role)?).await
    }

    async fn put_access(&self, kind: &str, name: &str, body: Bytes) -> Result<(), Error> {
        let path = format!("v1/auth/{kind}/{}", encode(name.as_bytes()));
        let call = Call { body: Some(&body), ..Call::new(Method::PUT, path) };
        self.send(&call).await.map(drop)
    }

    /// Makes a token; one of the name opens nothing any more. It is told this once.
    pub async fn put_token(&self, name: &str, wanted: &NewTokenJson) -> Result<TokenJson, Error> {
        let body = json_bytes(wanted)?;
        let path = format!("v1/auth/tokens/{}", encode(name.as_bytes()));
        self.json(Call { body: Some(&body), ..Call::new(Method::PUT, path) }).await
    }

    /// Certificates that open nothing any more.
    pub async fn revoked(&self) -> Result<Vec<RevokedJson>, Error> {
        self.json(Call::new(Method::GET, "v1/auth/revoked")).await
    }

    /// Has a certificate open nothing any more, by its serial number in hexadecimal; `until` is when it ends by itself, RFC 3339.
    pub async fn revoke(&self, serial: &str, until: Option<String>) -> Result<(), Error> {
        let body = json_bytes(&RevokedJson { serial: None, until })?;
        self.put_access("revoked", serial, body).await
    }

    /// Removes a user, a role, a token, or a certificate from those that were revoked: `kind` is `users`, `roles`, `tokens` or
    /// `revoked`.
    pub async fn delete_access(&self, kind: &str, name: &str) -> Result<(), Error> {
        let path = format!("v1/auth/{kind}/{}", encode(name.as_bytes()));
        self.send(&Call::new(Method::DELETE, path)).await.map(drop)
    }
}
