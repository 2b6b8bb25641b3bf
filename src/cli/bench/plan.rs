//! What a run does: the arguments, checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;

use super::Args;
use crate::api::PAGE_BYTES_MAX;
use crate::cli::CliError;

/// How long a run measures.
pub(super) const DURATIONS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
/// How long it asks before that.
pub(super) const WARMUPS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// The most keys.
pub(super) const KEYS_MAX: u64 = 100_000_000;
/// The largest value.
const VALUE_BYTES_MAX: u64 = 64 << 20;
/// The most bytes of values that all connections hold, since each has its own to send.
const HELD_BYTES_MAX: u64 = 1 << 30;
/// The longest prefix: with the number it stays far below what a key may be.
const PREFIX_BYTES_MAX: usize = 200;
/// What an item of a listing takes beside its value, at most.
const ITEM_BYTES: u64 = 200 + PREFIX_BYTES_MAX as u64;
/// The read share of a mixed load, and the items of a listing, unless they are given.
const READ_PERCENT: u32 = 95;
const LIST_ITEMS: u32 = 100;
/// How steep a Zipf distribution is unless that is given: as in YCSB.
const EXPONENT: f64 = 0.99;
const EXPONENT_MAX: f64 = 10.0;

/// What is asked, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadName {
    /// Set keys.
    Put,
    /// Read keys.
    Get,
    /// Read keys and set some.
    Mixed,
    /// Read as many neighbouring keys at once as --range says.
    List,
}

/// Which keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Each as likely as any other.
    Uniform,
    /// Some far more often than others (--exponent).
    Zipf,
}

/// How new what is read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// As the newest write left it.
    Linearizable,
    /// As the leader has it while its lease holds (`reads.lease`).
    Lease,
    /// As the node that is asked has it.
    Stale,
}

impl Consistency {
    /// Its name in a URL.
    pub(super) fn name(self) -> &'static str {
        match self {
            Consistency::Linearizable => "linearizable",
            Consistency::Lease => "lease",
            Consistency::Stale => "stale",
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Put,
    Get,
    Mixed { read_percent: u32 },
    List { items: u64 },
}

impl Load {
    pub(super) fn name(self) -> &'static str {
        match self {
            Load::Put => "put",
            Load::Get => "get",
            Load::Mixed { .. } => "mixed",
            Load::List { .. } => "list",
        }
    }

    pub(super) fn reads(self) -> bool {
        self != Load::Put
    }

    pub(super) fn writes(self) -> bool {
        matches!(self, Load::Put | Load::Mixed { .. })
    }
}

/// A run, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) consistency: Consistency,
    pub(super) value_bytes: usize,
    pub(super) keys: u64,
    /// Of a Zipf distribution; none where all keys are as likely.
    pub(super) exponent: Option<f64>,
    pub(super) prefix: String,
    /// Whether the keys are set before anything is measured.
    pub(super) fills: bool,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    /// Requests a second over all connections; none where each connection asks again once it has its answer.
    pub(super) rate: Option<u32>,
    /// The most requests that are due and wait for a connection, over all threads.
    pub(super) waiting: usize,
    pub(super) seed: u64,
    pub(super) timeout: Duration,
}

impl Plan {
    /// The plan that the arguments state, or what is wrong with them.
    pub(super) fn new(args: &Args) -> Result<Plan, CliError> {
        let load = load(args)?;
        let value_bytes = value_bytes(args, load)?;
        if args.threads > args.connections {
            return Err(CliError::usage(format!(
                "--threads {} are more than --connections {}; a connection belongs to one thread",
                args.threads, args.connections
            )));
        }
        if args.connections < args.connection.endpoints.len() as u32 {
            return Err(CliError::usage(format!(
                "--connections {} cannot be spread over {} endpoints",
                args.connections,
                args.connection.endpoints.len()
            )));
        }
        if args.consistency.is_some() && !load.reads() {
            return Err(CliError::usage("--consistency is for loads that read"));
        }
        Ok(Plan {
            load,
            consistency: args.consistency.unwrap_or(Consistency::Linearizable),
            value_bytes,
            keys: args.keys,
            exponent: exponent(args)?,
            prefix: prefix(&args.prefix)?,
            fills: load.reads() && !args.no_fill,
            connections: args.connections as usize,
            threads: args.threads as usize,
            warmup: args.warmup,
            duration: args.duration,
            rate: args.rate,
            waiting: args.waiting as usize,
            seed: args.seed.unwrap_or_else(rand::random),
            timeout: args.connection.timeout,
        })
    }

    /// One to change in tests.
    #[cfg(test)]
    pub(super) fn sample() -> Plan {
        Plan {
            load: Load::Put,
            consistency: Consistency::Linearizable,
            value_bytes: 16,
            keys: 10,
            exponent: None,
            prefix: "p/".to_owned(),
            fills: false,
            connections: 1,
            threads: 1,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            rate: None,
            waiting: 100,
            seed: 7,
            timeout: Duration::from_secs(5),
        }
    }
}

fn load(args: &Args) -> Result<Load, CliError> {
    let only = |flag, load| Err(CliError::usage(format!("{flag} is for the load {load} alone")));
    if args.reads.is_some() && args.load != LoadName::Mixed {
        return only("--reads", "mixed");
    }
    if args.range.is_some() && args.load != LoadName::List {
        return only("--range", "list");
    }
    let items = u64::from(args.range.unwrap_or(LIST_ITEMS));
    match args.load {
        LoadName::Put => Ok(Load::Put),
        LoadName::Get => Ok(Load::Get),
        LoadName::Mixed => Ok(Load::Mixed { read_percent: args.reads.unwrap_or(READ_PERCENT) }),
        LoadName::List if items > args.keys => Err(CliError::usage(format!(
            "--range {items} asks for more than the --keys {} that there are",
            args.keys
        ))),
        LoadName::List => Ok(Load::List { items }),
    }
}

