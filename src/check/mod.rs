//! Whether a store kept its promise: judges that see nothing but what clients asked and were answered.

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
mod shrink;
mod states;
