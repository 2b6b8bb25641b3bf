//! A database's file, whose pages are verified as they are read and, beside that, one after the other until all of them are: so that a
//! start need not wait for it.
//!
//! redb verifies its pages only at an open, and all of them; later it believes what it reads. So this stands between it and the file,
//! and holds each page that was there at the open against the checksum that its parent has for it: whatever redb reads was verified
//! before it saw it. A page is asked for only by who has read its parent, and so what must be in it is known.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;

use super::backend::forward_locks;
use super::checks::{Checks, Fault};
use super::pages::{HEADER_BYTES, Roots};
use super::walk::Walk;

/// The file as redb sees it.
#[derive(Debug)]
pub(super) struct VerifyingFile {
    file: Arc<dyn StorageBackend>,
    /// None if redb verifies all pages itself, as it opens the file.
    checks: Option<Arc<Checks>>,
}

/// Gets ready to verify the pages of a file that redb has yet to open, and verifies at once what is small: the header, which tables
/// there are, and redb's own tables, whose pages it uses again without asking who reads them. No walk if redb has to look at all pages
/// itself, to find out what the file holds.
pub(super) fn begin(
    file: Arc<dyn StorageBackend>,
    path: &Path,
) -> Result<(VerifyingFile, Option<Walk>), Fault> {
    let bytes = file.len()?;
    let mut header = [0; HEADER_BYTES];
    if bytes >= header.len() as u64 {
        file.read(0, &mut header)?;
    }
    let Some(roots) = Roots::of(&header) else {
        return Ok((VerifyingFile { file, checks: None }, None));
    };
    let checks = Arc::new(Checks::new(path, roots.layout, bytes));
    let walk = Walk::begin(file.clone(), checks.clone(), &roots, bytes)?;
    Ok((VerifyingFile { file, checks: Some(checks) }, Some(walk)))
}

impl StorageBackend for VerifyingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)?;
        let checked = self.checks.as_ref().map_or(Ok(()), |checks| checks.check(offset, out));
        checked.map_err(|damaged| io::Error::new(io::ErrorKind::InvalidData, damaged))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Before anybody can read it.
        if let Some(checks) = &self.checks {
            checks.forget(offset, data.len());
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    forward_locks!(file);
}
