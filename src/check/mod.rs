//! Whether a store kept its promise: judges that see nothing but what clients asked and were answered.

mod compares;
mod facts;
mod fates;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod history;
#[cfg(test)]
mod history_tests;
pub mod judge;
#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod large_tests;
pub mod linear;
#[cfg(test)]
mod linear_tests;
pub mod operation;
mod order;
mod part;
mod show;
mod shrink;
mod states;
#[cfg(test)]
mod store;
pub mod txn;
#[cfg(test)]
mod txn_tests;
#[cfg(test)]
mod written;