fn value_bytes(args: &Args, load: Load) -> Result<usize, CliError> {
    let bytes = args.value.as_u64();
    if bytes > VALUE_BYTES_MAX {
        let most = ByteSize(VALUE_BYTES_MAX);
        return Err(CliError::usage(format!("--value is {}, and {most} at most", args.value)));
    }
    if bytes * u64::from(args.connections) > HELD_BYTES_MAX {
        return Err(CliError::usage(format!(
            "--value {} for --connections {} takes more than {} of memory",
            args.value,
            args.connections,
            ByteSize(HELD_BYTES_MAX)
        )));
    }
    if let Load::List { items } = load
        && items * (bytes + ITEM_BYTES) > PAGE_BYTES_MAX as u64
    {
        return Err(CliError::usage(format!(
            "--range {items} with --value {} does not fit into a page of {}",
            args.value,
            ByteSize(PAGE_BYTES_MAX as u64)
        )));
    }
    Ok(bytes as usize)
}

fn exponent(args: &Args) -> Result<Option<f64>, CliError> {
    match (args.distribution, args.exponent) {
        (Distribution::Uniform, None) => Ok(None),
        (Distribution::Uniform, Some(_)) => {
            Err(CliError::usage("--exponent is for --distribution zipf alone"))
        }
        (Distribution::Zipf, given) => match given.unwrap_or(EXPONENT) {
            exponent if exponent > 0.0 && exponent <= EXPONENT_MAX => Ok(Some(exponent)),
            _ => Err(CliError::usage(format!("--exponent is above 0 and {EXPONENT_MAX} at most"))),
        },
    }
}

/// A prefix that can stand in a URL as it is, so that requests are no larger than a client's would be.
fn prefix(text: &str) -> Result<String, CliError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if text.is_empty() || text.len() > PREFIX_BYTES_MAX || !text.bytes().all(plain) {
        return Err(CliError::usage(format!(
            "--prefix {text:?} cannot be used; write 1 to {PREFIX_BYTES_MAX} of A-Z a-z 0-9 - . _ ~ /"
        )));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    fn parsed(words: &str) -> Result<Plan, String> {
        let command = Args::augment_args(clap::Command::new("bench"));
        let words = std::iter::once("bench").chain(words.split_whitespace());
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let args = Args::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        Plan::new(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_state_a_plan() {
        let plan = parsed("").unwrap();
        assert_eq!(plan.load, Load::Mixed { read_percent: 95 });
        assert!(plan.fills && plan.exponent.is_none() && plan.rate.is_none());
        let plan = parsed("put --value 4KiB --rate 500 --distribution zipf --seed 3").unwrap();
        assert_eq!((plan.load, plan.value_bytes, plan.seed), (Load::Put, 4096, 3));
        assert_eq!((plan.rate, plan.exponent, plan.fills), (Some(500), Some(0.99), false));
        let plan = parsed("list --range 10 --keys 10 --no-fill --consistency stale").unwrap();
        assert_eq!((plan.load, plan.fills), (Load::List { items: 10 }, false));
        assert_eq!(plan.consistency.name(), "stale");
        let plan = parsed("put --duration 1m --warmup 500ms").unwrap();
        assert_eq!(plan.duration, Duration::from_secs(60));
        assert_eq!(plan.warmup, Duration::from_millis(500));
        assert_eq!(parsed("put --warmup 0s --duration 24h").unwrap().warmup, Duration::ZERO);
        assert_eq!(parsed("mixed --reads 0").unwrap().load, Load::Mixed { read_percent: 0 });
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (words, said) in [
            ("get --reads 50", "--reads is for the load mixed alone"),
            ("get --range 50", "--range is for the load list alone"),
            ("mixed --reads 101", "invalid value"),
            ("list --range 1001", "invalid value"),
            ("list --range 10 --keys 9", "more than the --keys 9"),
            ("list --range 1000 --value 64KiB", "does not fit into a page"),
            ("put --value 65MiB", "64.0 MiB at most"),
            ("put --value 1MiB --connections 2000", "of memory"),
            ("put --value much", "invalid value"),
            ("put --connections 0", "invalid value"),
            ("put --connections 1 --threads 2", "more than --connections 1"),
            ("put --connections 1 --endpoints a:1,b:1", "over 2 endpoints"),
            ("put --consistency stale", "for loads that read"),
            ("put --exponent 1", "for --distribution zipf alone"),
            ("put --distribution zipf --exponent 0", "above 0 and 10 at most"),
            ("put --distribution zipf --exponent NaN", "above 0 and 10 at most"),
            ("put --prefix a?b", "cannot be used"),
            ("put --prefix=", "cannot be used"),
            ("put --rate 0", "invalid value"),
            ("put --waiting 5", "--rate"),
            ("put --duration 10", "write it as 500ms, 2s or 1m"),
            ("put --duration 0s", "it is from 100ms to 1day"),
            ("put --duration 25h", "it is from 100ms to 1day"),
            ("put --warmup 61m", "it is from 0s to 1h"),
            ("put --keys 0", "invalid value"),
            ("scan", "invalid value"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(said), "{words}: {error}");
        }
    }
}
