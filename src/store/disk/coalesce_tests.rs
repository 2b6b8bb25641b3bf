use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::store::test_disk::{Disk, Fault, Keeps, Power};

const FILE_EXTENTS: usize = EXTENTS_MAX + 4;
const FILE_BYTES: usize = FILE_EXTENTS * EXTENT_BYTES;

fn file(power: &Power) -> (Disk, Coalesce, Coalescing<Disk>) {
    let disk = Disk::new(power);
    disk.set_len(FILE_BYTES as u64).unwrap();
    let coalesce = Coalesce::default();
    (disk.clone(), coalesce.clone(), Coalescing::new(disk, coalesce))
}

/// Writes the pages `pages` of the file, each as a write of its own.
fn write_pages(file: &Coalescing<Disk>, pages: impl IntoIterator<Item = usize>) -> io::Result<()> {
    let mut pages = pages.into_iter();
    pages.try_for_each(|page| file.write((page * PAGE_BYTES) as u64, &[page as u8 | 1; PAGE_BYTES]))
}

#[test]
fn pages_side_by_side_are_one_write_in_whatever_order_they_come() {
    let power = Power::default();
    let (disk, coalesce, file) = file(&power);
    let mut pages: Vec<usize> = (0..4 * PAGES).collect();
    pages.shuffle(&mut StdRng::seed_from_u64(1));
    let before = power.operations();
    write_pages(&file, pages.clone()).unwrap();
    assert_eq!(power.operations() - before, pages.len() as u64, "not unless it is wanted");

    let gathered = coalesce.start();
    let before = power.operations();
    write_pages(&file, pages).unwrap();
    assert_eq!(power.operations() - before, 4);
    write_pages(&file, [10 * PAGES, 10 * PAGES + 1, 10 * PAGES + 3]).unwrap();
    assert_eq!(power.operations() - before, 4, "these wait");
    drop(gathered);
    file.sync_data().unwrap();
    assert_eq!(power.operations() - before, 4 + 2 + 1, "two runs and the sync");
    assert!(file.held.lock().spare.is_empty(), "the memory is given back");
    assert!(!file.holds.load(Ordering::Relaxed), "and nobody looks there any more");
    assert_eq!(disk.bytes()[10 * EXTENT_BYTES], 1 | (10 * PAGES) as u8);
}

#[test]
fn what_is_held_back_is_bounded_and_the_oldest_goes_first() {
    let power = Power::default();
    let (disk, coalesce, file) = file(&power);
    let _gathered = coalesce.start();
    let before = power.operations();
    write_pages(&file, (0..EXTENTS_MAX).map(|extent| extent * PAGES)).unwrap();
    assert_eq!(power.operations(), before);
    write_pages(&file, [EXTENTS_MAX * PAGES]).unwrap();
    assert_eq!(power.operations() - before, 1);
    assert_eq!(disk.bytes()[0], 1);
    assert_eq!(file.held.lock().extents.len(), EXTENTS_MAX);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost_by_it() {
    let power = Power::default();
    let (disk, coalesce, file) = file(&power);
    let gathered = coalesce.start();
    write_pages(&file, [1, 2, PAGES + 1]).unwrap();
    power.fail(Fault::FullFrom(power.operations() + 2));
    assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(
        file.write(0, &[0; 10]).is_err(),
        "what is written past them fails as it would without"
    );
    power.fail(Fault::None);
    drop(gathered);
    file.sync_data().unwrap();
    let kept = disk.after_power_loss(Keeps::None).bytes();
    for page in [1, 2, PAGES + 1] {
        assert_eq!(kept[page * PAGE_BYTES], page as u8 | 1, "page {page}");
    }
}

/// Any writes, reads, syncs and changes of the length, while it gathers and while it does not, show the
/// same bytes as a plain file; and what was synced survives a power loss.
#[test]
fn nobody_sees_the_difference() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let (disk, coalesce, file) = file(&Power::default());
        let mut plain = vec![0; FILE_BYTES];
        let mut gathered = None;
        for step in 0..400 {
            let page = |random: &mut StdRng, len: usize| {
                // Mostly near one another, so that they meet.
                let span = if random.random_bool(0.8) { 2 * PAGES } else { len / PAGE_BYTES };
                random.random_range(0..span.min(len / PAGE_BYTES)) * PAGE_BYTES
            };
            let (at, bytes) = match random.random_range(0..4) {
                0 => (random.random_range(0..plain.len()), random.random_range(0..2 * PAGE_BYTES)),
                1 => (page(&mut random, plain.len()), PAGE_BYTES << random.random_range(0..10)),
                _ => (page(&mut random, plain.len()), PAGE_BYTES),
            };
            let bytes = bytes.min(plain.len() - at);
            match random.random_range(0..100) {
                0..3 => gathered = Some(coalesce.start()),
                3 => gathered = None,
                4..6 => {
                    file.sync_data().unwrap();
                    assert!(disk.after_power_loss(Keeps::None).bytes() == plain, "seed {seed}");
                }
                6 => {
                    plain.resize(random.random_range(4..=FILE_EXTENTS) * EXTENT_BYTES, 0);
                    file.set_len(plain.len() as u64).unwrap();
                }
                7..30 => {
                    let mut read = vec![0; bytes];
                    file.read(at as u64, &mut read).unwrap();
                    assert!(read == plain[at..at + bytes], "seed {seed}, step {step}");
                }
                _ => {
                    let data = vec![random.random_range(1..=255); bytes];
                    file.write(at as u64, &data).unwrap();
                    plain[at..at + bytes].copy_from_slice(&data);
                }
            }
        }
        drop(gathered);
        file.close().unwrap();
        assert!(disk.bytes() == plain, "seed {seed}");
    }
}
