//! `konsen snapshot save`: a backup from a running cluster into a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::super::logging::interrupted;
use super::super::output::say;
use super::super::remote::{Connection, Format};
use super::super::{CliError, Exit};
use super::{SummaryJson, report, table};
use crate::client::SnapshotStream;
use crate::http::digest_field;
use crate::store::{BackupCheck, BackupSummary};

/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Save a backup of the running cluster
///
/// It reflects everything that was acknowledged before, while the cluster goes on. The file appears under its
/// name once it is whole, checked and on the disk.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen snapshot save konsen.backup
  konsen snapshot save - | zstd | ssh backups 'cat > konsen.backup.zst'

raw prints the digest alone, which is what sha256sum prints of the file.")]
pub(super) struct Args {
    /// Where to; - is standard output.
    file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// How to print what was saved.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let to_stdout = args.file.as_os_str() == "-";
    if !to_stdout && !args.force {
        is_free(&args.file)?;
    }
    let client = args.connection.client()?;
    let saved = async {
        let stream = client.snapshot().await?;
        if to_stdout {
            let summary = receive(stream, &mut io::stdout().lock(), "standard output").await?;
            // Data only on standard output.
            say(&table(&SummaryJson::of(&summary)));
            return Ok(());
        }
        let mut part = PartFile::create(&args.file)?;
        let name = part.path.display().to_string();
        let summary = receive(stream, &mut part.file, &name).await?;
        part.put_in_place(&args.file, args.force)?;
        report(&summary, args.output)
    };
    tokio::select! {
        saved = saved => saved,
        () = interrupted() => Err(CliError::new(Exit::Interrupted, "interrupted; nothing was saved")),
    }
}

fn is_free(path: &Path) -> Result<(), CliError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::failed(format!("cannot look at {}: {error}", path.display()))),
        Ok(_) => Err(CliError::failed(format!("{} exists", path.display()))
            .hint("choose another name, or replace it with --force")),
    }
}

/// Writes what comes, and checks it on the way.
async fn receive(
    mut stream: SnapshotStream,
    to: &mut impl Write,
    name: &str,
) -> Result<BackupSummary, CliError> {
    let unwritten = |error: io::Error| CliError::failed(format!("cannot write {name}: {error}"));
    let mut check = BackupCheck::default();
    let mut progress = Progress::begin();
    while let Some(bytes) = stream.next().await? {
        check.feed(&bytes).map_err(|error| unsound(&error))?;
        to.write_all(&bytes).map_err(unwritten)?;
        progress.add(bytes.len());
    }
    to.flush().map_err(unwritten)?;
    progress.end();
    let summary = check.finish().map_err(|error| unsound(&error))?;
    // Something on the way may drop a trailer. The file has a digest of its own, which fits.
    if let Some(said) = stream.digest()
        && said != digest_field(&summary.digest)
    {
        return Err(unsound(&format!("its trailer says {said}, its bytes {}", summary.digest)));
    }
    if stream.revision() != summary.revision {
        let (said, found) = (stream.revision(), summary.revision);
        return Err(unsound(&format!("its header says revision {said}, its content {found}")));
    }
    Ok(summary)
}

fn unsound(why: &impl std::fmt::Display) -> CliError {
    CliError::failed(format!("what came is no sound backup: {why}"))
        .hint("try another node with --endpoints; if it says the same, its log tells more")
}

/// A file that is being written beside its place; removed unless it gets there.
struct PartFile {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl PartFile {
    fn create(target: &Path) -> Result<PartFile, CliError> {
        let mut name = target.file_name().map(ToOwned::to_owned).ok_or_else(|| {
            CliError::usage(format!("{} is not the name of a file", target.display()))
        })?;
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        // It holds everything that the cluster does.
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| {
            CliError::failed(format!("cannot create {}: {error}", path.display()))
        })?;
        Ok(PartFile { path, file, placed: false })
    }

    fn put_in_place(&mut self, target: &Path, force: bool) -> Result<(), CliError> {
        if !force {
            is_free(target)?;
        }
        let dir = match target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let placed = self.file.sync_all().and_then(|()| fs::rename(&self.path, target));
        self.placed = placed.is_ok();
        placed.and_then(|()| File::open(dir)?.sync_all()).map_err(|error| {
            CliError::failed(format!("cannot put {} on the disk: {error}", target.display()))
        })
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed has a name that says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Bytes and rate, on a terminal.
struct Progress {
    shown: bool,
    began: Instant,
    last: Instant,
    bytes: u64,
}

impl Progress {
    fn begin() -> Progress {
        let now = Instant::now();
        Progress { shown: io::stderr().is_terminal(), began: now, last: now, bytes: 0 }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.shown && self.last.elapsed() >= SHOW_EVERY {
            self.last = Instant::now();
            let rate = self.bytes as f64 / self.began.elapsed().as_secs_f64().max(0.001);
            let (bytes, rate) = (ByteSize(self.bytes), ByteSize(rate as u64));
            let line = format!("\r{bytes} at {rate}/s        ");
            say(&line);
        }
    }

    fn end(&mut self) {
        if self.shown {
            say("\r                                    \r");
        }
    }
}
