//! `konsen txn`: what is wrong with a transaction is said before anybody is asked.

use std::fs;

use tempfile::TempDir;

use super::konsen;

#[test]
fn what_is_wrong_is_said_with_its_line_and_column() {
    let dir = TempDir::new().unwrap();
    let txn = |text: &[u8]| {
        fs::write(dir.path().join("a.txn"), text).unwrap();
        konsen(dir.path(), &["txn", "a.txn"])
    };
    txn(b"if version(a) == 3\nthen\n  put a\n")
        .failed(2, "line 3, column 8: a value, or keep_value, is missing");
    txn(b"if version(a) = 3\n")
        .failed(2, "line 1, column 15: = is no relation; there are == != < <= > >=");
    txn(b"then\n  set a 1\n").failed(2, "line 2, column 3: a line begins with if, then, else");
    txn(b"then\n txn\n  get a\n").failed(2, "line 2, column 2: this txn has no end");
    txn(b"# nothing\n").failed(2, "there is no statement");
    txn(b"put a \xff\n").failed(2, "neither JSON nor a text");
    let wrong = txn(b"get\n");
    assert!(wrong.err.contains("\nhint: `konsen txn --help`"), "{}", wrong.err);
}

#[test]
fn a_transaction_has_to_come_from_somewhere() {
    let dir = TempDir::new().unwrap();
    konsen(dir.path(), &["txn", "absent.txn"]).failed(1, "absent.txn: No such file");
    konsen(dir.path(), &["txn"]).failed(2, "states no transaction");
    konsen(dir.path(), &["txn", "-"]).failed(2, "there is no statement");
    let help = konsen(dir.path(), &["txn", "--help"]).ok();
    for part in [
        "if FIELD(WHAT) RELATION VALUE",
        "put KEY VALUE",
        "exit code is 0 if the compares hold and 4",
    ] {
        assert!(help.contains(part), "{help}");
    }
}
