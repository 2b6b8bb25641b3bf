//! What a check came to, for people and for programs.

use serde::Serialize;

use super::names::Names;
use crate::check::history::{Answer, Call, History};
use crate::check::judge::{self, Fault, Lines, Summary};
use crate::cli::remote::{Format, columns, print, print_json};
use crate::cli::{CliError, Exit};

/// A history and the judgement of it.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) history: &'a History,
    pub(super) verdict: Result<Summary, Fault>,
    /// How long the run took.
    pub(super) seconds: f64,
    /// Calls without puts that certainly did nothing; they are in no history.
    pub(super) fruitless: Option<u64>,
    /// Whether an endpoint answered all the reads at the end, if there was one.
    pub(super) read_back: Option<bool>,
    /// Where the history is kept.
    pub(super) file: Option<String>,
}

/// The form of `-o json`.
#[derive(Serialize)]
struct Json<'a> {
    linearizable: bool,
    decided: bool,
    operations: usize,
    reads: usize,
    writes: usize,
    unknown: usize,
    refused: usize,
    transactions: usize,
    otherwise: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fruitless: Option<u64>,
    keys: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_back: Option<bool>,
    seconds: f64,
    latency_p50_us: Option<u64>,
    latency_p99_us: Option<u64>,
    prefix: &'a str,
    seed: u64,
    history: Option<&'a str>,
    violation: Option<ViolationJson<'a>>,
}

#[derive(Serialize)]
struct ViolationJson<'a> {
    rule: &'a str,
    key: Option<String>,
    calls: Vec<&'a Call>,
}

impl Report<'_> {
    /// Prints it; a history that is not known to be good is an error.
    pub(super) fn finish(&self, format: Format) -> Result<(), CliError> {
        let printed = match format {
            Format::Json => print_json(&self.json()),
            Format::Table => print(self.table().as_bytes()),
            Format::Raw => print(format!("{}\n", self.word()).as_bytes()),
        };
        // The verdict weighs more than who reads it.
        self.error().map_or(printed, Err)
    }

    fn error(&self) -> Option<CliError> {
        let error = match &self.verdict {
            Ok(_) => return None,
            Err(Fault::Violated(violation)) => {
                let place = violation.key.map(|key| format!("{}: ", self.key(key)));
                let place = place.unwrap_or_default();
                format!("the store is not linearizable: {place}{}", violation.rule)
            }
            Err(Fault::Undecided(key)) => format!(
                "nobody knows whether the store is linearizable: {} has too many calls at once \
                 for the judge",
                self.key(*key)
            ),
        };
        let error = CliError::new(Exit::Failed, error);
        Some(match (&self.file, &self.verdict) {
            (Some(file), Err(Fault::Violated(_))) => {
                error.hint(format!("all calls: konsen check --show --judge {file}"))
            }
            (Some(file), _) => error.hint(format!(
                "take fewer --clients, more --keys or a lower --rate; the history is kept in {file}"
            )),
            (None, _) => error,
        })
    }

    fn key(&self, number: u32) -> String {
        Names::new(self.history.head.prefix.clone(), self.history.head.keys).key(number)
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Ok(_) => "yes",
            Err(Fault::Violated(_)) => "no",
            Err(Fault::Undecided(_)) => "undecided",
        }
    }

    fn json(&self) -> Json<'_> {
        let summary = judge::summary(self.history);
        let latencies = latencies(&self.history.calls);
        let violation = match &self.verdict {
            Err(Fault::Violated(violation)) => Some(ViolationJson {
                rule: &violation.rule,
                key: violation.key.map(|key| self.key(key)),
                calls: violation.window.iter().map(|at| &self.history.calls[*at]).collect(),
            }),
            _ => None,
        };
        Json {
            linearizable: self.verdict.is_ok(),
            decided: !matches!(self.verdict, Err(Fault::Undecided(_))),
            operations: summary.operations,
            reads: summary.reads,
            writes: summary.writes,
            unknown: summary.unknown,
            refused: summary.refused,
            transactions: summary.transactions,
            otherwise: summary.otherwise,
            fruitless: self.fruitless,
            keys: summary.keys,
            read_back: self.read_back,
            seconds: self.seconds,
            latency_p50_us: percentile(&latencies, 50),
            latency_p99_us: percentile(&latencies, 99),
            prefix: &self.history.head.prefix,
            seed: self.history.head.seed,
            history: self.file.as_deref(),
            violation,
        }
    }

    fn table(&self) -> String {
        let json = self.json();
        let ms = |us: Option<u64>| match us {
            Some(us) => format!("{:.1} ms", us as f64 / 1000.0),
            None => "-".to_owned(),
        };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("operations", json.operations.to_string()),
            row("reads", json.reads.to_string()),
            row("writes", json.writes.to_string()),
            row("unknown", json.unknown.to_string()),
            row("refused", json.refused.to_string()),
            row("transactions", json.transactions.to_string()),
            row("otherwise", json.otherwise.to_string()),
        ];
        rows.extend(json.fruitless.map(|count| row("fruitless", count.to_string())));
        rows.extend([
            row("keys", json.keys.to_string()),
            row("seconds", format!("{:.1}", json.seconds)),
            row("latency p50", ms(json.latency_p50_us)),
            row("latency p99", ms(json.latency_p99_us)),
            row("seed", json.seed.to_string()),
        ]);
        rows.extend(json.history.map(|file| row("history", file.to_owned())));
        let mut text = format!("{}linearizable: {}\n", columns(&rows), self.word());
        if let Err(Fault::Violated(violation)) = &self.verdict {
            if let Some(key) = violation.key {
                text += &format!("\nkey {key} is {}\n", self.key(key));
            }
            text += &format!("\n{}:\n\n", violation.rule);
            text += &Lines(&self.history.calls, &violation.window).to_string();
        }
        text
    }
}

/// How long the answered calls took, in microseconds, in order.
fn latencies(calls: &[Call]) -> Vec<u64> {
    let answered =
        calls.iter().filter(|call| !matches!(call.answer, Answer::Unknown | Answer::Refused));
    let mut times: Vec<u64> =
        answered.map(|call| call.ended_us.saturating_sub(call.called_us)).collect();
    times.sort_unstable();
    times
}

/// The nearest rank.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_is_too_hard_is_neither_good_nor_bad() {
        let history = History::default();
        let report = Report {
            history: &history,
            verdict: Err(Fault::Undecided(0)),
            seconds: 1.0,
            fruitless: None,
            read_back: None,
            file: Some("f".to_owned()),
        };
        let json = report.json();
        assert!(!json.linearizable && !json.decided && json.violation.is_none());
        assert!(report.table().ends_with("linearizable: undecided\n"), "{}", report.table());
        let error = report.error().unwrap();
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.to_string().contains("0000 has too many calls"), "{error}");
        assert!(error.to_string().contains("hint: "), "{error}");
        assert_eq!(Report { verdict: Ok(Summary::default()), ..report }.error(), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (Some(100), Some(198)));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99)), (Some(7), Some(7)));
        assert_eq!(percentile(&[], 99), None);
    }
}
