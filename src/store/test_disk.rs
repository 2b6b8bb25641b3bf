//! A disk in memory for tests: it keeps what was written and what was synced apart, fails on demand, and
//! shows what a power loss may leave of it.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

use super::error::StoreError;
use super::log::{Log, LogOptions, RecoveredLog};

/// What a disk writes in one piece.
const SECTOR_BYTES: usize = 512;

/// What the disks of one machine share: how many operations that change something they have seen, and
/// when they begin to fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Power(Arc<Mutex<Supply>>, Arc<Reads>);

/// Reads that a stalled disk does not answer.
#[derive(Debug, Default)]
struct Reads {
    stalled: Mutex<Option<usize>>,
    moved: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Supply {
    operations: u64,
    fault: Fault,
    failed: bool,
}

/// From which operation on what fails. Operations are counted from 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Fault {
    #[default]
    None,
    /// Everything fails for ever.
    StopAt(u64),
    /// Writing and growing fail: no space is left.
    FullFrom(u64),
    /// Syncing fails once, with everything that was not synced in doubt.
    SyncAt(u64),
    /// Syncing panics, once.
    PanicAt(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Sync,
}

impl Power {
    /// Sets what fails from now on.
    pub(super) fn fail(&self, fault: Fault) {
        self.0.lock().fault = fault;
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// From now on no read is answered.
    pub(super) fn stall_reads(&self) {
        *self.1.stalled.lock() = Some(0);
    }

    /// Waits until a read waits that is not answered.
    pub(super) fn await_stalled_read(&self) {
        let mut stalled = self.1.stalled.lock();
        self.1.moved.wait_while(&mut stalled, |waiting| *waiting == Some(0));
    }

    /// All reads are answered again.
    pub(super) fn answer_reads(&self) {
        *self.1.stalled.lock() = None;
        self.1.moved.notify_all();
    }

    fn readable(&self) -> io::Result<()> {
        let mut stalled = self.1.stalled.lock();
        if let Some(waiting) = &mut *stalled {
            *waiting += 1;
            self.1.moved.notify_all();
            self.1.moved.wait_while(&mut stalled, |waiting| waiting.is_some());
        }
        drop(stalled);
        let supply = self.0.lock();
        if supply.failed && matches!(supply.fault, Fault::StopAt(_)) {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }

    fn operate(&self, kind: Kind) -> io::Result<()> {
        let mut supply = self.0.lock();
        supply.operations += 1;
        let now = supply.operations;
        match supply.fault {
            Fault::StopAt(at) if now >= at => {
                supply.failed = true;
                Err(io::Error::other("the power is gone"))
            }
            Fault::FullFrom(at) if now >= at && kind == Kind::Write => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Fault::SyncAt(at) if now >= at && kind == Kind::Sync && !supply.failed => {
                supply.failed = true;
                Err(io::Error::other("the sync failed"))
            }
            Fault::PanicAt(at) if now >= at && kind == Kind::Sync && !supply.failed => {
                supply.failed = true;
                panic!("the disk panics");
            }
            _ => Ok(()),
        }
    }
}

/// Which of the sectors that were not synced a power loss leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keeps {
    None,
    All,
    /// Every second one, from the first or the second on.
    Alternating(bool),
    /// A coin for each, drawn from this seed.
    Random(u64),
}

impl Keeps {
    /// One of each kind; `seed` for the coins.
    pub(super) fn all(seed: u64) -> [Keeps; 6] {
        let random = Keeps::Random(seed.wrapping_mul(2));
        let other = Keeps::Random(seed.wrapping_mul(2) + 1);
        let alternating = [Keeps::Alternating(true), Keeps::Alternating(false)];
        [Keeps::None, Keeps::All, alternating[0], alternating[1], random, other]
    }

    fn keeps(self, piece: u64) -> bool {
        match self {
            Keeps::None => false,
            Keeps::All => true,
            Keeps::Alternating(first) => piece.is_multiple_of(2) == first,
            Keeps::Random(seed) => {
                // SplitMix64.
                let mut z = seed.wrapping_add(piece.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ (z >> 31)) & 1 == 1
            }
        }
    }
}

/// One file. Clones are the same file.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    power: Power,
    content: Arc<Mutex<Content>>,
    journal: Option<Journal>,
}

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Resize(usize),
}

impl Disk {
    pub(super) fn new(power: &Power) -> Disk {
        Disk { power: power.clone(), ..Disk::default() }
    }

