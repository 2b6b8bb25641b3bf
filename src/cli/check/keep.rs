//! Where histories are kept.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::check::history::History;
use crate::cli::CliError;

/// Reads a kept history.
pub(super) fn read(path: &Path) -> Result<History, CliError> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    History::read(BufReader::new(file)).map_err(|error| {
        CliError::failed(format!("{} is not a history: {error}", path.display()))
            .hint("konsen check --history FILE makes one")
    })
}

/// Makes the file, so that a run does not find out at its end that it cannot be written.
pub(super) fn create(path: &Path) -> Result<File, CliError> {
    Ok(File::create(path).with_context(|| format!("cannot create {}", path.display()))?)
}

/// Writes a history into a file.
pub(super) fn write(history: &History, file: File, path: &Path) -> Result<(), CliError> {
    let mut out = BufWriter::new(file);
    let written = history.write(&mut out).and_then(|()| out.flush());
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}

/// Writes a history that nobody asked for but that somebody will want to see: into a new file here, or where
/// temporary files go. Where.
pub(super) fn rescue(history: &History) -> Result<PathBuf, CliError> {
    let name = format!("konsen-check-{:016x}.jsonl", rand::random::<u64>());
    let mut last = CliError::failed("there is no place for the history");
    for path in [PathBuf::from(&name), std::env::temp_dir().join(&name)] {
        let made = File::create_new(&path)
            .with_context(|| format!("cannot create {}", path.display()))
            .map_err(CliError::from);
        match made.and_then(|file| write(history, file, &path)) {
            Ok(()) => return Ok(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}
