//! `konsen status`: the endpoints and the members of a cluster.

use std::collections::BTreeSet;
use std::pin::pin;

use bytesize::ByteSize;
use futures_util::future::{self, Either};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::say;
use super::remote::{Connection, Format, columns, print, print_json};
use super::{CliError, Exit};
use crate::api::{AgreedSettings, ClusterStatus, Status};
use crate::client::{Error, differ};

/// How long before its end a certificate is warned of.
const WARN_AHEAD: time::Duration = time::Duration::days(30);

/// Show the endpoints and the members of the cluster
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen status
  konsen status --endpoints http://127.0.0.1:20001,http://127.0.0.1:20002
  konsen status -o json | jq .cluster.leader

raw prints the leader's name alone; without a leader the exit code is 5. It is 5 also if no endpoint answers that
belongs to a cluster, and 1 if they belong to different ones.")]
pub struct Args {
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Serialize)]
struct EndpointJson<'a> {
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct StatusJson<'a> {
    endpoints: Vec<EndpointJson<'a>>,
    cluster: &'a ClusterStatus,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let client = args.connection.client()?;
    // Together, so that both are there within the time.
    let mut cluster = pin!(client.cluster());
    let (endpoints, early) = match future::select(pin!(client.status()), &mut cluster).await {
        Either::Left((endpoints, _)) => (endpoints, None),
        Either::Right((cluster, endpoints)) => (endpoints.await, Some(cluster)),
    };
    if endpoints.iter().all(|(_, answer)| answer.is_err()) {
        let errors = endpoints.into_iter().filter_map(|(_, answer)| answer.err());
        // Whoever gave a reason says more than one that is down.
        let error = errors.min_by_key(|error| matches!(error, Error::Unavailable(_)));
        let none = || CliError::new(Exit::Unavailable, "there is no endpoint");
        return Err(error.map_or_else(none, CliError::from));
    }
    let told =
        endpoints.iter().filter_map(|(at, answer)| Some((at.as_str(), answer.as_ref().ok()?)));
    if let Some(error) = differ(told) {
        return Err(error.into());
    }
    let cluster = match early {
        Some(cluster) => cluster,
        None => cluster.await,
    };
    let cluster = match cluster {
        Ok(cluster) => cluster,
        Err(error) => {
            // What the nodes say of themselves is all that there is.
            if args.output == Format::Table {
                print(endpoint_table(&endpoints).as_bytes())?;
            }
            return Err(error.into());
        }
    };
    for warning in warnings(&endpoints, &cluster, OffsetDateTime::now_utc()) {
        say(&format!("warning: {warning}\n"));
    }
    match args.output {
        Format::Json => print_json(&StatusJson {
            endpoints: endpoints.iter().map(endpoint_json).collect(),
            cluster: &cluster,
        })?,
        Format::Raw => {
            let Some(leader) = &cluster.leader else {
                return Err(Error::NoLeader("no node leads that the cluster knows".into()).into());
            };
            print(format!("{leader}\n").as_bytes())?
        }
        Format::Table => {
            let (endpoints, verifying) = (endpoint_table(&endpoints), verifying(&endpoints));
            let text = format!("{endpoints}{verifying}\n{}", member_table(&cluster));
            print(text.as_bytes())?
        }
    }
    Ok(())
}

type Answer = (String, Result<Status, Error>);

/// What the endpoints warn of, and certificates of other members that end soon.
fn warnings(
    endpoints: &[Answer],
    cluster: &ClusterStatus,
    now: OffsetDateTime,
) -> BTreeSet<String> {
    let told = endpoints.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let mut all: BTreeSet<String> =
        told.clone().flat_map(|status| status.warnings.clone()).collect();
    for member in &cluster.members {
        let end = member.certificate_expires.as_deref();
        let end = end.and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok());
        let Some(end) = end.filter(|end| *end - now < WARN_AHEAD) else { continue };
        // Who was asked itself has said so.
        if told.clone().any(|status| status.name == member.name) {
            continue;
        }
        let days = (end - now).whole_days();
        all.insert(match end < now {
            true => format!("the certificate of {} has ended", member.name),
            false => format!("the certificate of {} ends in {days} days", member.name),
        });
    }
    all
}

