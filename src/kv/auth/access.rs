//! Who may do what, as a whole, at one moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::ask::{Ask, Keys};
use super::cover::{Cover, have_all};
use super::name::Name;
use super::right::{Administration, Right, Role, Token, TokenHash};
use super::serial::Serial;

/// How many bytes of records users, roles and tokens may take together: each change writes all of them.
pub const ACCESS_BYTES_MAX: usize = 256 << 10;

/// How many certificates may be revoked at a time that have not ended.
pub const REVOKED_MAX: usize = 2048;

/// The name of the role that may do everything, and of the user who has it in a cluster that begins.
pub const ADMIN: &str = "admin";

/// Counts the changes of who may do what.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct AccessRevision(pub u64);

/// Somebody who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The roles that the user has.
    pub roles: BTreeSet<Name>,
}

/// Everything that a record of it holds. The order of the fields is part of the state's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kv) struct Stated {
    pub(super) revision: AccessRevision,
    /// Whether the cluster has decided that not everybody may do everything.
    pub(super) on: bool,
    /// Whether clients are asked for certificates, by which an administrator gets in who has no token.
    pub(super) certificates: bool,
    pub(super) roles: BTreeMap<Name, Role>,
    pub(super) users: BTreeMap<Name, User>,
    pub(super) tokens: BTreeMap<Name, Token>,
    /// Certificates that open nothing any more, by when they end, in seconds since 1970. Records without any do not have it:
    /// [`Stated::encode`].
    #[serde(skip)]
    pub(super) revoked: BTreeMap<Serial, u64>,
}

impl Default for Stated {
    /// Of a cluster that begins: its administrator, and nobody else.
    fn default() -> Stated {
        let (mut roles, mut users) = (BTreeMap::new(), BTreeMap::new());
        // It is a name.
        if let Ok(admin) = ADMIN.parse::<Name>() {
            roles.insert(admin.clone(), Role::all());
            users.insert(admin.clone(), User { roles: [admin].into() });
        }
        let revision = AccessRevision(0);
        let (on, certificates) = (false, false);
        let (tokens, revoked) = (BTreeMap::new(), BTreeMap::new());
        Stated { revision, on, certificates, roles, users, tokens, revoked }
    }
}

impl Stated {
    /// What a record holds, after what it begins with.
    pub(in crate::kv) fn encode(&self, head: Vec<u8>) -> postcard::Result<Vec<u8>> {
        let bytes = postcard::to_extend(self, head)?;
        match self.has_revoked() {
            true => postcard::to_extend(&self.revoked, bytes),
            false => Ok(bytes),
        }
    }

    /// The reverse where certificates are part of it.
    pub(in crate::kv) fn decode(bytes: &[u8]) -> postcard::Result<Stated> {
        let (stated, rest): (Stated, _) = postcard::take_from_bytes(bytes)?;
        Ok(Stated { revoked: postcard::from_bytes(rest)?, ..stated })
    }

    /// Whether certificates are revoked.
    pub(in crate::kv) fn has_revoked(&self) -> bool {
        !self.revoked.is_empty()
    }
}

/// Users, roles and tokens.
#[derive(Clone, Debug)]
pub struct Access {
    stated: Stated,
    /// What each role covers, by right.
    covers: BTreeMap<Name, [Cover; 3]>,
    by_hash: HashMap<TokenHash, Name>,
}

impl PartialEq for Access {
    fn eq(&self, other: &Access) -> bool {
        // The rest follows from it.
        self.stated == other.stated
    }
}

impl Eq for Access {}

impl Default for Access {
    fn default() -> Access {
        Access::of(Stated::default())
    }
}

impl Access {
    /// That of a cluster that begins, of which there is one for all who need it.
    pub fn initial() -> Arc<Access> {
        static INITIAL: LazyLock<Arc<Access>> = LazyLock::new(Arc::default);
        Arc::clone(&INITIAL)
    }

    pub(in crate::kv) fn of(stated: Stated) -> Access {
        let covers = |role: &Role| {
            Right::ALL.map(|right| {
                let grants = role.grants.iter().filter(|grant| grant.may.contains(&right));
                Cover::of(grants.map(|grant| &grant.range))
            })
        };
        Access {
            covers: stated.roles.iter().map(|(name, role)| (name.clone(), covers(role))).collect(),
            by_hash: stated.tokens.iter().map(|(name, it)| (it.hash, name.clone())).collect(),
            stated,
        }
    }

    pub(in crate::kv) fn stated(&self) -> &Stated {
        &self.stated
    }

    /// How often it was changed.
    pub fn revision(&self) -> AccessRevision {
        self.stated.revision
    }

    /// Whether the cluster has decided that not everybody may do everything.
    pub fn is_on(&self) -> bool {
        self.stated.on
    }

    /// Whether somebody who may change who may do what can show who they are, now and later: by a certificate, or by a token
    /// without an end.
    pub(super) fn can_be_administered(&self) -> bool {
        let administers = |user: &Name| self.allows(user, Ask::Admin(Administration::Auth));
        let mut lasting = self.stated.tokens.values().filter(|token| token.expires.is_none());
        match self.stated.certificates || !self.stated.on {
            true => self.stated.users.keys().any(administers),
            false => lasting.any(|token| administers(&token.user)),
        }
    }

    /// All roles, by name.
    pub fn roles(&self) -> &BTreeMap<Name, Role> {
        &self.stated.roles
    }

    /// All users, by name.
    pub fn users(&self) -> &BTreeMap<Name, User> {
        &self.stated.users
    }

    /// All tokens, by name.
    pub fn tokens(&self) -> &BTreeMap<Name, Token> {
        &self.stated.tokens
    }

    /// Certificates that open nothing any more, and when each ends, in seconds since 1970.
    pub fn revoked(&self) -> &BTreeMap<Serial, u64> {
        &self.stated.revoked
    }

    /// Whose token has this hash, if it has not expired by `now`, in seconds since 1970.
    pub fn holder(&self, hash: &TokenHash, now: u64) -> Option<&Name> {
        let token = self.stated.tokens.get(self.by_hash.get(hash)?)?;
        token.expires.is_none_or(|end| now < end).then_some(&token.user)
    }

    /// Whether this user may do what is asked.
    pub fn allows(&self, user: &Name, ask: Ask<'_>) -> bool {
        let Some(user) = self.stated.users.get(user) else { return false };
        match ask {
            Ask::BeKnown => true,
            Ask::Nobody => false,
            Ask::Admin(what) => user
                .roles
                .iter()
                .filter_map(|role| self.stated.roles.get(role))
                .any(|role| role.admin.contains(&what)),
            Ask::Keys(right, keys) => {
                let covers = user.roles.iter().filter_map(|role| self.covers.get(role));
                let mut covers = covers.map(|covers| &covers[right as usize]);
                match keys {
                    Keys::One(key) => covers.any(|cover| cover.has(key)),
                    Keys::Range(range) => have_all(&covers.collect::<Vec<_>>(), range),
                }
            }
        }
    }
}
