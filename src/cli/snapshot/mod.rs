//! `konsen snapshot`: backups.

mod restore;
mod save;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde::Serialize;

use super::CliError;
use super::remote::{Format, columns, print, print_json};
use crate::store::{BackupCheck, BackupError, BackupSummary};

/// How much of a file is read at once.
const READ_BYTES: usize = 1 << 20;

/// Save, check and restore backups
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Save(save::Args),
    Inspect(Inspect),
    Restore(restore::Args),
}

/// Check a backup, all of it, and show what it holds
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen snapshot inspect konsen.backup
  konsen snapshot inspect konsen.backup -o json | jq .revision
  zstd -dc konsen.backup.zst | konsen snapshot inspect -

raw prints the digest alone, which is what sha256sum prints of the file. A damaged file is an error that says
where; the exit code is 1 then.")]
struct Inspect {
    /// The backup; - is standard input.
    file: PathBuf,
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Save(args) => save::run(args).await,
        Command::Inspect(args) => report(&inspect(&args.file)?, args.output),
        Command::Restore(args) => restore::run(args),
    }
}

/// Checks all of a file.
fn inspect(path: &Path) -> Result<BackupSummary, CliError> {
    let mut file = open(path)?;
    let path = named(path);
    let mut check = BackupCheck::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => check.feed(&buffer[..read]).map_err(|error| unusable(path, error))?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unusable(path, BackupError::Unreadable(error))),
        }
    }
    check.finish().map_err(|error| unusable(path, error))
}

/// What a path is called in messages.
fn named(path: &Path) -> &Path {
    if path.as_os_str() == "-" { Path::new("standard input") } else { path }
}

fn open(path: &Path) -> Result<Box<dyn Read>, CliError> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = File::open(path);
    let opened = opened
        .map_err(|error| CliError::failed(format!("cannot open {}: {error}", path.display())))?;
    Ok(Box::new(opened))
}

fn unusable(path: &Path, error: BackupError) -> CliError {
    match error {
        BackupError::Store(error) => error.into(),
        error => CliError::failed(format!("{}: {error}", path.display())),
    }
}

#[derive(Serialize)]
struct MemberJson<'a> {
    name: &'a str,
    raft_address: &'a str,
    http_address: &'a str,
    voter: bool,
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    format: u32,
    konsen: &'a str,
    cluster: &'a str,
    cluster_id: String,
    node: &'a str,
    created: &'a str,
    revision: u64,
    oldest_revision: u64,
    term: u64,
    index: u64,
    keys: u64,
    changes: u64,
    members: Vec<MemberJson<'a>>,
    bytes: u64,
    sha256: String,
}

impl<'a> SummaryJson<'a> {
    fn of(summary: &'a BackupSummary) -> SummaryJson<'a> {
        let BackupSummary { origin, members, .. } = summary;
        let member = |(&id, member): (_, &'a crate::raft::Member)| MemberJson {
            name: &member.name,
            raft_address: &member.raft_address,
            http_address: &member.http_address,
            voter: members.is_voter(id),
        };
        SummaryJson {
            format: summary.format,
            konsen: &origin.konsen,
            cluster: &origin.cluster,
            cluster_id: members.cluster.to_string(),
            node: &origin.node,
            created: &origin.created,
            revision: summary.revision.0,
            // Of what was given up nothing yet, revisions begin at 1.
            oldest_revision: summary.oldest.0.max(1),
            term: summary.last.term.0,
            index: summary.last.index.0,
            keys: summary.keys,
            changes: summary.changes,
            members: members.members.iter().map(member).collect(),
            bytes: summary.bytes,
            sha256: summary.digest.to_string(),
        }
    }
}

fn report(summary: &BackupSummary, output: Format) -> Result<(), CliError> {
    let json = SummaryJson::of(summary);
    match output {
        Format::Json => print_json(&json)?,
        Format::Raw => print(format!("{}\n", json.sha256).as_bytes())?,
        Format::Table => print(table(&json).as_bytes())?,
    }
    Ok(())
}

fn table(json: &SummaryJson<'_>) -> String {
    let role = |member: &MemberJson<'_>| {
        let role = if member.voter { "voter" } else { "learner" };
        format!("{} ({role}, {})", member.name, member.raft_address)
    };
    let members: Vec<String> = json.members.iter().map(role).collect();
    let lines = [
        ("REVISION", json.revision.to_string()),
        ("KEYS", json.keys.to_string()),
        ("CHANGES", format!("{}, from revision {} on", json.changes, json.oldest_revision)),
        ("ENTRY", format!("{} of term {}", json.index, json.term)),
        ("CLUSTER", format!("{} ({})", json.cluster, json.cluster_id)),
        ("MEMBERS", members.join(", ")),
        ("MADE", format!("{} by {}, konsen {}", json.created, json.node, json.konsen)),
        ("FORMAT", json.format.to_string()),
        ("BYTES", format!("{} ({})", json.bytes, ByteSize(json.bytes))),
        ("SHA-256", json.sha256.clone()),
    ];
    columns(&lines.map(|(name, value)| vec![name.to_owned(), value]))
}
