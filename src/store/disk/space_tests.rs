use super::*;

const MIB: u64 = 1 << 20;

/// A file system as large as a test says.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Small(Arc<Mutex<Sizes>>);

#[derive(Debug, Default)]
struct Sizes {
    size: u64,
    others: u64,
    ballast: u64,
}

impl Small {
    pub(in crate::store) fn new(size: u64) -> Small {
        Small(Arc::new(Mutex::new(Sizes { size, ..Sizes::default() })))
    }

    /// Others use so much of it now.
    pub(in crate::store) fn fill(&self, others: u64) {
        self.0.lock().others = others;
    }

    pub(in crate::store) fn space(&self, wanted: u64) -> Arc<Space> {
        let space = Space::new(Box::new(self.clone()), wanted, Arc::default());
        space.look();
        space
    }
}

impl Disk for Small {
    fn free(&self) -> io::Result<u64> {
        let Sizes { size, others, ballast } = *self.0.lock();
        Ok(size.saturating_sub(others + ballast))
    }

    fn set_ballast(&self, bytes: u64) -> io::Result<()> {
        let mut sizes = self.0.lock();
        if sizes.others + bytes > sizes.size && bytes > sizes.ballast {
            return Err(io::ErrorKind::StorageFull.into());
        }
        sizes.ballast = bytes;
        Ok(())
    }
}

/// Room without end.
pub(in crate::store) fn boundless() -> Arc<Space> {
    Small::new(1 << 50).space(64 * MIB)
}

fn ballast(space: &Space) -> u64 {
    space.account.lock().ballast
}

#[test]
fn what_is_at_stake_decides_how_much_of_the_ballast_gives_way() {
    let disk = Small::new(1024 * MIB);
    let space = disk.space(64 * MIB);
    assert_eq!((space.is_low(), ballast(&space)), (false, 16 * MIB));
    // Somebody fills the disk to the last byte.
    disk.fill(1008 * MIB);
    assert!(space.reserve(1, Purpose::Bulk).is_none());
    assert!(space.is_low());
    assert!(space.reserve(13 * MIB, Purpose::Entries).is_none());
    let entries = space.reserve(12 * MIB, Purpose::Entries).unwrap();
    assert_eq!(ballast(&space), 4 * MIB);
    assert!(space.reserve(1, Purpose::Entries).is_none());
    assert!(space.reserve(5 * MIB, Purpose::Vital).is_none());
    let vital = space.reserve(4 * MIB, Purpose::Vital).unwrap();
    assert_eq!(ballast(&space), 0);
    drop((entries, vital));
    // What was reserved and not used is there again.
    assert!(space.reserve(12 * MIB, Purpose::Entries).is_some());
}

#[test]
fn room_is_given_once() {
    let disk = Small::new(116 * MIB);
    let space = disk.space(64 * MIB);
    let first = space.reserve(60 * MIB, Purpose::Bulk).unwrap();
    assert!(space.reserve(60 * MIB, Purpose::Bulk).is_none());
    drop(first);
    assert!(space.reserve(60 * MIB, Purpose::Bulk).is_some());
}

#[test]
fn low_begins_and_ends_at_different_marks() {
    let disk = Small::new(1016 * MIB);
    let space = disk.space(64 * MIB);
    for (free, low) in [(65, false), (63, true), (65, true), (71, true), (72, false), (64, false)] {
        disk.fill((1000 - free) * MIB);
        space.look();
        assert_eq!(space.is_low(), low, "{free} MiB free");
        assert_eq!(space.shortage().is_some(), low);
    }
    disk.fill(937 * MIB);
    space.look();
    let shortage = space.shortage().unwrap();
    assert!(shortage.contains("63.0 MiB are free") && shortage.contains("64.0 MiB"), "{shortage}");
    space.set_cramped(Some(200 * MIB));
    let shortage = space.shortage().unwrap();
    assert!(shortage.contains("up to 200.0 MiB: 63.0 MiB are free"), "{shortage}");
    space.set_cramped(None);
    disk.fill(0);
    space.look();
    assert_eq!(space.shortage(), None);
}

