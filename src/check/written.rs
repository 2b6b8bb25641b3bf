//! Histories for tests, written so that people see what is in them.

use super::history::{Answer, Ask, Call, FORMAT, Head, History, Need, Seen};
use super::txn::{Came, Compare, Op, Txn};
use crate::kv::Revision;

/// Reads a history written as one call a line: when it was called, when it returned (or `_`), what
/// was asked `:` what was answered. Keys are letters, `a7` is value 7 of key a, `a-c` are a to c.
///
/// A transaction is `txn if COMPARES then OPERATIONS else OPERATIONS`, any of which may be left out. Compares are `a@3`
/// (of revision 3; 0: absent), `+a` and `-a` (there is one, or none), `a-c~3` (unchanged since 3); operations are `a7` (put),
/// `!a` (delete), `?a` and `?a-c` (read). Its answer is `then 5` or `else 5`, with the revision, and what came of each operation:
/// `put`, `gone` or `none` of a deletion, `=a1@5,b2@3` of a read (`=` if it found nothing), `unread`.
pub(super) fn history(text: &str) -> History {
    let head = Head { konsen_check: FORMAT, keys: 4, ..Head::default() };
    History {
        head,
        calls: text.lines().map(str::trim).filter(|l| !l.is_empty()).map(call).collect(),
    }
}

fn call(line: &str) -> Call {
    let (question, answer) = line.split_once(" : ").expect(line);
    let question: Vec<&str> = question.split_whitespace().collect();
    let answer: Vec<&str> = answer.split_whitespace().collect();
    let returned = (question[1] != "_").then(|| number(question[1]));
    Call {
        client: 0,
        endpoint: 0,
        called: number(question[0]),
        returned,
        called_us: number(question[0]),
        ended_us: returned.unwrap_or(999),
        ask: ask(&question[2..]),
        answer: answered(&answer),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn key(text: &str) -> u32 {
    u32::from(text.as_bytes()[0] - b'a')
}

fn revision(text: &str) -> Revision {
    Revision(number(text))
}

fn ask(words: &[&str]) -> Ask {
    if words[0] == "txn" {
        return Ask::Txn(txn(&words[1..]));
    }
    let need = match words[2..] {
        [] => Need::Nothing,
        ["if", "absent"] => Need::Absent,
        ["if", at] => Need::Revision(revision(at)),
        _ => panic!("{words:?}"),
    };
    let (first, last) = words[1].split_once('-').unwrap_or((words[1], words[1]));
    let (from, to) = (key(first), key(last) + 1);
    match words[0] {
        "get" => Ask::Get { key: from },
        "list" => Ask::List { from, to },
        "put" => Ask::Put { key: from, value: number(&first[1..]), need },
        "delete" => Ask::Delete { key: from, need },
        "sweep" => Ask::Sweep { from, to },
        other => panic!("{other}"),
    }
}

fn answered(words: &[&str]) -> Answer {
    match words {
        ["?"] => Answer::Unknown,
        ["refused"] => Answer::Refused,
        ["new", at] => Answer::Put { revision: revision(at), created: true },
        ["replaced", at] => Answer::Put { revision: revision(at), created: false },
        ["deleted", count] => Answer::Deleted { revision: None, count: number(count) },
        ["deleted", count, "at", at] => {
            Answer::Deleted { revision: Some(revision(at)), count: number(count) }
        }
        ["failed", "absent"] => Answer::ConditionFailed { current: None },
        ["failed", at] => Answer::ConditionFailed { current: Some(revision(at)) },
        [branch @ ("then" | "else"), at, results @ ..] => Answer::Txn {
            revision: revision(at),
            succeeded: *branch == "then",
            results: results.iter().map(|text| came(text)).collect(),
        },
        [items @ .., "at", at] => Answer::Found {
            revision: revision(at),
            items: items.iter().map(|text| seen(text)).collect(),
        },
        _ => panic!("{words:?}"),
    }
}

fn seen(text: &str) -> Seen {
    let (item, at) = text.split_once('@').expect("a revision");
    Seen { key: key(item), value: number(&item[1..]), revision: revision(at) }
}

fn txn(words: &[&str]) -> Txn {
    let mut txn = Txn::default();
    let mut list = "";
    for word in words {
        match (list, *word) {
            (_, "if" | "then" | "else") => list = word,
            ("if", compare) => txn.compares.push(compared(compare)),
            ("then", op) => txn.then.push(operation(op)),
            ("else", op) => txn.otherwise.push(operation(op)),
            _ => panic!("{words:?}"),
        }
    }
    txn.fits().unwrap();
    txn
}

/// The first and one after the last of `a-c`, or of `a`.
fn range(text: &str) -> (u32, u32) {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    (key(first), key(last) + 1)
}

fn compared(text: &str) -> Compare {
    if let Some((keys, since)) = text.split_once('~') {
        let (from, to) = range(keys);
        return Compare::Unchanged { from, to, since: revision(since) };
    }
    match (text.split_once('@'), text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some((of, at)), ..) => Compare::Revision { key: key(of), revision: revision(at) },
        (_, Some(of), _) => Compare::Exists { key: key(of), exists: true },
        (.., Some(of)) => Compare::Exists { key: key(of), exists: false },
        _ => panic!("{text}"),
    }
}

fn operation(text: &str) -> Op {
    match (text.strip_prefix('!'), text.strip_prefix('?')) {
        (Some(of), _) => Op::Delete { key: key(of) },
        (_, Some(of)) if of.contains('-') => {
            let (from, to) = range(of);
            Op::List { from, to }
        }
        (_, Some(of)) => Op::Get { key: key(of) },
        _ => Op::Put { key: key(text), value: number(&text[1..]) },
    }
}

fn came(text: &str) -> Came {
    match text {
        "put" => Came::Put,
        "gone" => Came::Deleted { count: 1 },
        "none" => Came::Deleted { count: 0 },
        "unread" => Came::Unread,
        found => {
            let found = found.strip_prefix('=').unwrap_or_else(|| panic!("{found}"));
            let items = found.split(',').filter(|item| !item.is_empty()).map(seen);
            Came::Found { items: items.collect() }
        }
    }
}
