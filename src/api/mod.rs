//! What a caller may ask of a cluster and what it is told: requests, answers, errors and what is certain about them, limits,
//! JSON. HTTP, the client and the command line share it, so none of them needs to know how a node does its work.

mod access;
mod audit;
mod backup;
mod caller;
mod error;
mod item;
mod kind;
mod limits;
mod member;
mod outcome;
mod read;
mod request;
mod status;
mod txn;

pub use access::{
    AllowedJson, CanJson, GRANTS_MAX, GrantJson, KeysJson, NewTokenJson, Question, RevokedJson,
    RoleJson, TokenJson, UserJson, WhoamiJson, new_token, token_hash,
};
pub use audit::{AnchorJson, AnchorsJson};
pub use backup::{DIGEST_TRAILER, digest_field};
pub use caller::{
    Caller, Proof, RenewMember, SeeAccess, SeeAudit, SeeMembers, SeeStatus, TakeBackup, Transfer,
    Wait,
};
pub use error::{ChangeError, Error, TransferError};
pub use item::{DeletedJson, ItemJson, JsonError, PageJson, item_bytes};
pub use kind::{Kind, PROBLEM_TYPE};
pub use limits::{
    CONTENT_TYPE_BYTES_MAX, Limits, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, TIMEOUT_DEFAULT, TIMEOUT_MAX,
};
pub use member::{AddJson, Addresses, MemberChange, RenewedJson, ReplaceJson};
pub use outcome::Outcome;
pub use read::{Consistency, Found, Freshness, Get, Got, List};
pub use request::{CompactJson, TransferJson};
pub use status::{
    AgreedSettings, ClusterFeatures, ClusterStatus, Leadership, MemberInfo, MemberStatus, Members,
    NodeFeatures, PendingChange, Status, Verification,
};
pub use txn::{
    RELATIONS, TXN_DEPTH_MAX, TXN_EXTRA_BYTES_MAX, TXN_LISTS_MAX, TxnDone, TxnError, TxnJson,
    TxnLimits, TxnOp, TxnRequest, TxnResult, relation_of,
};
