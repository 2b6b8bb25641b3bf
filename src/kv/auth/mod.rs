//! Who may do what: users, their roles and tokens, and the decision whether a request is allowed. Pure.
//!
//! [`Access`] is the whole of it at one [`AccessRevision`]. The state keeps it in one record, commands change it
//! ([`AccessChange`]), and whoever takes a request in asks it ([`Access::allows`]) about each [`Ask`] that the request states.

mod access;
mod ask;
mod change;
mod cover;
mod name;
mod right;
mod serial;

pub(super) use access::Stated;
pub use access::{ACCESS_BYTES_MAX, ADMIN, Access, AccessRevision, REVOKED_MAX, User};
pub use ask::{Ask, Asks, Keys};
pub use change::{AccessChange, AccessRefusal};
pub use name::{Name, NameError};
pub use right::{Administration, Grant, Right, Role, Token, TokenHash};
pub use serial::{Serial, SerialError};
