//! `konsen check` where it needs no cluster.

use tempfile::TempDir;

use crate::konsen;

#[test]
fn what_cannot_be_meant_is_refused() {
    let dir = TempDir::new().unwrap();
    let run = |arguments: &[&str]| konsen(dir.path(), &[&["check"], arguments].concat());
    run(&["--seconds", "0"]).failed(2, "--seconds");
    run(&["--clients", "0"]).failed(2, "--clients");
    run(&["--keys", "65"]).failed(2, "--keys");
    run(&["--rate", "0"]).failed(2, "--rate");
    run(&["--timeout", "soon"]).failed(2, "--timeout");
    run(&["--timeout", "0s"]).failed(2, "timeout");
    run(&["--prefix", ""]).failed(2, "prefix");
    run(&["--endpoints", "ftp://x"]).failed(2, "ftp://x");
    run(&["--show", "-o", "json"]).failed(2, "--show");
    run(&["--judge", "h", "--keep"]).failed(2, "--keep");
    assert!(run(&["--help"]).ok().contains("[default: 1s]"));
    run(&["--history", "no/such/folder/h"]).failed(1, "no/such/folder/h");
}

#[test]
fn a_kept_history_is_judged() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, lines: &[&str]| {
        std::fs::write(dir.path().join(name), lines.join("\n")).unwrap();
    };
    let head = r#"{"konsen_check":1,"prefix":"p/","keys":1,"endpoints":["http://a:1"],"seed":7}"#;
    let put = r#"{"client":0,"endpoint":0,"called":1,"returned":2,"called_us":0,"ended_us":1500,"ask":{"put":{"key":0,"value":1,"need":"nothing"}},"answer":{"put":{"revision":2,"created":true}}}"#;
    let lost = r#"{"client":1,"endpoint":0,"called":3,"returned":4,"called_us":2000,"ended_us":3000,"ask":{"get":{"key":0}},"answer":{"found":{"revision":2,"items":[]}}}"#;
    let found = lost.replace("[]", r#"[{"key":0,"value":1,"revision":2}]"#);
    write("good", &[head, put, &found]);
    write("bad", &[head, put, lost]);
    write("broken", &[head, put, "{}"]);
    let judge = |name: &str| konsen(dir.path(), &["check", "--judge", name]);
    let good = judge("good").ok();
    for part in ["operations    2\n", "latency p99   1.5 ms\n", "linearizable: yes\n"] {
        assert!(good.contains(part), "{good}");
    }
    let bad = judge("bad");
    assert_eq!(bad.code, 1);
    assert!(bad.err.starts_with("error: the store is not linearizable: p/0000: "), "{}", bad.err);
    assert!(bad.err.contains("hint: ") && bad.err.contains("--judge bad"), "{}", bad.err);
    assert!(bad.out.contains("linearizable: no\n"), "{}", bad.out);
    assert!(bad.out.contains("put key 0 = 1: new, revision 2\n"), "{}", bad.out);

    let head = head.replacen(":1,", ":2,", 1);
    let txn = r#"{"client":0,"endpoint":0,"called":1,"returned":2,"called_us":0,"ended_us":1500,"ask":{"txn":{"if":[{"exists":{"key":0,"exists":false}}],"then":[{"put":{"key":0,"value":1}}],"else":[{"get":{"key":0}}]}},"answer":{"txn":{"revision":2,"succeeded":true,"results":["put"]}}}"#;
    write("whole", &[&head, txn, &found]);
    write("torn", &[&head, txn, lost]);
    let whole = judge("whole").ok();
    for part in ["transactions  1\n", "otherwise     0\n", "linearizable: yes\n"] {
        assert!(whole.contains(part), "{whole}");
    }
    let torn = judge("torn");
    assert_eq!(torn.code, 1);
    let line =
        "transaction if key 0 is absent then put key 0 = 1 else get key 0: then, revision 2; put\n";
    assert!(torn.out.contains(line), "{}", torn.out);
    judge("broken").failed(1, "broken is not a history: line 3");
    judge("none").failed(1, "cannot open none");
}