    /// A disk with this content, all of it synced.
    pub(super) fn holding(bytes: Vec<u8>) -> Disk {
        let content = Content { live: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        Disk { content: Arc::new(Mutex::new(content)), ..Disk::default() }
    }

    /// The same disk in a machine with this power.
    pub(super) fn powered_by(self, power: &Power) -> Disk {
        Disk { power: power.clone(), ..self }
    }

    /// An empty disk that writes down what it is told.
    pub(super) fn recorded(journal: &Journal) -> Disk {
        Disk { journal: Some(journal.clone()), ..Disk::default() }
    }

    fn record(&self, told: impl FnOnce() -> Told) {
        if let Some(Journal(journal)) = &self.journal {
            journal.lock().push(told());
        }
    }

    /// All bytes as a reader sees them now.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.content.lock().live.clone()
    }

    /// The disk after a power loss now.
    pub(super) fn after_power_loss(&self, keeps: Keeps) -> Disk {
        let content = self.content.lock();
        let mut bytes = content.durable.clone();
        let mut piece = 0;
        for change in &content.unsynced {
            match change {
                Change::Resize(_) => {
                    if keeps.keeps(piece) {
                        change.carry_out(&mut bytes);
                    }
                    piece += 1;
                }
                Change::Write { at, data } => {
                    for part in sectors(*at, data.len()) {
                        if keeps.keeps(piece) {
                            let end = bytes.len().max(part.end);
                            bytes.resize(end, 0);
                            bytes[part.clone()]
                                .copy_from_slice(&data[part.start - at..part.end - at]);
                        }
                        piece += 1;
                    }
                }
            }
        }
        Disk::holding(bytes)
    }
}

impl Change {
    fn carry_out(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Resize(len) => bytes.resize(*len, 0),
            Change::Write { at, data } => {
                let end = at + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(data);
            }
        }
    }
}

/// All that a disk was told, in order, so that the power can be lost at each moment of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<Told>>>);

#[derive(Debug)]
enum Told {
    Change(Change),
    Sync,
}

