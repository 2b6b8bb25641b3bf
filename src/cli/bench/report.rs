//! What a run came to, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::{Load, Plan};
use super::processes::Usage;
use super::tally::{Kind, Tally};
use crate::cli::CliError;
use crate::cli::remote::{Format, columns, print, print_json};

/// A run that is over.
#[derive(Clone, Debug)]
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) endpoints: Vec<String>,
    pub(super) tally: &'a Tally,
    /// From when operations counted until the last of them ended.
    pub(super) measured: Duration,
    pub(super) interrupted: bool,
    /// How many members the cluster has, and of how many there is a process here.
    pub(super) nodes: usize,
    pub(super) measured_nodes: usize,
    /// What their processes took meanwhile, or why that is not known.
    pub(super) servers: Result<Usage, String>,
    /// What this process took meanwhile.
    pub(super) own_cpu: Option<Duration>,
}

/// The form of `-o json`; docs/performance.md lists the fields.
#[derive(Serialize)]
struct Json<'a> {
    load: &'a str,
    endpoints: &'a [String],
    connections: usize,
    threads: usize,
    keys: u64,
    value_bytes: usize,
    read_percent: Option<u32>,
    range: Option<u64>,
    distribution: &'a str,
    exponent: Option<f64>,
    consistency: Option<&'a str>,
    rate: Option<u32>,
    prefix: &'a str,
    seed: u64,
    warmup_seconds: f64,
    seconds: f64,
    interrupted: bool,
    operations: u64,
    succeeded: u64,
    absent: u64,
    refused: u64,
    failed: u64,
    unknown: u64,
    unsent: Option<u64>,
    operations_per_second: f64,
    errors: BTreeMap<String, u64>,
    first_error: Option<&'a str>,
    latency_us: Option<Latency>,
    reads: Option<KindJson>,
    writes: Option<KindJson>,
    written: u64,
    written_unknown: u64,
    servers: Servers<'a>,
    client: Client,
}

#[derive(Serialize)]
struct KindJson {
    operations: u64,
    succeeded: u64,
    latency_us: Option<Latency>,
}

/// Of the operations that succeeded.
#[derive(Serialize)]
struct Latency {
    mean: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

#[derive(Serialize)]
struct Servers<'a> {
    nodes: usize,
    measured: usize,
    cpu_us_per_operation: Option<f64>,
    written_bytes_per_operation: Option<f64>,
    unknown_because: Option<&'a str>,
}

#[derive(Serialize)]
struct Client {
    cpu_us_per_operation: Option<f64>,
}

impl Latency {
    fn of(latency_ns: &Histogram<u64>) -> Option<Latency> {
        let us = |ns: u64| ns / 1000;
        let at = |quantile| us(latency_ns.value_at_quantile(quantile));
        (!latency_ns.is_empty()).then(|| Latency {
            mean: us(latency_ns.mean() as u64),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(latency_ns.max()),
        })
    }
}

impl KindJson {
    fn of(kind: &Kind) -> KindJson {
        KindJson {
            operations: kind.all(),
            succeeded: kind.succeeded(),
            latency_us: Latency::of(&kind.latency_ns),
        }
    }
}