fn endpoint_json((endpoint, answer): &Answer) -> EndpointJson<'_> {
    EndpointJson {
        endpoint,
        status: answer.as_ref().ok(),
        error: answer.as_ref().err().map(ToString::to_string),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn endpoint_table(endpoints: &[Answer]) -> String {
    let mut rows =
        vec![row(["ENDPOINT", "NODE", "ROLE", "TERM", "LEADER", "APPLIED", "REVISION", "VERSION"])];
    for (endpoint, answer) in endpoints {
        rows.push(match answer {
            Ok(status) => row([
                endpoint,
                &status.name,
                match &status.cluster_id {
                    Some(_) => &status.role,
                    None => "in no cluster",
                },
                &status.term.to_string(),
                status.leader.as_deref().unwrap_or("-"),
                &status.applied.to_string(),
                &status.revision.to_string(),
                &status.version,
            ]),
            Err(_) => row([endpoint, "-", "unreachable", "-", "-", "-", "-", "-"]),
        });
    }
    columns(&rows)
}

/// Which nodes still verify what they found in their state's file at their start.
fn verifying(endpoints: &[Answer]) -> String {
    let told = endpoints.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let lines = told.filter_map(|status| {
        let found = status.verification.as_ref()?;
        let left = found.seconds_left?;
        let (verified, of) = (ByteSize::b(found.verified_bytes), ByteSize::b(found.of_bytes));
        let name = &status.name;
        Some(format!("{name} verifies the file of its state: {verified} of {of}, {left} s left.\n"))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

pub(super) fn member_table(cluster: &ClusterStatus) -> String {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let mut rows = vec![row([
        "MEMBER",
        "ROLE",
        "VOTER",
        "REACHABLE",
        "MATCH",
        "LAG",
        "RAFT",
        "HTTP",
        "FEATURES",
        "CERTIFICATE",
    ])];
    for member in &cluster.members {
        rows.push(row([
            &member.name,
            if member.awaited { "awaited" } else { &member.role },
            votes(member.voter, member.awaited),
            if member.reachable { "yes" } else { "no" },
            &number(member.matched),
            &number(member.lag),
            &member.raft_address,
            &member.http_address,
            &number(member.features.map(u64::from)),
            member.certificate_expires.as_deref().unwrap_or("-"),
        ]));
    }
    columns(&rows) + &feature_level(cluster) + &agreed_on(cluster) + &pending_change(cluster)
}

/// The cluster's feature level in words, and who keeps it there.
fn feature_level(cluster: &ClusterStatus) -> String {
    let Some(features) = &cluster.features else { return String::new() };
    let by = features.raised_by.as_ref();
    let by = by.map(|release| format!(", raised by konsen {release}")).unwrap_or_default();
    let mut text = format!("\nThe cluster is at feature level {}{by}.\n", features.level);
    if !features.held_back_by.is_empty() {
        let held = features.held_back_by.join(", ");
        text += &format!(
            "It is not raised because of {held}: upgrade those that run an older release.\n"
        );
    }
    text
}

/// The settings that all members follow.
fn agreed_on(cluster: &ClusterStatus) -> String {
    let Some(settings) = cluster.settings else { return String::new() };
    let AgreedSettings { value_bytes, election_timeout_ms, lease_reads } = settings;
    format!(
        "It has agreed on limits.value {}, raft.electionTimeout {election_timeout_ms}ms, reads.lease {lease_reads}.\n",
        ByteSize::b(value_bytes)
    )
}

/// Whether a member votes: the place of one that was never taken in counts, and its host has no vote to give.
pub(super) fn votes(voter: bool, awaited: bool) -> &'static str {
    match (voter, awaited) {
        (true, true) => "once taken in",
        (true, false) => "yes",
        (false, _) => "no",
    }
}

/// A change of the voters that is not complete, in words.
fn pending_change(cluster: &ClusterStatus) -> String {
    let Some(change) = &cluster.change else { return String::new() };
    let (before, after) = (change.before.join(", "), change.after.join(", "));
    let seconds = change.for_seconds;
    let mut text = format!(
        "\nThe voters have been changing for {seconds} s, from {before} to {after}: both have to agree.\n"
    );
    if !change.missing.is_empty() {
        let missing = change.missing.join(", ");
        text += &format!(
            "It waits for {missing}, which cannot be reached: bring them back, or see `konsen member undo --help`.\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(verification: &str) -> Answer {
        let text = r#"{"name":"n1","id":"1","role":"follower","term":1,"commit":1,"applied":1,"last_index":1,"revision":1,
            "compact_revision":0,"log_bytes":1,"state_bytes":1,"version":"0","uptime_ms":1,"next_index":{},"match_index":{}"#;
        let status = serde_json::from_str(&format!("{text}{verification}}}"));
        ("http://1".to_owned(), Ok(status.unwrap_or_else(|error| panic!("{error}"))))
    }

    #[test]
    fn who_verifies_its_state_is_told_until_it_has() {
        let under_way =
            r#","verification":{"verified_bytes":1048576,"of_bytes":3145728,"seconds_left":9}"#;
        let ended =
            r#","verification":{"verified_bytes":7,"of_bytes":7,"ended":"2026-11-28T07:00:00Z"}"#;
        let said = verifying(&[endpoint(under_way), endpoint(ended)]);
        assert_eq!(said, "\nn1 verifies the file of its state: 1.0 MiB of 3.0 MiB, 9 s left.\n");
        // As one of an earlier release.
        assert_eq!(verifying(&[endpoint(ended), endpoint("")]), "");
    }
}
