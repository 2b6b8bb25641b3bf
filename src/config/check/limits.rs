//! The section `limits`: how much clients may send, ask for and hold, and how much the node keeps in memory and on disk.
//! Each has its range, so that none of them leaves a node that can do nothing.

use std::ops::RangeInclusive;

use bytesize::ByteSize;

use super::super::file::{self, Text};
use super::super::{ConfigError, Limits};
use super::{Check, GIB};

const MIB: u64 = 1 << 20;
const VALUE_SIZES: RangeInclusive<u64> = 1..=Limits::VALUE_MAX;
const BODIES_SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;
const CACHE_SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;
const FREE_SPACE_SIZES: RangeInclusive<u64> = 16 * MIB..=1024 * GIB;
const LOG_TAIL_SIZES: RangeInclusive<u64> = 0..=1024 * GIB;
/// All of it is read at a start, and has to have been written since.
const WAL_SIZES: RangeInclusive<u64> = 16 * MIB..=2 * GIB;
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
const REQUESTS: RangeInclusive<u64> = 1..=1_000_000;
const USER_RATES: RangeInclusive<u64> = 1..=1_000_000;
const WAITERS: RangeInclusive<u64> = 0..=10_000_000;
// One entry of the log is not to hold a node up for long.
const DELETE_KEYS: RangeInclusive<u64> = 1..=100_000;
const TXN_OPERATIONS: RangeInclusive<u64> = 1..=1_000;
const LIST_ROWS: RangeInclusive<u64> = 1..=100_000_000;
const READS: RangeInclusive<u64> = 1..=100_000;
const READ_THREADS: RangeInclusive<u64> = 1..=256;
const BACKUPS: RangeInclusive<u64> = 0..=64;
const GROWTH_SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;

impl Check<'_> {
    pub(super) fn limits(&self, limits: &file::Limits) -> Result<Limits, ConfigError> {
        let defaults = Limits::default();
        let number = |key: &str, text: &Option<Text>, default, range| {
            self.number(&format!("limits.{key}"), text.as_ref(), default, range)
        };
        let count = |key: &str, text: &Option<Text>, default: usize, range| {
            let default = u64::try_from(default).unwrap_or(u64::MAX);
            let count = number(key, text, default, range)?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        };
        let size = |key: &str, text: &Option<Text>, default, range| {
            self.size(&format!("limits.{key}"), text.as_ref(), default, range)
        };
        let value = size("value", &limits.value, defaults.value, &VALUE_SIZES)?;
        let bodies = size("bodies", &limits.bodies, defaults.bodies, &BODIES_SIZES)?;
        let line = limits.bodies.as_ref().map(|text| text.referenced.line());
        self.one_value_fits(bodies, value, line)?;
        Ok(Limits {
            value,
            connections: count(
                "connections",
                &limits.connections,
                defaults.connections,
                &CONNECTIONS,
            )?,
            connections_per_address: count(
                "connectionsPerAddress",
                &limits.connections_per_address,
                defaults.connections_per_address,
                &CONNECTIONS,
            )?,
            requests: count("requests", &limits.requests, defaults.requests, &REQUESTS)?,
            user_rate: self.number_or_off(
                "limits.userRate",
                limits.user_rate.as_ref(),
                defaults.user_rate,
                &USER_RATES,
            )?,
            bodies,
            answers: size("answers", &limits.answers, defaults.answers, &BODIES_SIZES)?,
            waiters: count("waiters", &limits.waiters, defaults.waiters, &WAITERS)?,
            delete_keys: number(
                "deleteKeys",
                &limits.delete_keys,
                defaults.delete_keys,
                &DELETE_KEYS,
            )?,
            txn_operations: count(
                "txnOperations",
                &limits.txn_operations,
                defaults.txn_operations,
                &TXN_OPERATIONS,
            )?,
            list_rows: number("listRows", &limits.list_rows, defaults.list_rows, &LIST_ROWS)?,
            reads: count("reads", &limits.reads, defaults.reads, &READS)?,
            read_threads: count(
                "readThreads",
                &limits.read_threads,
                defaults.read_threads,
                &READ_THREADS,
            )?,
            backups: count("backups", &limits.backups, defaults.backups, &BACKUPS)?,
            backup_growth: size(
                "backupGrowth",
                &limits.backup_growth,
                defaults.backup_growth,
                &GROWTH_SIZES,
            )?,
            ..self.kept(limits)?
        })
    }

    /// What the node keeps in memory and on disk; the rest is not looked at.
    fn kept(&self, limits: &file::Limits) -> Result<Limits, ConfigError> {
        let defaults = Limits::default();
        let size = |key: &str, text: &Option<Text>, default, range| {
            self.size(&format!("limits.{key}"), text.as_ref(), default, range)
        };
        Ok(Limits {
            log_tail: size("logTail", &limits.log_tail, defaults.log_tail, &LOG_TAIL_SIZES)?,
            wal: size("wal", &limits.wal, defaults.wal, &WAL_SIZES)?,
            log_cache: size("logCache", &limits.log_cache, defaults.log_cache, &CACHE_SIZES)?,
            state_cache: size(
                "stateCache",
                &limits.state_cache,
                defaults.state_cache,
                &CACHE_SIZES,
            )?,
            overlay: size("overlay", &limits.overlay, defaults.overlay, &CACHE_SIZES)?,
            free_space: size(
                "freeSpace",
                &limits.free_space,
                defaults.free_space,
                &FREE_SPACE_SIZES,
            )?,
            ..defaults
        })
    }

    /// What holds all bodies holds the largest value: else it would be refused for ever.
    fn one_value_fits(
        &self,
        bodies: u64,
        value: u64,
        line: Option<u64>,
    ) -> Result<(), ConfigError> {
        if bodies >= value {
            return Ok(());
        }
        let problem = format!(
            "{} is less than limits.value, {}: not one value would fit",
            ByteSize(bodies),
            ByteSize(value)
        );
        Err(self.wrong("limits.bodies", line, problem))
    }
}
