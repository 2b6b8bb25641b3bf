//! Changing who may do what.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::access::{ACCESS_BYTES_MAX, ADMIN, Access, AccessRevision, REVOKED_MAX, Stated, User};
use super::name::Name;
use super::right::{Role, Token};
use super::serial::Serial;

/// A change of who may do what. The order of the variants is part of the log's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessChange {
    /// From now on not everybody may do everything, and clients are asked for certificates. It is never taken back.
    TurnOn,
    /// Sets a role, whatever it was.
    PutRole {
        /// Its name.
        name: Name,
        /// What its holders may.
        role: Role,
    },
    /// Removes a role, from its holders too.
    DeleteRole {
        /// Its name.
        name: Name,
    },
    /// Sets a user, whoever it was.
    PutUser {
        /// The name.
        name: Name,
        /// All roles that the user has then.
        roles: BTreeSet<Name>,
    },
    /// Removes a user with all tokens.
    DeleteUser {
        /// The name.
        name: Name,
    },
    /// Sets a token; one of that name opens nothing any more. Turns access control on.
    PutToken {
        /// Its name.
        name: Name,
        /// The token.
        token: Token,
    },
    /// Removes a token.
    DeleteToken {
        /// Its name.
        name: Name,
    },
    /// Has a certificate open nothing any more. Those that have ended by `now` are forgotten.
    Revoke {
        /// Its serial number.
        serial: Serial,
        /// When it ends by itself, in seconds since 1970.
        until: u64,
        /// The time by the clock of whoever asked first, in seconds since 1970.
        now: u64,
    },
    /// Takes that back.
    Restore {
        /// Its serial number.
        serial: Serial,
    },
}

/// Why a change was not made. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AccessRefusal {
    /// The role `admin` is everything, always.
    #[error("the role \"admin\" may do everything, and stays so")]
    AdminRole,
    /// A user is to have a role that there is not.
    #[error("there is no role {0:?}")]
    NoSuchRole(String),
    /// A token is to be of a user that there is not.
    #[error("there is no user {0:?}")]
    NoSuchUser(String),
    /// Afterwards nobody could change it back.
    #[error(
        "nobody could change who may do what any more: another user has to have the right \"auth\" first, and, where clients \
         show no certificates, a token without an end"
    )]
    LastAdministrator,
    /// All of it together would be too large.
    #[error(
        "users, roles and tokens would take more than {ACCESS_BYTES_MAX} bytes together; delete some"
    )]
    TooMuch,
    /// Another token has the same hash.
    #[error("there is such a token already")]
    SameToken,
    /// More certificates would be revoked than may be.
    #[error(
        "{REVOKED_MAX} certificates are revoked that have not ended, the most at a time; another authority is the way out"
    )]
    TooManyRevoked,
}

impl Access {
    /// What a change makes of it, and whether what it names was there before; nothing is counted where nothing changes.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(in crate::kv) fn after(
        &self,
        change: AccessChange,
    ) -> Result<(Option<Access>, bool), AccessRefusal> {
        let mut next = self.stated().clone();
        let found = match change {
            AccessChange::TurnOn => {
                next.certificates = true;
                std::mem::replace(&mut next.on, true)
            }
            AccessChange::PutRole { name, .. } | AccessChange::DeleteRole { name }
                if name.as_str() == ADMIN =>
            {
                return Err(AccessRefusal::AdminRole);
            }
            AccessChange::PutRole { name, role } => next.roles.insert(name, role).is_some(),
            AccessChange::DeleteRole { name } => {
                for user in next.users.values_mut() {
                    user.roles.retain(|role| *role != name);
                }
                next.roles.remove(&name).is_some()
            }
            AccessChange::PutUser { name, roles } => put_user(&mut next, name, roles)?,
            AccessChange::DeleteUser { name } => {
                next.tokens.retain(|_, token| token.user != name);
                next.users.remove(&name).is_some()
            }
            AccessChange::PutToken { name, token } => put_token(&mut next, name, token)?,
            AccessChange::DeleteToken { name } => next.tokens.remove(&name).is_some(),
            AccessChange::Revoke { serial, until, now } => {
                next.revoked.retain(|_, until| *until > now);
                let found = next.revoked.insert(serial, until).is_some();
                if next.revoked.len() > REVOKED_MAX {
                    return Err(AccessRefusal::TooManyRevoked);
                }
                found
            }
            AccessChange::Restore { serial } => next.revoked.remove(&serial).is_some(),
        };
        if next == *self.stated() {
            return Ok((None, found));
        }
        next.revision = AccessRevision(next.revision.0 + 1);
        // Writing plain data to a growing vector has no way to fail.
        let size = next.encode(Vec::new()).map_or(usize::MAX, |bytes| bytes.len());
        let count =
            |it: &Stated| it.roles.len() + it.users.len() + it.tokens.len() + it.revoked.len();
        let grew = count(&next) >= count(self.stated());
        if size > ACCESS_BYTES_MAX && grew {
            return Err(AccessRefusal::TooMuch);
        }
        let next = Access::of(next);
        match next.can_be_administered() {
            true => Ok((Some(next), found)),
            false => Err(AccessRefusal::LastAdministrator),
        }
    }
}

fn put_user(next: &mut Stated, name: Name, roles: BTreeSet<Name>) -> Result<bool, AccessRefusal> {
    if let Some(unknown) = roles.iter().find(|role| !next.roles.contains_key(*role)) {
        return Err(AccessRefusal::NoSuchRole(unknown.to_string()));
    }
    Ok(next.users.insert(name, User { roles }).is_some())
}

fn put_token(next: &mut Stated, name: Name, token: Token) -> Result<bool, AccessRefusal> {
    // Whoever made it knew the time; those that ended before open nothing.
    next.tokens.retain(|_, other| other.expires.is_none_or(|end| end > token.made));
    if !next.users.contains_key(&token.user) {
        return Err(AccessRefusal::NoSuchUser(token.user.to_string()));
    }
    if next.tokens.iter().any(|(other, it)| it.hash == token.hash && *other != name) {
        return Err(AccessRefusal::SameToken);
    }
    next.on = true;
    Ok(next.tokens.insert(name, token).is_some())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
