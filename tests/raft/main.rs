//! The core against scripts, and against chance.
#![allow(clippy::unwrap_used)]

mod cluster;
mod property;
mod scripts;
mod show;
