//! The network between nodes, in one process over loopback, with real certificates.

#![allow(clippy::unwrap_used)]

mod certificates;
mod exchange;
mod floods;
mod garbage;
mod node;
mod pki;
mod refusals;
