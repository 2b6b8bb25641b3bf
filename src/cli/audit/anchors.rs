//! `konsen audit anchors`: what the cluster knows of the audits of its nodes.

use super::super::CliError;
use super::super::remote::{Connection, Format, columns, print, print_json};
use crate::api::AnchorsJson;

/// Show what the cluster knows of each node's audit
///
/// Keep what this prints as JSON away from the nodes, and the audit cannot be changed unseen by whoever rules all of them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen audit anchors
  konsen audit anchors -o json > anchors.json
  konsen audit anchors -o json | konsen audit verify data/audit --anchors -

raw prints a line for each: the node's identity, the number of the record, and its hash.")]
pub(super) struct Args {
    /// How to print them.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let client = args.connection.client()?;
    let AnchorsJson { anchors } = client.anchors().await?;
    match args.output {
        Format::Json => print_json(&AnchorsJson { anchors }),
        Format::Raw => {
            let line =
                |it: &crate::api::AnchorJson| format!("{} {} {}\n", it.id, it.sequence, it.hash);
            print(anchors.iter().map(line).collect::<String>().as_bytes())
        }
        Format::Table => {
            let names = ["NODE", "IDENTITY", "RECORD", "TIME", "HASH"];
            let mut rows = vec![names.map(str::to_owned).to_vec()];
            rows.extend(anchors.into_iter().map(|it| {
                let node = it.node.unwrap_or_else(|| "-".to_owned());
                vec![node, it.id, it.sequence.to_string(), it.time, it.hash]
            }));
            print(columns(&rows).as_bytes())
        }
    }
}
