use super::*;
use crate::store::test_disk::{Disk, Journal, Keeps, Power, subsets_of};

const SLOT_BYTES: u64 = 4 * BLOCK_BYTES as u64;

fn body(number: u64) -> Vec<u8> {
    let bytes = usize::try_from(number * 1777 % 7000).unwrap();
    format!("{number}/").into_bytes().into_iter().cycle().take(bytes).collect()
}

fn create(disk: &Disk) -> Wal {
    Wal::create(Arc::new(disk.clone()), SLOT_BYTES).unwrap()
}

/// The bodies that a start finds.
fn found(disk: &Disk, record: WalRecord) -> Result<(Wal, Vec<Vec<u8>>), StoreError> {
    let mut bodies = Vec::new();
    let wal = Wal::open(Arc::new(disk.clone()), record, |group| {
        let mut again = vec![0; group.body.len()];
        disk.read(group.at, &mut again).unwrap();
        assert_eq!(again, group.body);
        bodies.push(again);
        Ok(())
    })?;
    Ok((wal, bodies))
}

fn append(wal: &mut Wal, number: u64) {
    let body = body(number);
    if wal.slots_for([body.len()].into_iter()) > wal.slots().1 {
        assert!(wal.grow().unwrap());
    }
    wal.append(&body).unwrap();
}

/// Lets the database take the oldest slot; what it holds then.
fn settle(wal: &mut Wal) -> bool {
    let Some((_, record)) = wal.oldest() else { return false };
    wal.settled(record);
    true
}

#[test]
fn groups_come_back_in_order_and_slots_are_used_again() {
    let disk = Disk::default();
    let mut wal = create(&disk);
    for number in 1..=200 {
        append(&mut wal, number);
        if number % 7 == 0 {
            while settle(&mut wal) {}
        }
        let (again, bodies) = found(&disk, wal.record()).unwrap();
        assert_eq!(bodies, (wal.record().settled + 1..=number).map(body).collect::<Vec<_>>());
        assert_eq!((again.at, again.next_group, &again.live), (wal.at, number + 1, &wal.live));
        if number % 3 == 0 {
            wal = again;
        }
    }
    assert!(wal.slots().0 < 12, "{:?}", wal.slots());
}

#[test]
fn what_was_made_durable_survives_a_power_loss_at_any_moment() {
    let journal = Journal::default();
    let disk = Disk::recorded(&journal);
    let mut wal = create(&disk);
    // After how many operations which group was durable, and what the database said.
    let mut durable = vec![(journal.len(), 0, wal.record())];
    for number in 1..=40 {
        append(&mut wal, number);
        durable.push((journal.len(), number, wal.record()));
        if number % 5 == 0 && settle(&mut wal) {
            durable.push((journal.len(), number, wal.record()));
        }
    }
    let first = durable[0].0;
    let moment_of = |operations| durable.iter().filter(|(at, ..)| *at <= operations).count();
    let mut losses = 0;
    journal.power_losses(subsets_of(), moment_of, |loss| {
        if loss.operations < first {
            return;
        }
        let mut told = durable.iter().filter(|(at, ..)| *at <= loss.operations);
        let &(_, last, record) = told.next_back().unwrap();
        let disk = Disk::holding(loss.bytes);
        let (mut again, bodies) = found(&disk, record).unwrap();
        let known = record.settled + bodies.len() as u64;
        assert!(known == last || known == last + 1, "{known} of {last}");
        assert_eq!(bodies, (record.settled + 1..=known).map(body).collect::<Vec<_>>());
        // It goes on from there.
        (known + 1..known + 9).for_each(|number| append(&mut again, number));
        let (_, bodies) = found(&disk, record).unwrap();
        assert_eq!(bodies, (record.settled + 1..known + 9).map(body).collect::<Vec<_>>());
        losses += 1;
    });
    assert!(losses > 100, "{losses}");
}

