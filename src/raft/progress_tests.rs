use super::*;
use crate::raft::entry::{Entry, Payload};
use crate::raft::{Recovered, Term};

fn log(terms: &[u64]) -> Log {
    let mut log = Log::new(Recovered::default());
    for (offset, &term) in terms.iter().enumerate() {
        let id = LogId::new(Term(term), Index(offset as u64 + 1));
        log.append(Entry { id, payload: Payload::Noop });
    }
    log
}

fn hint(index: u64, term: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

#[test]
fn a_probe_sends_one_append_until_it_is_answered() {
    let mut progress = Progress::new(Index(5));
    progress.sent(Some(Index(7)), 10);
    assert!(matches!(progress.sending, Sending::Probe(Probe::Out)));
    assert_eq!(progress.next, Index(5), "a probe is sent again from where it was");
    assert!(progress.acknowledged(Index(7)));
    assert_eq!((progress.state(), progress.next), ("replicate", Index(8)));
}

#[test]
fn the_window_counts_appends_and_bytes() {
    let mut progress = Progress::new(Index(1));
    progress.acknowledged(Index(0));
    progress.sent(Some(Index(1)), 60);
    progress.sent(Some(Index(2)), 60);
    let full = |progress: &Progress, bytes, appends| match &progress.sending {
        Sending::Replicate(window) => window.is_full(bytes, appends),
        _ => panic!("it replicates"),
    };
    assert!(full(&progress, 120, 10) && full(&progress, 1000, 2));
    assert!(!full(&progress, 121, 3));
    progress.acknowledged(Index(1));
    assert!(!full(&progress, 120, 2), "an answer makes room");
}

#[test]
fn the_match_never_goes_back() {
    let mut progress = Progress::new(Index(1));
    assert!(progress.acknowledged(Index(5)));
    assert!(!progress.acknowledged(Index(3)));
    assert_eq!((progress.matched, progress.next), (Index(5), Index(6)));
}

#[test]
fn a_rejection_skips_a_term_on_both_sides() {
    // Ours: 1 1 4 4 4 6 6; the peer's last entry up to the probe is 5@t3.
    let log = log(&[1, 1, 4, 4, 4, 6, 6]);
    let mut progress = Progress::new(Index(8));
    assert!(progress.rejected(Index(7), hint(5, 3), &log));
    assert_eq!(progress.next, Index(3), "none of our entries of term 4 can be the peer's");
}

#[test]
fn stale_rejections_are_ignored() {
    let log = log(&[1, 1, 1, 1, 1]);
    let mut progress = Progress::new(Index(4));
    assert!(!progress.rejected(Index(5), hint(1, 1), &log), "not what the probe asked");
    progress.acknowledged(Index(3));
    progress.sent(Some(Index(5)), 1);
    assert!(!progress.rejected(Index(3), hint(1, 1), &log), "it matches by now");
    assert!(!progress.rejected(Index(6), hint(1, 1), &log), "never sent");
    assert!(progress.rejected(Index(5), hint(1, 1), &log));
    assert_eq!((progress.state(), progress.next), ("probe", Index(4)), "not below the match");
}

#[test]
fn a_snapshot_ends_with_an_acknowledgement_that_reaches_it() {
    let mut progress = Progress::new(Index(1));
    progress.sending = Sending::Snapshot { last: hint(9, 2) };
    assert!(progress.acknowledged(Index(4)));
    assert_eq!(progress.state(), "snapshot");
    assert!(progress.acknowledged(Index(9)));
    assert_eq!((progress.state(), progress.next), ("probe", Index(10)));
}
