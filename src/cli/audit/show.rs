//! `konsen audit show`: the records of an audit, or those of somebody, of a key, of a time.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::output::say;
use super::super::remote::{Format, bytes_of, print, printable, shortened};
use super::super::{CliError, Exit};
use crate::audit::{self, LinesOf, Piece};

/// How much is printed at once, in bytes.
const PRINT_BYTES: usize = 64 << 10;

/// Show the records of a node's audit
///
/// They are not verified: `konsen audit verify` does that.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen audit show data/audit
  konsen audit show data/audit --who alice --since 2026-11-28T09:00:00Z
  konsen audit show data/audit --key app/config -o json | jq .status

json and raw print the lines as they stand in the files.")]
pub(super) struct Args {
    /// The directory with the files.
    dir: PathBuf,
    /// Only what somebody of that name asked for.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only what names this key, or a range that it is in.
    #[arg(long)]
    key: Option<OsString>,
    /// Only records of that kind, as put, range, member-add.
    #[arg(long)]
    kind: Option<String>,
    /// Only from this time on.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    since: Option<OffsetDateTime>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    until: Option<OffsetDateTime>,
    /// How to print them.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

fn time_of(text: &str) -> Result<OffsetDateTime, String> {
    let wrong = |_| "write it as 2026-11-28T09:00:00Z".to_owned();
    OffsetDateTime::parse(text, &Rfc3339).map_err(wrong)
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::failed(error.to_string());
    let key = args.key.clone().map(bytes_of);
    let numbers = audit::list(&args.dir).map_err(failed)?;
    if numbers.is_empty() {
        let text = format!("there are no files of an audit in {}", args.dir.display());
        return Err(CliError::new(Exit::Failed, text)
            .hint("name the directory `audit` in a node's data directory"));
    }
    let mut text = Vec::new();
    for number in numbers {
        let path = audit::path_of(&args.dir, number);
        let unreadable = |error: std::io::Error| {
            CliError::failed(format!("cannot read {}: {error}", path.display()))
        };
        let mut lines = LinesOf::of(File::open(&path).map_err(unreadable)?);
        let mut at = 0;
        while let Some(piece) = lines.next_piece().map_err(unreadable)? {
            at += 1;
            let line = match piece {
                Piece::Whole(line) => line,
                _ => &[],
            };
            match serde_json::from_slice::<Value>(line) {
                Ok(record) if wanted(args, key.as_deref(), &record) => match args.output {
                    Format::Table => text.extend_from_slice(row(&record).as_bytes()),
                    _ => text.extend_from_slice(&[line, b"\n"].concat()),
                },
                Ok(_) => {}
                Err(_) => say_unread(&path, at),
            }
            if text.len() > PRINT_BYTES {
                print(&std::mem::take(&mut text))?;
            }
        }
    }
    print(&text)
}

fn say_unread(path: &Path, line: u64) {
    let path = path.display();
    say(&format!("warning: {path}, line {line} is no record: see konsen audit verify\n"));
}

fn text_of<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

fn wanted(args: &Args, key: Option<&[u8]>, record: &Value) -> bool {
    let is = |wanted: &Option<String>, name| {
        wanted.as_deref().is_none_or(|wanted| text_of(record, name) == Some(wanted))
    };
    let time = text_of(record, "time").and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
    let in_time = |bound: Option<OffsetDateTime>, after: bool| {
        bound.is_none_or(|bound| time.is_some_and(|time| (time >= bound) == after))
    };
    is(&args.who, "who")
        && is(&args.kind, "kind")
        && in_time(args.since, true)
        && in_time(args.until, false)
        && key.is_none_or(|key| targets(record).any(|target| names(target, key)))
}

fn targets(record: &Value) -> impl Iterator<Item = &Value> {
    record.get("of").and_then(Value::as_array).into_iter().flatten()
}

/// Bytes at a name, or in base64 at another one.
fn bytes(target: &Value, name: &str) -> Option<Vec<u8>> {
    match text_of(target, name) {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => STANDARD.decode(text_of(target, &format!("{name}_base64"))?).ok(),
    }
}

fn names(target: &Value, key: &[u8]) -> bool {
    match (bytes(target, "key"), bytes(target, "start")) {
        (Some(named), _) => named == key,
        (None, Some(start)) => {
            key >= &start[..] && bytes(target, "end").is_none_or(|end| key < &end[..])
        }
        (None, None) => false,
    }
}

/// A line for people: when, who, from where, what, of which keys, and what came of it.
fn row(record: &Value) -> String {
    let text = |name: &str| text_of(record, name).unwrap_or("-").to_owned();
    let number = |name: &str| record.get(name).and_then(Value::as_u64);
    let of: Vec<String> = targets(record).map(shown).collect();
    let more = number("more").map_or(String::new(), |more| format!(" and {more} more"));
    let status = match (number("status"), text_of(record, "problem")) {
        (Some(status), Some(problem)) => format!("{status} {problem}"),
        (Some(status), None) => status.to_string(),
        (None, _) => "-".to_owned(),
    };
    let revision = number("revision").map_or(String::new(), |revision| format!("  rev {revision}"));
    let of = shortened(&printable(of.join(" ").as_bytes()));
    format!(
        "{:>8}  {}  {:<12}  {:<15}  {:<14}  {status}{revision}  {of}{more}\n",
        number("seq").unwrap_or_default(),
        text("time"),
        text("who"),
        text("from"),
        text("kind"),
    )
}

fn shown(target: &Value) -> String {
    let bytes = |name: &str| bytes(target, name).map(|bytes| printable(&bytes));
    match (bytes("key"), bytes("start"), text_of(target, "name")) {
        (Some(key), _, _) => key,
        (None, Some(start), _) => format!("[{start}, {})", bytes("end").unwrap_or_default()),
        (None, None, name) => name.unwrap_or_default().to_owned(),
    }
}