/// To a hundredth: more digits would only be noise.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl Report<'_> {
    /// Prints it.
    pub(super) fn print(&self, format: Format) -> Result<(), CliError> {
        match format {
            Format::Json => print_json(&self.json()),
            Format::Table => print(self.table().as_bytes()),
            Format::Raw => print(format!("{}\n", self.json().operations_per_second).as_bytes()),
        }
    }

    fn json(&self) -> Json<'_> {
        let Report { plan, tally, .. } = self;
        let both = tally.both();
        let (load, succeeded) = (plan.load, both.succeeded());
        let each = |whole: f64| (succeeded > 0).then(|| rounded(whole / succeeded as f64));
        let cpu = |cpu: Duration| each(cpu.as_secs_f64() * 1e6);
        let usage = self.servers.as_ref().ok();
        let seconds = self.measured.as_secs_f64();
        Json {
            load: load.name(),
            endpoints: &self.endpoints,
            connections: plan.connections,
            threads: plan.threads,
            keys: plan.keys,
            value_bytes: plan.value_bytes,
            read_percent: match load {
                Load::Mixed { read_percent } => Some(read_percent),
                _ => None,
            },
            range: match load {
                Load::List { items } => Some(items),
                _ => None,
            },
            distribution: if plan.exponent.is_some() { "zipf" } else { "uniform" },
            exponent: plan.exponent,
            consistency: load.reads().then(|| plan.consistency.name()),
            rate: plan.rate,
            prefix: &plan.prefix,
            seed: plan.seed,
            warmup_seconds: plan.warmup.as_secs_f64(),
            seconds: (seconds * 1000.0).round() / 1000.0,
            interrupted: self.interrupted,
            operations: both.all(),
            succeeded,
            absent: both.absent,
            refused: both.refused,
            failed: both.failed,
            unknown: both.unknown,
            unsent: plan.rate.map(|_| tally.unsent),
            operations_per_second: match seconds > 0.0 {
                true => rounded(succeeded as f64 / seconds),
                false => 0.0,
            },
            errors: tally.errors.iter().map(|(why, count)| (why.to_string(), *count)).collect(),
            first_error: tally.complaint.as_deref(),
            latency_us: Latency::of(&both.latency_ns),
            reads: load.reads().then(|| KindJson::of(&tally.reads)),
            writes: load.writes().then(|| KindJson::of(&tally.writes)),
            written: tally.written,
            written_unknown: tally.unsure,
            servers: Servers {
                nodes: self.nodes,
                measured: self.measured_nodes,
                cpu_us_per_operation: usage.and_then(|usage| cpu(usage.cpu)),
                written_bytes_per_operation: usage
                    .and_then(|usage| each(usage.written_bytes? as f64)),
                unknown_because: self.servers.as_ref().err().map(String::as_str),
            },
            client: Client { cpu_us_per_operation: self.own_cpu.and_then(cpu) },
        }
    }

    fn table(&self) -> String {
        let json = self.json();
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![row("load", self.what(&json))];
        rows.push(row(
            "connections",
            format!("{} to {}", json.connections, json.endpoints.join(", ")),
        ));
        rows.push(row("measured", format!("{} s after {} s", json.seconds, json.warmup_seconds)));
        rows.push(row(
            "succeeded",
            format!("{}, {:.0} a second", json.succeeded, json.operations_per_second),
        ));
        let rare = [
            ("  of these absent", json.absent),
            ("refused (not done)", json.refused),
            ("failed (nothing changed)", json.failed),
            ("unknown (done or not)", json.unknown),
        ];
        rows.extend(
            rare.iter()
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| row(name, count.to_string())),
        );
        rows.extend(json.unsent.map(|count| row("not sent in time", count.to_string())));
        if !json.errors.is_empty() {
            let all: Vec<String> =
                json.errors.iter().map(|(why, count)| format!("{why}: {count}")).collect();
            rows.push(row("errors", all.join(", ")));
            rows.extend(json.first_error.map(|text| row("the first", text.to_owned())));
        }
        rows.push(row("server CPU an operation", self.server_cpu(&json)));
        if let Some(bytes) = json.servers.written_bytes_per_operation {
            rows.push(row(
                "disk writes an operation",
                format!("{bytes:.0} B, {}", self.together()),
            ));
        }
        if let Some(us) = json.client.cpu_us_per_operation {
            rows.push(row("this client's CPU", format!("{us:.1} µs an operation")));
        }
        rows.push(row("seed", json.seed.to_string()));
        format!("{}\n{}", columns(&rows), latencies(&json))
    }

    fn what(&self, json: &Json<'_>) -> String {
        let mut text = json.load.to_owned();
        if let Some(percent) = json.read_percent {
            text += &format!(" with {percent} % reads");
        }
        if let Some(items) = json.range {
            text += &format!(" of {items} keys");
        }
        text += &format!(", {} keys {}", json.keys, json.distribution);
        if self.plan.load.writes() || self.plan.fills {
            text += &format!(", {} B", json.value_bytes);
        }
        if let Some(consistency) = json.consistency {
            text += &format!(", {consistency}");
        }
        if let Some(rate) = json.rate {
            text += &format!(", {rate} a second");
        }
        text
    }

    fn together(&self) -> String {
        match (self.measured_nodes, self.nodes) {
            (1, 1) => "of the one node".to_owned(),
            (measured, nodes) if measured == nodes => format!("{nodes} nodes together"),
            (measured, nodes) => format!("{measured} of {nodes} nodes together"),
        }
    }

    fn server_cpu(&self, json: &Json<'_>) -> String {
        match (&self.servers, json.servers.cpu_us_per_operation) {
            (Err(why), _) => format!("not known: {why}"),
            (Ok(_), None) => "-".to_owned(),
            (Ok(_), Some(us)) => format!("{us:.1} µs, {}", self.together()),
        }
    }
}

