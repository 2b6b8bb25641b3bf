//! A history's file: what is written is read again, and what is none is refused by its line.

use proptest::prelude::*;

use super::history::{FormatError, History};

const HEAD: &str =
    r#"{"konsen_check":1,"prefix":"p/","keys":3,"endpoints":["http://a:1"],"seed":7}"#;

fn line(called: u64, returned: &str, ask: &str, answer: &str) -> String {
    format!(
        r#"{{"client":1,"endpoint":0,"called":{called},"returned":{returned},"called_us":5,"ended_us":9,"ask":{ask},"answer":{answer}}}"#
    )
}

fn read(lines: &[&str]) -> Result<History, FormatError> {
    History::read(lines.join("\n").as_bytes())
}

fn good() -> Vec<String> {
    let put = r#"{"put":{"key":0,"value":1,"need":"nothing"}}"#;
    let swap = r#"{"put":{"key":0,"value":2,"need":{"revision":3}}}"#;
    vec![
        HEAD.to_owned(),
        line(1, "2", put, r#"{"put":{"revision":3,"created":true}}"#),
        line(3, "null", swap, r#""unknown""#),
        line(
            4,
            "5",
            r#"{"list":{"from":0,"to":3}}"#,
            r#"{"found":{"revision":3,"items":[{"key":0,"value":1,"revision":3}]}}"#,
        ),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    let lines = good();
    let history = read(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert_eq!(history.calls.len(), 3);
    let mut written = Vec::new();
    history.write(&mut written).unwrap();
    assert_eq!(History::read(written.as_slice()).unwrap(), history);
    assert_eq!(String::from_utf8(written).unwrap().trim_end(), lines.join("\n"));
}

#[test]
fn bad_lines_are_refused_by_their_number() {
    let get = r#"{"get":{"key":0}}"#;
    let put = r#"{"put":{"key":0,"value":9,"need":"nothing"}}"#;
    let done = r#"{"put":{"revision":3,"created":true}}"#;
    let found = |items: &str| format!(r#"{{"found":{{"revision":3,"items":[{items}]}}}}"#);
    let item = r#"{"key":0,"value":1,"revision":3}"#;
    let cases: Vec<(&str, String, &str)> = vec![
        ("", "{".to_owned(), "no call"),
        ("", "[]".to_owned(), "no call"),
        ("", "\u{fffd}".to_owned(), "no call"),
        ("", String::from(" "), "no call"),
        (
            "an unknown field",
            line(6, "7", get, &found("")).replace("{\"client", "{\"x\":1,\"client"),
            "no call",
        ),
        ("a key too many", line(6, "7", r#"{"get":{"key":3}}"#, &found("")), "none of the 3"),
        ("no range", line(6, "7", r#"{"list":{"from":2,"to":2}}"#, &found("")), "none of the 3"),
        ("the other way round", line(7, "6", get, &found("")), "returned before"),
        ("a moment twice", line(6, "4", get, &found("")), "returned before"),
        ("a moment twice", line(4, "6", get, &found("")), "another call has"),
        ("a value twice", line(6, "7", &put.replace('9', "1"), done), "written twice"),
        ("value 0", line(6, "7", &put.replace('9', "0"), done), "another question"),
        ("another question", line(6, "7", get, done), "another question"),
        ("an item twice", line(6, "7", get, &found(&format!("{item},{item}"))), "another question"),
        (
            "an item not asked",
            line(6, "7", &get.replace('0', "1"), &found(item)),
            "another question",
        ),
        (
            "two from one",
            line(
                6,
                "7",
                r#"{"delete":{"key":0,"need":"nothing"}}"#,
                r#"{"deleted":{"revision":null,"count":2}}"#,
            ),
            "another question",
        ),
        ("no moment", line(6, "null", put, done), "without a moment"),
        ("unknown with one", line(6, "7", put, r#""unknown""#), "without a moment"),
        ("an unknown read", line(6, "null", get, r#""unknown""#), "another question"),
        ("too long", format!("\"{}\"", "x".repeat(1 << 20)), "too long"),
    ];
    for (name, bad, expected) in cases {
        let mut lines = good();
        lines.push(bad);
        let error = read(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("line 5: ") && text.contains(expected), "{name}: {text}");
    }
    let head = |text: String| read(&[&text]).unwrap_err().to_string();
    assert!(head(String::new()).starts_with("line 1: no head"), "{}", head(String::new()));
    assert!(head("{}".to_owned()).starts_with("line 1: no head"));
    for (format, expected) in [(":0,", "line 1: format 0"), (":3,", "line 1: format 3")] {
        assert!(head(HEAD.replacen(":1,", format, 1)).starts_with(expected));
    }
    assert!(
        head(HEAD.replace("\"keys\":3", "\"keys\":4000000000")).starts_with("line 1: more than")
    );
}

fn with_transactions() -> Vec<String> {
    let compares = r#"[{"revision":{"key":0,"revision":3}},{"exists":{"key":1,"exists":false}},{"unchanged":{"from":0,"to":3,"since":3}}]"#;
    let ops = r#"[{"put":{"key":1,"value":4}},{"delete":{"key":2}},{"get":{"key":1}},{"list":{"from":0,"to":2}}]"#;
    let ask = format!(r#"{{"txn":{{"if":{compares},"then":{ops},"else":[]}}}}"#);
    let item = r#"{"key":1,"value":4,"revision":4}"#;
    let results =
        format!(r#"["put",{{"deleted":{{"count":0}}}},{{"found":{{"items":[{item}]}}}},"unread"]"#);
    let answer = format!(r#"{{"txn":{{"revision":4,"succeeded":true,"results":{results}}}}}"#);
    let mut lines = good();
    lines[0] = HEAD.replacen(":1,", ":2,", 1);
    lines.push(line(6, "7", &ask, &answer));
    lines
}

#[test]
fn transactions_are_read_again_and_bad_ones_refused() {
    let lines = with_transactions();
    let text = lines.join("\n");
    let history = History::read(text.as_bytes()).unwrap();
    let mut written = Vec::new();
    history.write(&mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap().trim_end(), text);
    let summary = super::judge::judge(&history).unwrap();
    assert_eq!((summary.transactions, summary.otherwise), (1, 0));

    let (long, many) = (r#"{"get":{"key":1}},"#.repeat(14), r#""unread","#.repeat(14));
    for (good, bad, expected) in [
        (r#""key":2}"#, r#""key":3}"#, "none of the 3"),
        (r#""from":0,"to":3,"#, r#""from":0,"to":4,"#, "none of the 3"),
        (r#""from":0,"to":2}"#, r#""from":2,"to":2}"#, "none of the 3"),
        (r#""key":0,"revision":3}}"#, r#""key":4294967295,"revision":3}}"#, "none of the 3"),
        (r#"{"delete":{"key":2}}"#, r#"{"delete":{"key":1}}"#, "changes a key twice"),
        (r#""value":4}}"#, r#""value":0}}"#, "it writes 0"),
        (r#""value":4}}"#, r#""value":2}}"#, "written twice"),
        (r#""else":[]"#, r#""else":[{"put":{"key":0,"value":4}}]"#, "written twice"),
        (r#"["put","#, "[", "another question"),
        (r#"["put","#, r#"["unread","#, "another question"),
        (r#""succeeded":true"#, r#""succeeded":false"#, "another question"),
        (
            r#"[{"key":1,"value":4,"revision":4}]"#,
            r#"[{"key":0,"value":4,"revision":4}]"#,
            "another question",
        ),
        (r#"{"get":{"key":1}},"#, &long, "more than 16"),
        (r#""if":"#, r#""when":"#, "no call"),
        (r#"{"exists":{"#, r#"{"value":{"#, "no call"),
    ] {
        let mut bad = lines[4].replacen(good, bad, 1);
        assert_ne!(bad, lines[4], "{good}");
        if expected.starts_with("more") {
            bad = bad.replacen(r#""unread""#, &format!(r#"{many}"unread""#), 1);
        }
        let text = [&lines[..4], &[bad]].concat().join("\n");
        let error = History::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 5: ") && error.contains(expected), "{good}: {error}");
    }
    let older = text.replacen(":2,", ":1,", 1);
    let error = History::read(older.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("a format that has none"), "{error}");
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..1400_usize) {
        let _ = History::read(bytes.as_slice());
        // A good file with something broken into it; what can be read can be judged.
        let mut file = with_transactions().join("\n").into_bytes();
        let end = (at + bytes.len() % 4).min(file.len());
        let at = at.min(file.len());
        file.splice(at..end, bytes.iter().copied().take(4));
        if let Ok(history) = History::read(file.as_slice()) {
            let _ = super::judge::judge(&history);
        }
    }
}
