//! A file that lies as disks do: what is written is there to be read at once, but survives a loss
//! of power for certain only after a sync. Of what was not synced any part may survive, torn at
//! sectors.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;

use super::random::{Random, mix};

/// What a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// A file as redb sees it. Clones are the same file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// So many more changes and syncs go well, then none does; none: all do.
    left: Option<u64>,
    operations: u64,
    ail: Option<Ail>,
    /// Whether the ailment has shown.
    failed: bool,
}

/// What a disk does wrong, with an error that tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ail {
    pub(crate) at: Operation,
    /// So many of these go well before.
    pub(crate) after: u64,
    /// Later ones go well again. A sync that does so has lost what it should have made durable.
    pub(crate) once: bool,
    pub(crate) error: io::ErrorKind,
}

/// What can be asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Sync,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

impl Disk {
    /// A file with that content, all of it durable.
    pub(crate) fn with(content: Vec<u8>) -> Disk {
        let content = Content { live: content.clone(), durable: content, ..Content::default() };
        Disk(Arc::new(Mutex::new(content)))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock()
    }

    /// The power fails after `operations` more changes or syncs.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.content().left = Some(operations);
    }

    /// The disk ails from now on.
    pub(crate) fn ail(&self, ail: Ail) {
        self.content().ail = Some(ail);
    }

    /// What is there to be read.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.content().live.clone()
    }

    /// The disk is well again.
    pub(crate) fn cure(&self) {
        self.content().ail = None;
    }

    /// Whether it fails, or will.
    pub(crate) fn is_ailing(&self) -> bool {
        self.content().ail.is_some()
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.content().failed
    }

    /// Changes and syncs so far.
    pub(crate) fn operations(&self) -> u64 {
        self.content().operations
    }

    /// The power fails now. What a later start finds: everything synced, and of the rest what
    /// `chance`
    /// picks. Also whether anything that was not synced was lost, and whether anything of it was
    /// kept.
    pub(crate) fn crash(&self, chance: u64) -> (Disk, Survival) {
        let mut content = self.content();
        content.left = Some(0);
        let mut image = content.durable.clone();
        let mut survival = Survival::default();
        // Sometimes all or nothing survives, as it does when the disk was quick or idle.
        let mood = mix(chance) % 8;
        for (number, change) in content.unsynced.iter().enumerate() {
            let survives = |place: u64| match mood {
                0 => true,
                1 | 2 => false,
                _ => mix(chance ^ mix(place.wrapping_add((number as u64) << 40))).is_multiple_of(2),
            };
            match change {
                Change::SetLen(len) => {
                    if survives(u64::MAX >> 24) {
                        image.resize(*len as usize, 0);
                        survival.kept += 1;
                    } else {
                        survival.lost += 1;
                    }
                }
                Change::Write { offset, data } => {
                    let mut at = *offset;
                    let end = offset + data.len() as u64;
                    while at < end {
                        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                        if survives(at / SECTOR_BYTES) {
                            if image.len() < next as usize {
                                image.resize(next as usize, 0);
                            }
                            image[at as usize..next as usize].copy_from_slice(
                                &data[(at - offset) as usize..(next - offset) as usize],
                            );
                            survival.kept += 1;
                        } else {
                            survival.lost += 1;
                        }
                        at = next;
                    }
                }
            }
        }
        (Disk::with(image), survival)
    }
}

/// Drops what a process held that has no power any more. redb closes its file then, and may panic over what
/// a disk that fails gave it; but the process that this would stop is gone.
pub(crate) fn power_off<T>(held: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
}

/// Does what happens to files at rest; says what.
pub(crate) fn damage(image: &mut [u8], random: &mut Random) -> String {
    let sector = SECTOR_BYTES as usize;
    // Most of a file is empty, and damage there shows nothing.
    let used: Vec<usize> = (0..image.len() / sector)
        .filter(|at| image[at * sector..][..sector].iter().any(|&byte| byte != 0))
        .collect();
    if used.is_empty() {
        return "nothing".to_owned();
    }
    let (to, from) = (*random.pick(&used) * sector, *random.pick(&used) * sector);
    match random.below(4) {
        0 => {
            image[to..to + sector].fill(0);
            format!("the sector at {to} is lost")
        }
        1 => {
            image.copy_within(from..from + sector, to);
            format!("the sector at {from} is also at {to}")
        }
        _ => {
            let (at, bit) = (to + random.below(SECTOR_BYTES) as usize, random.below(8));
            image[at] ^= 1 << bit;
            format!("bit {bit} is flipped at {at}")
        }
    }
}

/// What became of the sectors that were not synced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survival {
    pub(crate) kept: u64,
    pub(crate) lost: u64,
}

impl Content {
    fn ail(&mut self, operation: Operation) -> io::Result<()> {
        let Some(ail) = self.ail.as_mut().filter(|ail| ail.at == operation) else { return Ok(()) };
        if ail.after > 0 {
            ail.after -= 1;
            return Ok(());
        }
        self.failed = true;
        let error = ail.error;
        if ail.once {
            self.ail = None;
            if operation == Operation::Sync {
                self.unsynced.clear();
            }
        }
        Err(io::Error::new(error, "the disk has failed"))
    }

    fn spend(&mut self, operation: Operation) -> io::Result<()> {
        self.ail(operation)?;
        match &mut self.left {
            Some(0) => return Err(io::Error::other("the power has failed")),
            Some(left) => *left -= 1,
            None => {}
        }
        self.operations += 1;
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut content = self.content();
        content.ail(Operation::Read)?;
        let start = offset as usize;
        let stored = content.live.get(start..start + out.len());
        out.copy_from_slice(stored.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.content();
        content.spend(Operation::Write)?;
        content.live.resize(len as usize, 0);
        content.unsynced.push(Change::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.content();
        content.spend(Operation::Sync)?;
        let Content { durable, unsynced, .. } = &mut *content;
        for change in unsynced.drain(..) {
            match change {
                Change::SetLen(len) => durable.resize(len as usize, 0),
                Change::Write { offset, data } => {
                    let end = offset as usize + data.len();
                    if durable.len() < end {
                        // A sync that failed has lost the growth.
                        durable.resize(end, 0);
                    }
                    durable[offset as usize..end].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        content.spend(Operation::Write)?;
        let start = offset as usize;
        let place = content.live.get_mut(start..start + data.len());
        place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        content.unsynced.push(Change::Write { offset, data: data.to_vec() });
        Ok(())
    }
}
