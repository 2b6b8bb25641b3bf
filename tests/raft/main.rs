//! The core against scripts, and against chance.
#![allow(clippy::unwrap_used)]

mod any_input;
mod args;
mod chaos;
mod cluster;
mod failover;
mod interleavings;
mod scripts;
mod show;
mod world;
