//! `konsen status`: the endpoints and the members of a cluster.

use serde::Serialize;

use super::remote::{Connection, Format, columns, print, print_json};
use super::{CliError, Exit};
use crate::client::Error;
use crate::server::{ClusterStatus, Status};

/// Show the endpoints and the members of the cluster
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen status
  konsen status --endpoints http://127.0.0.1:20001,http://127.0.0.1:20002
  konsen status -o json | jq .cluster.leader

raw prints the leader's name alone. The exit code is 5 if no endpoint answers.")]
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
    let endpoints = client.status().await;
    if endpoints.iter().all(|(_, answer)| answer.is_err()) {
        let mut errors = endpoints.into_iter().filter_map(|(_, answer)| answer.err());
        let error = errors.next_back().map(CliError::from);
        return Err(error.unwrap_or(CliError::new(Exit::Unavailable, "there is no endpoint")));
    }
    let cluster = client.cluster().await?;
    match args.output {
        Format::Json => print_json(&StatusJson {
            endpoints: endpoints.iter().map(endpoint_json).collect(),
            cluster: &cluster,
        })?,
        Format::Raw => {
            let leader = cluster.leader.as_deref().unwrap_or_default();
            print(format!("{leader}\n").as_bytes())?
        }
        Format::Table => {
            let text = format!("{}\n{}", endpoint_table(&endpoints), member_table(&cluster));
            print(text.as_bytes())?
        }
    }
    Ok(())
}

type Answer = (String, Result<Status, Error>);

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
                &status.role,
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
        "CERTIFICATE",
    ])];
    for member in &cluster.members {
        rows.push(row([
            &member.name,
            &member.role,
            if member.voter { "yes" } else { "no" },
            if member.reachable { "yes" } else { "no" },
            &number(member.matched),
            &number(member.lag),
            &member.raft_address,
            &member.http_address,
            member.certificate_expires.as_deref().unwrap_or("-"),
        ]));
    }
    columns(&rows)
}