/// A line for all, and one each for reads and writes where there are both.
fn latencies(json: &Json<'_>) -> String {
    let names = ["LATENCY, ms", "mean", "p50", "p90", "p99", "p99.9", "max"];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    let mut line = |name: &str, latency: &Option<Latency>| {
        let Some(Latency { mean, p50, p90, p99, p99_9, max }) = latency else { return };
        let cells = [mean, p50, p90, p99, p99_9, max];
        let cells = cells.map(|us| format!("{:.3}", *us as f64 / 1000.0));
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    };
    match (&json.reads, &json.writes) {
        (Some(reads), Some(writes)) => {
            line("all", &json.latency_us);
            line("reads", &reads.latency_us);
            line("writes", &writes.latency_us);
        }
        (Some(_), None) => line("reads", &json.latency_us),
        _ => line("writes", &json.latency_us),
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::keys::Op;
    use super::super::tally::{Lost, judge};
    use super::super::wire::Answer;
    use super::*;
    use crate::api::Outcome;

    fn tally() -> Tally {
        let mut tally = Tally::new();
        let answer = |status, outcome| {
            Ok(Answer { status, is_konsens: true, outcome, detail: "no room".to_owned() })
        };
        let now = Instant::now();
        for (op, answer, millis) in [
            (Op::Put(1), answer(204, None), 4),
            (Op::Put(1), answer(429, Some(Outcome::NotApplied)), 500),
            (Op::Put(1), Err(Lost::Timeout), 5000),
            (Op::Read(1), answer(200, None), 1),
            (Op::Read(1), answer(404, Some(Outcome::NotApplied)), 2),
        ] {
            let judged = judge(op, answer);
            tally.note(op, &judged);
            tally.count(op, judged, now, Duration::from_millis(millis));
        }
        tally
    }

    fn report<'a>(plan: &'a Plan, tally: &'a Tally) -> Report<'a> {
        Report {
            plan,
            endpoints: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
            tally,
            measured: Duration::from_millis(10_004),
            interrupted: false,
            nodes: 3,
            measured_nodes: 3,
            servers: Ok(Usage { cpu: Duration::from_micros(600), written_bytes: Some(12_288) }),
            own_cpu: Some(Duration::from_micros(30)),
        }
    }

    #[test]
    fn json_says_all_with_its_units() {
        let plan = Plan {
            load: Load::Mixed { read_percent: 60 },
            rate: Some(100),
            exponent: Some(0.99),
            fills: true,
            ..Plan::sample()
        };
        let expected = r#"
            {"load":"mixed","endpoints":["http://a:1","http://b:1"],"connections":1,"threads":1,"keys":10,
            "value_bytes":16,"read_percent":60,"range":null,"distribution":"zipf","exponent":0.99,
            "consistency":"linearizable","rate":100,"prefix":"p/","seed":7,"warmup_seconds":1.0,"seconds":10.004,
            "interrupted":false,"operations":5,"succeeded":3,"absent":1,"refused":1,"failed":0,"unknown":1,
            "unsent":0,"operations_per_second":0.3,"errors":{"429":1,"timeout":1},"first_error":"429: no room",
            "latency_us":{"mean":2333,"p50":2000,"p90":4001,"p99":4001,"p99_9":4001,"max":4001},
            "reads":{"operations":2,"succeeded":2,"latency_us":{"mean":1500,"p50":1000,"p90":2000,"p99":2000,
            "p99_9":2000,"max":2000}},"writes":{"operations":3,"succeeded":1,"latency_us":{"mean":4000,
            "p50":4001,"p90":4001,"p99":4001,"p99_9":4001,"max":4001}},"written":1,"written_unknown":1,
            "servers":{"nodes":3,"measured":3,"cpu_us_per_operation":200.0,"written_bytes_per_operation":4096.0,
            "unknown_because":null},"client":{"cpu_us_per_operation":10.0}}"#;
        // Without the ends of its lines.
        let expected: String = expected.lines().map(str::trim).collect();
        let tally = tally();
        let json = serde_json::to_string(&report(&plan, &tally).json()).unwrap();
        assert_eq!(json, expected);
    }

    #[test]
    fn the_table_says_what_is_known() {
        let plan = Plan { load: Load::Mixed { read_percent: 60 }, ..Plan::sample() };
        let tally = tally();
        let expected = "\
load                      mixed with 60 % reads, 10 keys uniform, 16 B, linearizable
connections               1 to http://a:1, http://b:1
measured                  10.004 s after 1 s
succeeded                 3, 0 a second
  of these absent         1
refused (not done)        1
unknown (done or not)     1
errors                    429: 1, timeout: 1
the first                 429: no room
server CPU an operation   200.0 µs, 3 nodes together
disk writes an operation  4096 B, 3 nodes together
this client's CPU         10.0 µs an operation
seed                      7

LATENCY, ms  mean   p50    p90    p99    p99.9  max
all          2.333  2.000  4.001  4.001  4.001  4.001
reads        1.500  1.000  2.000  2.000  2.000  2.000
writes       4.000  4.001  4.001  4.001  4.001  4.001
";
        assert_eq!(report(&plan, &tally).table(), expected);
        let elsewhere = Report {
            servers: Err("h:1 is not on this machine".to_owned()),
            ..report(&plan, &tally)
        };
        assert!(elsewhere.table().contains("not known: h:1 is not on this machine"));
        let json = elsewhere.json();
        assert!(
            json.servers.cpu_us_per_operation.is_none() && json.servers.unknown_because.is_some()
        );
    }

    #[test]
    fn nothing_measured_is_nothing_and_no_division() {
        let (plan, tally) = (Plan::sample(), Tally::new());
        let report = Report { measured: Duration::ZERO, ..report(&plan, &tally) };
        let json = report.json();
        assert!(json.operations_per_second == 0.0 && json.latency_us.is_none());
        assert!(json.client.cpu_us_per_operation.is_none());
        assert!(report.table().contains("server CPU an operation  -\n"), "{}", report.table());
    }
}