/// Of how many writes that were not synced every subset is tried; more takes twice as long each.
pub(super) fn subsets_of() -> usize {
    std::env::var("KONSEN_CRASH_SUBSETS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// What a power loss leaves: up to which moment of the journal, counted in operations, and the bytes.
pub(super) struct Loss {
    pub(super) operations: usize,
    pub(super) bytes: Vec<u8>,
}

impl Journal {
    /// How many operations there were.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Loses the power after every operation, each time with every subset of the last `subsets_of`
    /// changes that were not synced, on top of all changes before these and on top of none. What the
    /// moment before left already is not shown again, unless the moment matters to `moment_of`: a
    /// number that says which of two equal losses is another one.
    pub(super) fn power_losses(
        &self,
        subsets_of: usize,
        moment_of: impl Fn(usize) -> usize,
        mut visit: impl FnMut(Loss),
    ) {
        let journal = self.0.lock();
        let mut durable = Vec::new();
        let mut unsynced: Vec<&Change> = Vec::new();
        let mut seen = HashSet::new();
        for operations in 0..=journal.len() {
            match operations.checked_sub(1).map(|last| &journal[last]) {
                Some(Told::Change(change)) => unsynced.push(change),
                Some(Told::Sync) => {
                    unsynced.drain(..).for_each(|change| change.carry_out(&mut durable));
                    seen.clear();
                }
                None => {}
            }
            let tail = unsynced.len().min(subsets_of);
            let before = unsynced.len() - tail;
            for subset in 0..1_u32 << tail {
                for keeps_before in [false, true] {
                    let kept: Vec<usize> = (0..unsynced.len())
                        .filter(|&at| match at.checked_sub(before) {
                            Some(place) => subset >> place & 1 == 1,
                            None => keeps_before,
                        })
                        .collect();
                    if !seen.insert((kept.clone(), moment_of(operations))) {
                        continue;
                    }
                    let mut bytes = durable.clone();
                    kept.iter().for_each(|&at| unsynced[at].carry_out(&mut bytes));
                    visit(Loss { operations, bytes });
                }
            }
        }
    }
}

/// The parts of a write that reach the disk each on its own.
fn sectors(at: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end = at + len;
    let mut from = at;
    std::iter::from_fn(move || {
        let start = from;
        from = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        (start < end).then_some(start..from)
    })
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.power.readable()?;
        Ok(self.content.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.power.readable()?;
        let content = self.content.lock();
        let found = usize::try_from(offset)
            .ok()
            .and_then(|from| content.live.get(from..from.checked_add(out.len())?));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let allowed = self.power.operate(Kind::Write);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut content = self.content.lock();
        // What failed may have reached the disk all the same.
        content.unsynced.push(Change::Resize(len));
        allowed?;
        self.record(|| Told::Change(Change::Resize(len)));
        content.live.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.power.operate(Kind::Sync)?;
        let mut content = self.content.lock();
        self.record(|| Told::Sync);
        content.durable = content.live.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let allowed = self.power.operate(Kind::Write);
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let mut content = self.content.lock();
        content.unsynced.push(Change::Write { at, data: data.to_vec() });
        allowed?;
        let change = Change::Write { at, data: data.to_vec() };
        change.carry_out(&mut content.live);
        self.record(|| Told::Change(change));
        Ok(())
    }
}

/// How large the write-ahead log of a test is: a few slots, so that they are used again soon.
const WAL_BYTES: u64 = 6 * WAL_SLOT_BYTES;
const WAL_SLOT_BYTES: u64 = 12 << 10;

/// A part of a disk, as a file. So both files of a log are seen as one by whoever loses power, or damages something.
#[derive(Debug)]
pub(super) struct Part {
    disk: Disk,
    from: u64,
    bytes_max: u64,
}

/// The database and the write-ahead log of a log that is alone on a disk.
pub(super) fn log_parts(disk: &Disk) -> (Part, Part) {
    let database = Part { disk: disk.clone(), from: WAL_BYTES, bytes_max: u64::MAX };
    (database, Part { disk: disk.clone(), from: 0, bytes_max: WAL_BYTES })
}

/// How a log on such a disk is opened, of which nothing stays that a checkpoint covers.
pub(super) const LOG_OPTIONS: LogOptions = LogOptions {
    cache_bytes: 1 << 20,
    tail_bytes: 0,
    wal_bytes: WAL_BYTES,
    wal_slot_bytes: WAL_SLOT_BYTES,
};

/// Opens the log that is alone on a disk.
pub(super) fn open_log(disk: &Disk) -> Result<(Log, RecoveredLog), StoreError> {
    let (database, wal) = log_parts(disk);
    Log::open_backends(database, wal, &LOG_OPTIONS)
}

impl StorageBackend for Part {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.len()?.saturating_sub(self.from).min(self.bytes_max))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(self.from + offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // One that others lie behind is as long as it may become.
        if self.bytes_max == u64::MAX { self.disk.set_len(self.from + len) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(self.from + offset, data)
    }
}

#[test]
fn a_power_loss_leaves_what_was_synced_and_the_sectors_chosen() {
    let disk = Disk::default();
    disk.set_len(1024).unwrap();
    disk.sync_data().unwrap();
    disk.write(500, &[7; 24]).unwrap();
    assert_eq!(disk.after_power_loss(Keeps::None).bytes(), [0; 1024]);
    assert_eq!(disk.after_power_loss(Keeps::All).bytes(), disk.bytes());
    let first = disk.after_power_loss(Keeps::Alternating(true)).bytes();
    assert_eq!((first[511], first[512]), (7, 0));
    disk.sync_data().unwrap();
    assert_eq!(disk.after_power_loss(Keeps::None).bytes(), disk.bytes());
}

#[test]
fn every_moment_of_a_journal_is_lost_in_every_way() {
    let journal = Journal::default();
    let disk = Disk::recorded(&journal);
    disk.set_len(2).unwrap();
    disk.sync_data().unwrap();
    disk.write(0, &[1]).unwrap();
    disk.write(1, &[2]).unwrap();
    disk.write(0, &[3]).unwrap();
    disk.sync_data().unwrap();
    assert_eq!(journal.len(), 6);
    let mut losses = Vec::new();
    journal.power_losses(2, |_| 0, |loss| losses.push((loss.operations, loss.bytes)));
    let synced: Vec<_> = losses.iter().filter(|(at, _)| *at == 6).collect();
    assert_eq!(synced, [&(6, vec![3, 2])], "what is synced stays");
    // With the third write: alone, upon the first, upon the second, upon both.
    let third: Vec<_> = losses.iter().filter(|(at, _)| *at == 5).map(|(_, left)| left).collect();
    assert_eq!(third, [&[3, 0], &[3, 0], &[3, 2], &[3, 2]]);
}