#[test]
fn what_a_write_that_was_cut_short_left_is_no_part_of_the_next_one() {
    let disk = Disk::default();
    let mut wal = create(&disk);
    let first = vec![1; wal.body_bytes_max()];
    wal.append(&first).unwrap();
    let (record, before) = (wal.record(), disk.bytes());
    // The next one begins a slot, whose head is lost.
    wal.append(b"old").unwrap();
    let head = SLOT_BYTES as usize..SLOT_BYTES as usize + BLOCK_BYTES;
    let mut bytes = disk.bytes();
    bytes[head.clone()].copy_from_slice(&before[head.clone()]);
    let disk = Disk::holding(bytes);
    let (mut again, bodies) = found(&disk, record).unwrap();
    assert_eq!(bodies, std::slice::from_ref(&first));
    // Of the one that is written then there is the head, and nothing else.
    let mut bytes = disk.bytes();
    again.append(b"new").unwrap();
    bytes[head.clone()].copy_from_slice(&disk.bytes()[head]);
    let (_, bodies) = found(&Disk::holding(bytes), record).unwrap();
    assert_eq!(bodies, [first]);
}

#[test]
fn what_is_missing_before_the_end_is_damage_and_not_the_end() {
    let disk = Disk::default();
    let mut wal = create(&disk);
    (1..=12).for_each(|number| append(&mut wal, number));
    let whole = disk.bytes();
    // Of a log that was not closed nothing is known but what is there.
    let lately = WalRecord { known: 0, ..wal.record() };
    for at in (0..whole.len()).step_by(512) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        // Or a part of the last slot is not there, the end of a block at least.
        let cut = whole.len() - 1 - at % BLOCK_BYTES;
        let cut = found(&Disk::holding(whole[..cut].to_vec()), lately);
        for found in [found(&Disk::holding(bytes), lately), cut] {
            match found {
                Ok((_, bodies)) => assert!(bodies.len() >= 11, "{} at {at}", bodies.len()),
                Err(error) => {
                    assert!(matches!(error, StoreError::Damaged { what: error::WAL, .. }));
                }
            }
        }
    }
    let record = wal.record();
    let mut damaged = 0;
    for at in (0..whole.len()).step_by(512) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        match found(&Disk::holding(bytes), record) {
            Ok((_, bodies)) if bodies.len() == 12 => {}
            Ok((_, bodies)) => panic!("{} at {at}", bodies.len()),
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { what: error::WAL, .. }), "{error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 12, "{damaged}");
    // A file of another time, another one, and none.
    let old = Disk::holding(whole);
    while settle(&mut wal) {}
    (13..=20).for_each(|number| append(&mut wal, number));
    while settle(&mut wal) {}
    for disk in [old, Disk::default(), Disk::holding(vec![0; 8 * BLOCK_BYTES])] {
        let error = found(&disk, wal.record()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { what: error::WAL, .. }), "{error}");
    }
    let other = Disk::default();
    create(&other);
    assert!(found(&other, wal.record()).is_err());
}

#[test]
fn a_write_that_a_power_loss_cut_short_is_written_over() {
    for seed in 0..60 {
        let power = Power::default();
        let disk = Disk::new(&power);
        let mut wal = create(&disk);
        (1..=seed % 6).for_each(|number| append(&mut wal, number));
        let record = wal.record();
        power.fail(crate::store::test_disk::Fault::SyncAt(power.operations() + 1));
        let next = body(seed % 6 + 1);
        if wal.slots_for([next.len()].into_iter()) > wal.slots().1 {
            continue;
        }
        assert!(wal.append(&next).is_err());
        let disk = disk.after_power_loss(Keeps::Random(seed));
        let (mut again, bodies) = found(&disk, record).unwrap();
        let known = bodies.len() as u64;
        // Shorter and longer ones than what was cut short.
        for number in known + 1..known + 5 {
            append(&mut again, number + seed);
        }
        let (_, bodies) = found(&disk, record).unwrap();
        assert_eq!(bodies.len() as u64, known + 4);
    }
}

#[test]
fn room_is_counted_as_it_is_used() {
    let disk = Disk::default();
    let mut wal = create(&disk);
    let largest = wal.body_bytes_max();
    assert_eq!(group_bytes(largest) as u64, SLOT_BYTES - BLOCK_BYTES as u64);
    assert_eq!(wal.slots_for([largest].into_iter()), 0);
    assert_eq!(wal.slots_for([largest, 1].into_iter()), 1);
    wal.append(&vec![1; largest]).unwrap();
    assert_eq!((wal.slots_for([0].into_iter()), wal.slots()), (1, (2, 1)));
    wal.append(b"").unwrap();
    assert_eq!(wal.slots(), (2, 0));
    assert!(wal.append(&vec![1; largest]).is_err(), "no slot is free");
    assert!(settle(&mut wal) && !settle(&mut wal));
    wal.append(&vec![1; largest]).unwrap();
    assert_eq!(wal.slots(), (2, 0));
}
