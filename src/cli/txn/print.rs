//! What a transaction came to, for people and for scripts.

use std::fmt::Write;

use super::super::remote::{columns, printable, shortened};
use crate::api::{TxnDone, TxnResult};
use crate::kv::Item;

/// For people: a line for each operation by its number, and below it what was read.
pub(super) fn table(done: &TxnDone) -> String {
    let mut text = match done.succeeded {
        true => format!("succeeded, revision {}\n", done.revision),
        false => format!("the compares do not hold, revision {}\n", done.revision),
    };
    results(&done.results, "", &mut text);
    text
}

fn results(all: &[TxnResult], around: &str, text: &mut String) {
    for (number, result) in (1..).zip(all) {
        let number = format!("{around}{number}");
        // Writing to a string cannot fail.
        let _ = match result {
            TxnResult::Put { previous: None, .. } => writeln!(text, "{number}: put"),
            TxnResult::Put { previous: Some(_), .. } => writeln!(text, "{number}: put; before:"),
            TxnResult::Delete { deleted, previous: Some(items), .. } if !items.is_empty() => {
                writeln!(text, "{number}: deleted {deleted}; before:")
            }
            TxnResult::Delete { deleted, .. } => writeln!(text, "{number}: deleted {deleted}"),
            TxnResult::Get { items, .. } => match items.len() {
                1 => writeln!(text, "{number}: got 1 key"),
                count => writeln!(text, "{number}: got {count} keys"),
            },
            TxnResult::Txn { succeeded: true, .. } => writeln!(text, "{number}: txn, succeeded"),
            TxnResult::Txn { succeeded: false, .. } => {
                writeln!(text, "{number}: txn, whose compares do not hold")
            }
        };
        let more = match result {
            TxnResult::Put { previous, more } => {
                items(previous.as_slice(), false, text);
                *more
            }
            TxnResult::Delete { previous, more, .. } => {
                items(previous.as_deref().unwrap_or_default(), false, text);
                *more
            }
            TxnResult::Get { items: found, keys_only, more } => {
                items(found, *keys_only, text);
                *more
            }
            TxnResult::Txn { results: nested, .. } => {
                results(nested, &format!("{number}."), text);
                false
            }
        };
        if more {
            text.push_str("   … there is more\n");
        }
    }
}

fn items(items: &[Item], keys_only: bool, text: &mut String) {
    let row = |item: &Item| {
        let mut row = vec![
            format!("   {}", printable(&item.key)),
            format!("revision {}", item.mod_revision),
            format!("version {}", item.version),
        ];
        if !keys_only {
            row.push(shortened(&printable(&item.value)));
        }
        row
    };
    text.push_str(&columns(&items.iter().map(row).collect::<Vec<_>>()));
}

/// For scripts: a line for each key that was read, and after a tab its value.
pub(super) fn raw(all: &[TxnResult], text: &mut Vec<u8>) {
    for result in all {
        match result {
            TxnResult::Get { items, keys_only, .. } => {
                for item in items {
                    text.extend_from_slice(&item.key);
                    if !keys_only {
                        text.push(b'\t');
                        text.extend_from_slice(&item.value);
                    }
                    text.push(b'\n');
                }
            }
            TxnResult::Txn { results, .. } => raw(results, text),
            TxnResult::Put { .. } | TxnResult::Delete { .. } => {}
        }
    }
}
