//! `konsen snapshot save`: a backup from a running cluster into a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::super::logging::interrupted;
use super::super::output::{self, say};
use super::super::remote::{Connection, Format};
use super::super::{CliError, Exit};
use super::{SummaryJson, report, table};
use crate::api::digest_field;
use crate::client::{Client, SnapshotStream};
use crate::store::{BackupCheck, BackupSummary};

/// After how long a wait is told of.
const SAY_AFTER: Duration = Duration::from_secs(2);
/// The most symbolic links that a name may lead over.
const LINKS_MAX: usize = 40;
/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Save a backup of the running cluster
///
/// It reflects everything that was acknowledged before, while the cluster goes on. The file appears under its
/// name once it is whole, checked and on the disk. A fifo or a device is written through, and a symbolic link
/// stays one.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("timeout", |arg| arg.default_value("70s").help(
    "How long it may take until the backup begins, for which a node may write a checkpoint, and how long nothing may come \
     then"
)))]
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
    let target = Target::of(&args.file, args.force)?;
    if matches!(target, Target::Stdout) {
        output::writable()?;
    }
    let client = args.connection.client()?;
    let saved = async {
        let stream = begun(&client).await?;
        match target {
            Target::Stdout => {
                let copy = io::stdout().as_fd().try_clone_to_owned();
                let copy = copy.map_err(|error| output::unwritten(&error))?;
                let mut to = tokio::fs::File::from_std(File::from(copy));
                let summary = receive(stream, &mut to, "standard output").await?;
                // Data only on standard output.
                say(&table(&SummaryJson::of(&summary)));
                Ok(())
            }
            Target::Through(path) => {
                let mut to = open_through(&path).await?;
                let summary = receive(stream, &mut to, &path.display().to_string()).await?;
                // Not everything that is written through can be synced.
                let _ = to.sync_all().await;
                let done = format!("the backup went through {}", path.display());
                report(&summary, args.output).map_err(|error| error.although(&done))
            }
            Target::File(path) => {
                let mut part = PartFile::create(&path)?;
                let name = path.display().to_string();
                let copy = part
                    .file
                    .try_clone()
                    .map_err(|error| CliError::failed(format!("cannot write {name}: {error}")))?;
                let summary = receive(stream, &mut tokio::fs::File::from_std(copy), &name).await?;
                part.put_in_place(&path, args.force)?;
                let done = format!("{} was saved", path.display());
                report(&summary, args.output).map_err(|error| error.although(&done))
            }
        }
    };
    tokio::select! {
        saved = saved => saved,
        () = interrupted() => Err(CliError::new(Exit::Interrupted, "interrupted; nothing was saved")),
    }
}

/// Where a backup goes.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Standard output.
    Stdout,
    /// Something that is no file, such as a fifo or a device: it is written, and stays what it is.
    Through(PathBuf),
    /// A file, new or in the place of another; where the name is a symbolic link, what that names.
    File(PathBuf),
}

impl Target {
    fn of(path: &Path, force: bool) -> Result<Target, CliError> {
        if path.as_os_str() == "-" {
            return Ok(Target::Stdout);
        }
        let shown = path.display();
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Target::File(named_by(path)?));
            }
            Err(error) => {
                return Err(CliError::failed(format!("cannot look at {shown}: {error}")));
            }
        };
        // By another name, as /dev/stdout is: nothing but data may go there.
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let stdout = stdout.and_then(|stdout| stdout.metadata());
        if stdout.is_ok_and(|stdout| (stdout.dev(), stdout.ino()) == (found.dev(), found.ino())) {
            return Ok(Target::Stdout);
        }
        let kind = found.file_type();
        if kind.is_dir() {
            return Err(CliError::failed(format!("{shown} is a folder")).hint("name a file in it"));
        }
        if (kind.is_file() || kind.is_block_device()) && !force {
            return Err(exists(path));
        }
        if !kind.is_file() {
            return Ok(Target::Through(path.to_path_buf()));
        }
        let real = fs::canonicalize(path);
        real.map(Target::File)
            .map_err(|error| CliError::failed(format!("cannot look at {shown}: {error}")))
    }
}

/// What a name leads to that may be a symbolic link to nothing yet.
fn named_by(path: &Path) -> Result<PathBuf, CliError> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(CliError::failed(format!("{}: too many symbolic links", path.display())))
}

fn exists(path: &Path) -> CliError {
    CliError::failed(format!("{} exists", path.display()))
        .hint("choose another name, or replace it with --force")
}

/// Says so if it takes long.
async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = tokio::time::sleep(SAY_AFTER) => {
            say(&format!("{what}\n"));
            work.await
        }
    }
}

async fn begun(client: &Client) -> Result<SnapshotStream, CliError> {
    Ok(patiently("waiting for a node to begin the backup", client.snapshot()).await?)
}

async fn open_through(path: &Path) -> Result<tokio::fs::File, CliError> {
    let mut options = tokio::fs::OpenOptions::new();
    let opened = options.write(true).open(path);
    let shown = path.display();
    patiently(&format!("waiting for somebody to read {shown}"), opened)
        .await
        .map_err(|error| CliError::failed(format!("cannot open {shown}: {error}")))
}

fn is_free(path: &Path) -> Result<(), CliError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::failed(format!("cannot look at {}: {error}", path.display()))),
        Ok(_) => Err(exists(path)),
    }
}

/// Writes what comes, and checks it on the way.
async fn receive(
    mut stream: SnapshotStream,
    to: &mut (impl AsyncWrite + Unpin),
    name: &str,
) -> Result<BackupSummary, CliError> {
    let unwritten = |error: io::Error| match name {
        "standard output" => output::unwritten(&error),
        name => CliError::failed(format!("cannot write {name}: {error}")),
    };
    let mut check = BackupCheck::default();
    let mut progress = Progress::begin();
    while let Some(bytes) = stream.next().await? {
        check.feed(&bytes).map_err(|error| unsound(&error))?;
        to.write_all(&bytes).await.map_err(unwritten)?;
        progress.add(bytes.len());
    }
    to.flush().await.map_err(unwritten)?;
    progress.end();
    let summary = check.finish().map_err(|error| unsound(&error))?;
    // Something on the way may drop a trailer. The file has a digest of its own, which fits.
    if let Some(said) = stream.digest()
        && said != digest_field(&summary.digest.0)
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
            // Nobody has named the file beside it.
            CliError::failed(format!("cannot create {}: {error}", target.display()))
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
