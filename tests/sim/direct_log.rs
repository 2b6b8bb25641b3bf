//! Mistakes of the log's files that a seed meets seldom: a log on disks of its own, driven by hand.

use bytes::Bytes;
use konsen::raft::{Entry, HardState, Index, LogId, LogWrite, Payload, Term};
use konsen::store::{Log, LogOptions};
use redb::{ReadableTable as _, StorageBackend as _, TableDefinition};

use super::direct::Check;
use super::disk::{Disk, power_off};
use super::oracle::{Broken, ensure};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("ChecksumIgnored", a_changed_value_is_no_entry),
    ("CommitBeforeEntries", a_commit_index_is_of_entries_that_are_there),
    ("SettledTwice", what_the_database_took_is_not_taken_again),
];

fn failed(error: &dyn std::fmt::Display) -> Broken {
    Broken(format!("an honest disk failed: {error}"))
}

/// A value that changed below redb's own checksums, or below those of the write-ahead log, as one does in memory on its way
/// to the disk.
fn a_changed_value_is_no_entry() -> Result<(), Broken> {
    // Of two slots the first is settled once the third begins.
    let options = LogOptions { wal_slot_bytes: 8 << 10, wal_bytes: 0, ..LogOptions::default() };
    let disks = [Disk::default(), Disk::default()];
    let open = || {
        Log::open_backends(disks[0].clone(), disks[1].clone(), &options)
            .map_err(|error| failed(&error))
    };
    {
        let (mut log, _) = open()?;
        for index in 1..=4 {
            let payload = Payload::Command(Bytes::from_static(b"written"));
            let entries = vec![Entry { id: LogId::new(Term(1), Index(index)), payload }];
            let write = LogWrite { entries, ..LogWrite::default() };
            log.append(&[write]).map_err(|error| failed(&error))?;
        }
    }
    {
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
        let db = redb::Database::builder()
            .create_with_backend(disks[0].clone())
            .map_err(|error| failed(&error))?;
        let write = db.begin_write().map_err(|error| failed(&error))?;
        {
            let mut rows = write.open_table(table).map_err(|error| failed(&error))?;
            let row = rows.get(1).map_err(|error| failed(&error))?;
            let mut row = row.map(|row| row.value().to_vec()).unwrap_or_default();
            let at = row.windows(7).position(|part| part == b"written");
            row[at.ok_or_else(|| failed(&"the entry is not on it"))?] = b'W';
            rows.insert(1, &row[..]).map_err(|error| failed(&error))?;
        }
        write.commit().map_err(|error| failed(&error))?;
    }
    let (log, _) = open()?;
    let read = log.reader().read(Index(1), Index(1), usize::MAX);
    ensure!(read.is_err(), "an entry that was never written is read: {read:?}");
    // While it is open: a start would see it by the checksum of the group.
    let mut image = disks[1].image();
    for at in 0..image.len() - 7 {
        if &image[at..][..7] == b"written" {
            image[at] = b'W';
        }
    }
    disks[1].write(0, &image).map_err(|error| failed(&error))?;
    let read = log.reader().read(Index(4), Index(4), usize::MAX);
    ensure!(read.is_err(), "an entry that was never written is read: {read:?}");
    Ok(())
}

/// A follower writes, together and in more groups than one, what an old leader sent last, and what a new one sends in the place
/// of more than that, which is committed. The power fails anywhere in it: a start must not take for committed what was
/// to be cut off.
fn a_commit_index_is_of_entries_that_are_there() -> Result<(), Broken> {
    let options =
        LogOptions { wal_slot_bytes: 8 << 10, wal_bytes: 1 << 20, ..LogOptions::default() };
    let entry = |term, index| {
        let payload = Payload::Command(Bytes::from(vec![7; 1500]));
        Entry { id: LogId::new(Term(term), Index(index)), payload }
    };
    let write = |term, from, to, commit| LogWrite {
        hard_state: Some(HardState { term: Term(term), vote: None, commit: Index(commit) }),
        truncate_from: Some(Index(from)),
        entries: (from..=to).map(|index| entry(term, index)).collect(),
        ..LogWrite::default()
    };
    for operations in 0..40 {
        let disks = [Disk::default(), Disk::default()];
        let open = |[database, wal]: &[Disk; 2]| {
            Log::open_backends(database.clone(), wal.clone(), &options)
                .map_err(|error| failed(&error))
        };
        let (mut log, _) = open(&disks)?;
        log.append(&[write(1, 1, 8, 2)]).map_err(|error| failed(&error))?;
        disks[1].fail_after(operations);
        let whole = log.append(&[write(1, 9, 14, 2), write(2, 3, 8, 8)]).is_ok();
        let disks = disks.each_ref().map(|disk| disk.crash(operations).0);
        power_off(log);
        let (log, found) = open(&disks)?;
        let reader = log.reader();
        let recovered =
            found.into_recovered(&reader, LogId::ZERO).map_err(|error| failed(&error))?;
        let commit = recovered.hard_state.commit;
        for index in 3..=commit.0 {
            let id = reader.id_at(Index(index)).map_err(|error| failed(&error))?;
            ensure!(
                id == Some(LogId::new(Term(2), Index(index))),
                "after {operations} operations {commit} is committed, and {id:?} is there"
            );
        }
        ensure!(!whole || commit == Index(8), "of a whole write {commit} is committed");
    }
    Ok(())
}

/// An entry that is larger than a slot goes to the database, and with it what is in the slot that takes the next group.
fn what_the_database_took_is_not_taken_again() -> Result<(), Broken> {
    let options =
        LogOptions { wal_slot_bytes: 16 << 10, wal_bytes: 1 << 20, ..LogOptions::default() };
    let disks = [Disk::default(), Disk::default()];
    let open = || {
        Log::open_backends(disks[0].clone(), disks[1].clone(), &options)
            .map_err(|error| failed(&error))
    };
    let (mut log, _) = open()?;
    let mut written = Vec::new();
    for (index, bytes) in (1..).zip([10, 10, 20_000, 10]) {
        let payload = Payload::Command(Bytes::from(vec![7; bytes]));
        let entry = Entry { id: LogId::new(Term(1), Index(index)), payload };
        let write = LogWrite { entries: vec![entry.clone()], ..LogWrite::default() };
        log.append(&[write]).map_err(|error| failed(&error))?;
        written.push(entry);
    }
    drop(log);
    let (log, _) = open()?;
    let read = log.reader().read(Index(1), Index(4), usize::MAX).map_err(|error| failed(&error))?;
    ensure!(read == written, "{} entries are read that were not written so", read.len());
    Ok(())
}
