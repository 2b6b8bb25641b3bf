//! `konsen audit verify`: whether the files of an audit are as they were written.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::remote::{Format, print, print_json};
use super::super::{CliError, output};
use crate::api::{AnchorJson, AnchorsJson};
use crate::audit::{self, Anchor, Finding, Hash, Head, Verified};
use crate::kv::{RecordKey, decode_anchors};
use crate::raft::NodeId;
use crate::store;

/// No file of anchors is larger, in bytes.
const ANCHORS_BYTES_MAX: u64 = 64 << 20;

/// Verify the files of a node's audit, without the node
///
/// Finds records that were changed, removed or put elsewhere, and files that are missing between others. With anchors also
/// records that are missing at the end, and a chain that somebody has written anew.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen audit verify data/audit
  konsen audit verify data/audit --anchors anchors.json
  konsen audit anchors -o json | konsen audit verify data/audit --anchors -
  konsen audit verify data/audit --data /other/node/data

Files that were removed as newer ones were made are no damage: the first one that is left says where it begins. What is wrong
is an error that names file, line and record; the exit code is 1 then. raw prints the number and the hash of the last record.")]
pub(super) struct Args {
    /// The directory with the files: `audit` in a node's data directory, or a copy of it.
    dir: PathBuf,
    /// What the cluster knows, as `konsen audit anchors -o json` prints it; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    anchors: Option<PathBuf>,
    /// The data directory of a stopped node of the cluster, as of its last checkpoint, to take the anchors from.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How to print what was verified.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// What was verified, for programs.
#[derive(Serialize)]
struct Json<'a> {
    node: &'a str,
    id: &'a str,
    files: u64,
    records: u64,
    first: u64,
    last: u64,
    hash: String,
    anchors: u64,
    anchored: Option<u64>,
    sound: bool,
    findings: Vec<FindingJson<'a>>,
    more_findings: u64,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    file: &'a str,
    line: Option<u64>,
    record: Option<u64>,
    what: &'a str,
}

/// Runs the command.
pub(super) fn run(args: Args) -> Result<(), CliError> {
    let anchors = match (&args.anchors, &args.data) {
        (Some(file), _) => Some(stated(file)?),
        (None, Some(data)) => Some(stored(data)?),
        (None, None) => None,
    };
    let verified = audit::verify(&args.dir, anchors.as_deref().unwrap_or_default());
    let verified = verified.map_err(|error| CliError::failed(error.to_string()))?;
    if verified.files == 0 {
        let dir = args.dir.display();
        return Err(CliError::failed(format!("there are no files of an audit in {dir}"))
            .hint("name the directory `audit` in a node's data directory"));
    }
    let printed = match args.output {
        Format::Json => print_json(&json(&verified)),
        _ if !verified.is_sound() => Ok(()),
        Format::Raw => {
            print(format!("{} {}\n", verified.last.sequence, verified.last.hash).as_bytes())
        }
        Format::Table => print(told(&verified, anchors.is_some()).as_bytes()),
    };
    printed?;
    unsound(&args.dir, &verified)?;
    match (&anchors, verified.anchored) {
        (Some(_), None) => Err(CliError::failed(format!(
            "no anchor is of a record of {} ({}) that is here: nothing tells whether the chain is the one that the cluster knows",
            verified.node, verified.id
        ))
        .hint("take anchors of the cluster that this node belongs to, from when it had these records or later")),
        _ => Ok(()),
    }
}

/// The error that says what is wrong, if anything is: the first of it, after the rest.
fn unsound(dir: &Path, verified: &Verified) -> Result<(), CliError> {
    let Some((first, others)) = verified.findings.split_first() else { return Ok(()) };
    let others = others.iter().map(|finding| format!("also: {}\n", place(dir, finding)));
    output::say(&others.collect::<String>());
    if verified.more > 0 {
        output::say(&format!("and {} more\n", verified.more));
    }
    let hint =
        "keep the files as they are; other nodes' audits and `konsen audit anchors` tell more";
    Err(CliError::failed(place(dir, first)).hint(hint))
}

fn place(dir: &Path, finding: &Finding) -> String {
    let Finding { file, line, record, what } = finding;
    let mut text = dir.join(file).display().to_string();
    if let Some(line) = line {
        text += &format!(", line {line}");
    }
    if let Some(record) = record {
        text += &format!(", record {record}");
    }
    format!("{text}: {what}")
}

fn told(verified: &Verified, with_anchors: bool) -> String {
    let Verified { node, id, files, records, first, last, anchors, anchored, .. } = verified;
    let mut text = format!(
        "{node} ({id}): {records} records in {files} files, {first} to {}, all as they were written\nlast hash {}\n",
        last.sequence, last.hash
    );
    if *first > 1 {
        text += &format!("records before {first} went with files that are not kept\n");
    }
    text += &match (with_anchors, anchored) {
        (true, Some(anchored)) => {
            format!("{anchors} anchors fit, the last one is of record {anchored}\n")
        }
        // It is said as an error.
        (true, None) => String::new(),
        (false, _) => {
            "without anchors nothing tells whether records are missing at the end: see --anchors\n"
                .to_owned()
        }
    };
    text
}

fn json(verified: &Verified) -> Json<'_> {
    Json {
        node: &verified.node,
        id: &verified.id,
        files: verified.files,
        records: verified.records,
        first: verified.first,
        last: verified.last.sequence,
        hash: verified.last.hash.to_string(),
        anchors: verified.anchors,
        anchored: verified.anchored,
        sound: verified.is_sound(),
        findings: verified.findings.iter().map(FindingJson::of).collect(),
        more_findings: verified.more,
    }
}

impl<'a> FindingJson<'a> {
    fn of(finding: &'a Finding) -> FindingJson<'a> {
        let Finding { file, line, record, what } = finding;
        FindingJson { file, line: *line, record: *record, what }
    }
}

/// The anchors in a file.
fn stated(path: &Path) -> Result<Vec<Anchor>, CliError> {
    let (name, file): (_, Box<dyn Read>) = match path.as_os_str() == "-" {
        true => (Path::new("standard input"), Box::new(std::io::stdin())),
        false => {
            let failed =
                |error| CliError::failed(format!("cannot open {}: {error}", path.display()));
            (path, Box::new(File::open(path).map_err(failed)?))
        }
    };
    let wrong = |why: String| {
        CliError::failed(format!("{}: {why}", name.display()))
            .hint("give what `konsen audit anchors -o json` prints")
    };
    let mut bytes = Vec::new();
    let read = file.take(ANCHORS_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > ANCHORS_BYTES_MAX {
        return Err(wrong("it is too large for anchors".to_owned()));
    }
    let json: AnchorsJson =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let anchor = |it: AnchorJson| {
        let hash: Hash = it.hash.parse().map_err(|error| wrong(format!("{}: {error}", it.hash)))?;
        Ok(Anchor { id: it.id, head: Head { sequence: it.sequence, hash } })
    };
    json.anchors.into_iter().map(anchor).collect()
}

/// The anchors that a stopped node has.
fn stored(data: &Path) -> Result<Vec<Anchor>, CliError> {
    let (from, to) = RecordKey::anchors();
    let records = store::stored_records(data, &from, &to)?;
    let anchors = decode_anchors(records.values());
    let anchors =
        anchors.map_err(|error| CliError::failed(format!("{}: {error}", data.display())))?;
    let anchor = |it: crate::kv::Anchored| {
        let head = Head { sequence: it.anchor.sequence, hash: Hash(it.anchor.hash) };
        Anchor { id: NodeId(it.anchor.node).to_string(), head }
    };
    Ok(anchors.into_iter().map(anchor).collect())
}