#[test]
fn the_ballast_is_made_whole_once_there_is_room() {
    let disk = Small::new(1016 * MIB);
    let space = disk.space(64 * MIB);
    disk.fill(1000 * MIB);
    drop(space.reserve(10 * MIB, Purpose::Vital).unwrap());
    assert_eq!(ballast(&space), 6 * MIB);
    space.look();
    assert_eq!(ballast(&space), 6 * MIB, "it takes nothing while there is little");
    disk.fill(0);
    space.look();
    assert_eq!(ballast(&space), 16 * MIB);
}

#[test]
fn as_many_entries_are_announced_as_fit() {
    let disk = Small::new(1016 * MIB);
    let space = disk.space(64 * MIB);
    disk.fill(1000 * MIB);
    space.look();
    let most = usize::try_from(space.entries_max()).unwrap();
    let write = |bytes: usize| {
        let payload = Payload::Command(vec![0; bytes].into());
        let entry = Entry { id: crate::raft::LogId::ZERO, payload };
        [LogWrite { entries: vec![entry], ..LogWrite::default() }]
    };
    let overhead = write(0)[0].entries[0].cost_bytes();
    let purpose = purpose_of(&write(most - overhead));
    assert_eq!(purpose, Purpose::Entries);
    let bytes = |write: &[LogWrite]| {
        log_settlement(write[0].entries.iter().map(|entry| entry.cost_bytes() as u64).sum())
    };
    assert!(space.reserve(bytes(&write(most - overhead)), purpose).is_some());
    assert!(space.reserve(bytes(&write(most + 1)), purpose).is_none());
    assert_eq!(purpose_of(&[LogWrite::default()]), Purpose::Vital);
}

#[test]
fn the_ballast_of_a_directory_takes_room_on_its_disk() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let allocated = || std::fs::metadata(dir.path().join(BALLAST_FILE)).unwrap().blocks() * 512;
    let space = Space::open(dir.path(), 4 * MIB).unwrap();
    assert_eq!((allocated(), ballast(&space)), (MIB, MIB));
    space.disk.set_ballast(STEP_BYTES).unwrap();
    assert_eq!(allocated(), STEP_BYTES);
    drop(space);
    // It is larger than this release wants it.
    drop(Space::open(dir.path(), 400 * MIB).unwrap());
    let space = Space::open(dir.path(), 4 * MIB).unwrap();
    assert_eq!((allocated(), ballast(&space)), (MIB, MIB));
}

#[test]
fn a_write_that_finds_no_room_makes_the_ballast_shrink() {
    let disk = Small::new(1016 * MIB);
    let space = disk.space(64 * MIB);
    disk.fill(1000 * MIB);
    assert!(space.release_ballast(MIB));
    assert_eq!((ballast(&space), disk.free().unwrap()), (15 * MIB, MIB));
    assert!(space.release_ballast(0));
    assert_eq!(ballast(&space), 15 * MIB - STEP_BYTES, "something at least");
    assert!(space.release_ballast(1024 * MIB));
    assert!(!space.release_ballast(1), "it is gone");
}

#[test]
fn a_look_that_panics_is_told() {
    struct Broken(mpsc::Sender<()>);
    impl Disk for Broken {
        fn free(&self) -> io::Result<u64> {
            // Whoever waits has gone.
            let _ = self.0.send(());
            panic!("of the disk");
        }

        fn set_ballast(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }
    let (looks, looked) = mpsc::channel();
    let space = Space::new(Box::new(Broken(looks)), 4 * MIB, Arc::default());
    let (failed, failure) = mpsc::channel();
    let _watch = space.watch(move |error| failed.send(error).unwrap()).unwrap();
    looked.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    let error = failure.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(error.to_string(), "space ended: of the disk");
    assert_eq!(space.life().space.still_for(), None);
}
