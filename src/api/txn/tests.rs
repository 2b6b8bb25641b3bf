use bytes::Bytes;

use super::*;
use crate::kv::{Attach, KeyRange, Relation, Revision, Test};

const LIMITS: TxnLimits = TxnLimits { operations_max: 128, value_bytes_max: 1000 };

fn parse(text: &str) -> TxnRequest {
    TxnRequest::parse(text.as_bytes(), &LIMITS).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn refused(text: &str) -> (Kind, String) {
    match TxnRequest::parse(text.as_bytes(), &LIMITS) {
        Ok(request) => panic!("{text} was taken as {request:?}"),
        Err(error) => (error.kind, error.detail),
    }
}

fn compare(text: &str) -> Compare {
    parse(&format!(r#"{{"if":[{text}]}}"#)).compares.remove(0)
}

fn op(text: &str) -> TxnOp {
    parse(&format!(r#"{{"then":[{text}]}}"#)).then.remove(0)
}

fn key(text: &'static str) -> Over {
    Over::Key(text.into())
}

fn between(start: &'static str, end: Option<&'static str>) -> Over {
    Over::Range(KeyRange { start: start.into(), end: end.map(Bytes::from) })
}

#[test]
fn every_compare_is_read() {
    let a = |test| Compare { over: key("a"), test };
    for (text, test) in [
        (r#""compare":"value","to":"x""#, Test::Value(Relation::Eq, "x".into())),
        (r#""compare":"value","op":"<","to_base64":"/w==""#, {
            Test::Value(Relation::Lt, Bytes::from_static(b"\xff"))
        }),
        (r#""compare":"version","op":">=","to":2"#, Test::Version(Relation::Ge, 2)),
        (r#""compare":"create_revision","op":"!=","to":0"#, {
            Test::CreateRevision(Relation::Ne, Revision(0))
        }),
        (r#""compare":"mod_revision","op":"<=","to":3"#, {
            Test::ModRevision(Relation::Le, Revision(3))
        }),
        (r#""compare":"mod_revision","op":null,"to":3"#, {
            Test::ModRevision(Relation::Eq, Revision(3))
        }),
        (r#""compare":"lease","op":">","to":7"#, Test::Lease(Relation::Gt, 7)),
        (r#""compare":"lease","to":"9223372036854775807""#, {
            Test::Lease(Relation::Eq, 9_223_372_036_854_775_807)
        }),
        (r#""compare":"exists","to":true"#, Test::Exists(true)),
        (r#""compare":"exists","op":"!=","to":true"#, Test::Exists(false)),
        (r#""compare":"unchanged_since","to":17"#, Test::UnchangedSince(Revision(17))),
    ] {
        assert_eq!(compare(&format!(r#"{{"key":"a",{text}}}"#)), a(test), "{text}");
    }
    for (text, over) in [
        (r#""key_base64":"YQ==""#, key("a")),
        (r#""prefix":"a""#, between("a", Some("b"))),
        (r#""prefix":"""#, between("", None)),
        (r#""start":"a","end":"c""#, between("a", Some("c"))),
        (r#""start":"a","end":"""#, between("a", None)),
        (r#""end_base64":"Yw==""#, between("", Some("c"))),
        (r#""prefix":"a","start":"ab","end":"z""#, between("ab", Some("b"))),
    ] {
        let text = format!(r#"{{{text},"compare":"exists","to":true}}"#);
        assert_eq!(compare(&text).over, over, "{text}");
    }
}

#[test]
fn every_operation_is_read() {
    let mut put = Put::new("a".into(), "1".into());
    assert_eq!(
        op(r#"{"put":{"key":"a","value":"1"}}"#),
        TxnOp::Put { put: put.clone(), previous: false }
    );
    put.content_type = Some("a/b".to_owned());
    put.lease = Attach::Keep;
    put.value = None;
    assert_eq!(
        op(
            r#"{"put":{"key":"a","keep_value":true,"keep_lease":true,"content_type":"a/b","lease":0,"ttl":null,"previous":true}}"#
        ),
        TxnOp::Put { put, previous: true }
    );
    assert_eq!(
        op(r#"{"delete":{"prefix":"a","previous":true}}"#),
        TxnOp::Delete { over: between("a", Some("b")), previous: true }
    );
    assert_eq!(
        op(r#"{"get":{"start":"a","limit":5,"keys_only":true}}"#),
        TxnOp::Get { over: between("a", None), limit: Some(5), keys_only: true }
    );
    let nested =
        parse(r#"{"if":[{"key":"a","compare":"version","to":0}],"else":[{"get":{"key":"a"}}]}"#);
    assert_eq!(
        op(
            r#"{"txn":{"else":[{"get":{"key":"a"}}],"if":[{"key":"a","compare":"version","to":0}]}}"#
        ),
        TxnOp::Txn(nested)
    );
    assert_eq!(parse("{}"), TxnRequest::default());
}

/// What is wrong is said with its place.
#[test]
fn what_cannot_be_understood_is_refused_at_its_place() {
    for (text, place, what) in [
        ("", "EOF", "line 1"),
        ("[]", "invalid type: sequence", "a transaction such as"),
        ("{} {}", "trailing characters", ""),
        (r#"{"iff":[]}"#, "unknown field `iff`", "`if`, `then`, `else`"),
        (r#"{"then":[],"then":[]}"#, "then: ", "twice"),
        (r#"{"then":{}}"#, "then: ", "a list"),
        (r#"{"then":[1]}"#, "then[0]: ", "an operation such as"),
        (r#"{"then":[{}]}"#, "then[0]: ", "one of put, delete, get and txn"),
        (r#"{"then":[{"get":{"key":"a"},"put":{"key":"a","value":""}}]}"#, "then[0]: ", "one of"),
        (r#"{"then":[{"got":{"key":"a"}}]}"#, "then[0]: unknown field `got`", ""),
        (
            r#"{"else":[{"get":{"key":"a"}},{"put":{"key":"a","valu":"1"}}]}"#,
            "else[1].put: ",
            "`valu`",
        ),
        (r#"{"then":[{"put":{"key":"a","value":1}}]}"#, "then[0].put.value: ", "a text"),
        (r#"{"then":[{"put":{"key":"a","value":[1]}}]}"#, "then[0].put.value: ", "sequence"),
        (
            r#"{"then":[{"put":{"key":"a","value":"1","value":"1"}}]}"#,
            "then[0].put.value: ",
            "twice",
        ),
        (
            r#"{"then":[{"put":{"key":"a","value_base64":"?"}}]}"#,
            "then[0].put.value_base64: ",
            "base64",
        ),
        (
            r#"{"then":[{"put":{"key":"a","value":"","value_base64":""}}]}"#,
            "then[0].put: ",
            "exclude",
        ),
        (r#"{"then":[{"put":{"key":"a"}}]}"#, "then[0].put: ", "keep_value"),
        (
            r#"{"then":[{"put":{"key":"a","value":"","keep_value":true}}]}"#,
            "then[0].put: ",
            "exclude",
        ),
        (r#"{"then":[{"put":{"value":""}}]}"#, "then[0].put: ", "`key`"),
        (
            r#"{"then":[{"put":{"key":"a","value":"","previous":1}}]}"#,
            "then[0].put.previous: ",
            "true or",
        ),
        (
            r#"{"then":[{"put":{"key":"a","value":"","content_type":"ü"}}]}"#,
            "then[0].put: ",
            "ASCII",
        ),
        (r#"{"then":[{"get":{}}]}"#, "then[0].get: ", "needs a key"),
        (r#"{"then":[{"get":{"key":"a","prefix":"a"}}]}"#, "then[0].get: ", "excludes"),
        (r#"{"then":[{"get":{"key":"a","limit":0}}]}"#, "then[0].get: ", "1 or more"),
        (r#"{"then":[{"get":{"key":"a","limit":-1}}]}"#, "then[0].get.limit: ", "0 or more"),
        (r#"{"then":[{"get":{"key":"a","limit":1.5}}]}"#, "then[0].get.limit: ", "whole number"),
        (r#"{"then":[{"delete":{"prefix":""}}]}"#, "then[0].delete: ", "not empty"),
        (r#"{"then":[{"delete":{"start":""}}]}"#, "then[0].delete: ", "not empty"),
        (r#"{"then":[{"delete":{"start":"a","end":""}}]}"#, "then[0].delete: ", "end is empty"),
        (r#"{"then":[{"delete":{"prefix":"a","end":""}}]}"#, "then[0].delete: ", "end is empty"),
        (r#"{"if":[{"key":"a","to":1}]}"#, "if[0]: ", "`compare`"),
        (r#"{"if":[{"key":"a","compare":"revision","to":1}]}"#, "if[0]: ", "mod_revision"),
        (r#"{"if":[{"key":"a","compare":"version","op":"=","to":1}]}"#, "if[0]: ", "==, !=, <"),
        (r#"{"if":[{"key":"a","compare":"version"}]}"#, "if[0]: ", "`to`"),
        (r#"{"if":[{"key":"a","compare":"version","to":"1"}]}"#, "if[0].to: ", "whole number"),
        (r#"{"if":[{"key":"a","compare":"value","to":1}]}"#, "if[0].to: ", "a text"),
        (r#"{"if":[{"key":"a","compare":"exists"}]}"#, "if[0]: ", "`to`"),
        (r#"{"if":[{"key":"a","compare":"exists","op":"<","to":true}]}"#, "if[0]: ", "== or !="),
        (
            r#"{"if":[{"key":"a","compare":"unchanged_since","op":"==","to":1}]}"#,
            "if[0]: ",
            "no op",
        ),
        (
            r#"{"if":[{"key":"a","compare":"version","to":1,"to_base64":""}]}"#,
            "if[0]: ",
            "values only",
        ),
        (
            r#"{"then":[{"txn":{"then":[{"txn":{"if":[7]}}]}}]}"#,
            "then[0].txn.then[0].txn.if[0]: ",
            "",
        ),
    ] {
        let (kind, detail) = refused(text);
        assert_eq!(kind, Kind::Malformed, "{text}: {detail}");
        assert!(detail.starts_with(place) && detail.contains(what), "{text}: {detail}");
    }
}

#[test]
fn what_is_understood_and_cannot_be_has_its_own_kind() {
    let long = "k".repeat(4097);
    for (text, kind, what) in [
        (r#"{"then":[{"get":{"key":""}}]}"#.to_owned(), Kind::InvalidKey, "then[0].get: the key"),
        (format!(r#"{{"then":[{{"get":{{"key":"{long}"}}}}]}}"#), Kind::KeyTooLong, "4097 bytes"),
        (
            r#"{"then":[{"put":{"key":"a","value":"","lease":"7"}}]}"#.to_owned(),
            Kind::NotSupported,
            { "then[0].put: this release has no leases" },
        ),
        (
            r#"{"then":[{"put":{"key":"a","value":"","ttl":"3s"}}]}"#.to_owned(),
            Kind::NotSupported,
            { "no leases" },
        ),
    ] {
        let (found, detail) = refused(&text);
        assert_eq!(found, kind, "{detail}");
        assert!(detail.contains(what), "{detail}");
    }
    let value = format!(r#"{{"then":[{{"put":{{"key":"a","value":"{}"}}}}]}}"#, "x".repeat(1001));
    let (kind, detail) = refused(&value);
    assert_eq!(kind, Kind::ValueTooLarge);
    assert!(detail.starts_with("then[0].put: ") && detail.contains("limits.value"), "{detail}");
    let put = |at: usize| format!(r#"{{"put":{{"key":"{at}","value":"{}"}}}}"#, "x".repeat(1000));
    let many: Vec<String> = (0..67).map(put).collect();
    assert_eq!(refused(&format!(r#"{{"then":[{}]}}"#, many.join(","))).0, Kind::ValueTooLarge);
    parse(&format!(r#"{{"then":[{}]}}"#, many[..66].join(",")));
}

fn gets(count: usize) -> String {
    vec![r#"{"get":{"key":"a"}}"#; count].join(",")
}

#[test]
fn lists_and_what_is_nested_are_bounded() {
    let compares = vec![r#"{"key":"a","compare":"version","to":0}"#; 128].join(",");
    let longest = gets(128);
    parse(&format!(r#"{{"if":[{compares}],"then":[{longest}],"else":[{longest}]}}"#));
    for text in [
        format!(r#"{{"then":[{}]}}"#, gets(129)),
        format!(r#"{{"else":[{}]}}"#, gets(129)),
        format!(r#"{{"if":[{compares},{{"key":"a","compare":"version","to":0}}]}}"#),
    ] {
        let (kind, detail) = refused(&text);
        assert_eq!(kind, Kind::InvalidTransaction);
        assert!(detail.contains("more than 128 in one list (limits.txnOperations)"), "{detail}");
    }
    // A nested list may have what the longest list around it leaves.
    let nested = |outer: usize, inner: usize| {
        format!(r#"{{"then":[{{"txn":{{"then":[{}]}}}}],"else":[{}]}}"#, gets(inner), gets(outer))
    };
    parse(&nested(100, 28));
    let (kind, detail) = refused(&nested(100, 29));
    assert_eq!(kind, Kind::InvalidTransaction);
    assert!(
        detail.starts_with("then[0].txn.then: ") && detail.contains("more than 28"),
        "{detail}"
    );
    // In all there may be eight times as many.
    let all = |lists: usize| {
        let nested = format!(r#"{{"txn":{{"then":[{}]}}}}"#, gets(100));
        format!(r#"{{"then":[{}]}}"#, vec![nested; lists].join(","))
    };
    parse(&all(10));
    let (kind, detail) = refused(&all(11));
    assert_eq!(kind, Kind::InvalidTransaction);
    assert!(detail.contains("8 times 128"), "{detail}");

    let deep = |depth: usize| {
        let (open, close) = (r#"{"then":[{"txn":"#.repeat(depth - 1), "}]}".repeat(depth - 1));
        format!("{open}{{}}{close}")
    };
    parse(&deep(32));
    for depth in [33, 60, 10_000] {
        let (kind, detail) = refused(&deep(depth));
        assert_eq!(kind, Kind::InvalidTransaction);
        assert!(detail.contains("more than 32 deep"), "{detail}");
    }
    let mut built = TxnRequest::default();
    for _ in 0..32 {
        built = TxnRequest { then: vec![TxnOp::Txn(built)], ..TxnRequest::default() };
    }
    assert_eq!(built.check(&LIMITS).unwrap_err().kind, Kind::InvalidTransaction);
}

fn put(key: &str) -> String {
    format!(r#"{{"put":{{"key":"{key}","value":"1"}}}}"#)
}

fn delete(key: &str) -> String {
    format!(r#"{{"delete":{{"key":"{key}"}}}}"#)
}

fn delete_range(start: &str, end: &str) -> String {
    match end {
        "" => format!(r#"{{"delete":{{"start":"{start}"}}}}"#),
        end => format!(r#"{{"delete":{{"start":"{start}","end":"{end}"}}}}"#),
    }
}

fn txn(then: &[&str], otherwise: &[&str]) -> String {
    let (then, otherwise) = (then.join(","), otherwise.join(","));
    format!(r#"{{"txn":{{"then":[{then}],"else":[{otherwise}]}}}}"#)
}

#[test]
fn one_branch_changes_a_key_once() {
    let (a, del_a) = (put("a"), delete("a"));
    let same = [&a[..], &a];
    for (ops, where_and_what) in [
        (vec![a.clone(), a.clone()], r#"then[1]: puts the key "a", which then[0] puts, too"#),
        (vec![a.clone(), del_a.clone()], r#"then[0]: puts the key "a", which then[1] deletes"#),
        (vec![del_a.clone(), a.clone()], r#"then[1]: puts the key "a", which then[0] deletes"#),
        (
            vec![delete_range("A", "b"), put("b"), a.clone()],
            r#"then[2]: puts the key "a", which then[0]"#,
        ),
        (vec![delete_range("a", ""), put("zz")], r#"then[1]: puts the key "zz", which then[0]"#),
        (vec![delete_range("a", ""), delete_range("b", "c"), put("x")], "which then[0] deletes"),
        (vec![a.clone(), txn(&[&put("b"), &a], &[])], {
            r#"then[1].txn.then[1]: puts the key "a", which then[0] puts"#
        }),
        (vec![txn(&[], &[&a]), a.clone()], r#"then[0].txn.else[0]: puts the key "a""#),
        (vec![txn(&[&txn(&[&a], &[])], &[]), delete_range("", "b")], {
            r#"then[0].txn.then[0].txn.then[0]: puts the key "a", which then[1] deletes"#
        }),
        (vec![txn(&[&txn(&[&del_a], &[])], &[]), a.clone()], {
            r#"then[1]: puts the key "a", which then[0].txn.then[0].txn.then[0] deletes"#
        }),
        (vec![txn(&[&delete_range("0", "")], &[]), a.clone()], "which then[0].txn.then[0] deletes"),
        (vec![txn(&same, &[])], "then[0].txn.then[1]: puts"),
    ] {
        let (kind, detail) = refused(&format!(r#"{{"then":[{}]}}"#, ops.join(",")));
        assert_eq!(kind, Kind::InvalidTransaction);
        assert!(detail.contains(where_and_what), "{ops:?}: {detail}");
    }
    for ops in [
        vec![del_a.clone(), del_a.clone(), delete_range("", "z")],
        vec![delete_range("a", "b"), put("b"), put("A")],
        // No key is in the range.
        vec![delete_range("b", "a"), put("a"), put("b")],
        vec![txn(&[&a], &[&a])],
        vec![txn(&[&a], &[&del_a])],
        // Side by side: their order tells.
        vec![txn(&[&a], &[]), txn(&[&a], &[&del_a])],
        vec![txn(&[&del_a], &[]), txn(&[&a], &[])],
        vec![a.clone(), r#"{"get":{"key":"a"}}"#.to_owned(), r#"{"get":{"prefix":""}}"#.to_owned()],
    ] {
        parse(&format!(r#"{{"then":[{}]}}"#, ops.join(",")));
    }
    parse(&format!(r#"{{"then":[{a}],"else":[{a}]}}"#));
}

/// The check says the same as one that looks at every pair.
#[test]
fn the_check_agrees_with_looking_at_every_pair() {
    use proptest::prelude::*;

    fn ops() -> impl Strategy<Value = Vec<TxnOp>> {
        let name = || "[a-d]{1,2}";
        let over = prop_oneof![
            name().prop_map(|key| Over::Key(key.into())),
            (name(), proptest::option::of(name())).prop_map(|(start, end)| {
                Over::Range(KeyRange { start: start.into(), end: end.map(Bytes::from) })
            }),
        ];
        let leaf = prop_oneof![
            3 => name().prop_map(|key| TxnOp::Put { put: Put::new(key.into(), Bytes::new()), previous: false }),
            1 => over.prop_map(|over| TxnOp::Delete { over, previous: false }),
        ];
        let leaves = proptest::collection::vec(leaf, 0..3);
        leaves.prop_recursive(3, 24, 3, |inner| {
            let nested = (inner.clone(), inner.clone()).prop_map(|(then, otherwise)| {
                vec![TxnOp::Txn(TxnRequest { compares: Vec::new(), then, otherwise })]
            });
            proptest::collection::vec(prop_oneof![inner, nested], 1..3)
                .prop_map(|lists| lists.concat())
        })
    }

    /// Each change below an operation.
    fn changes(op: &TxnOp) -> Vec<&TxnOp> {
        match op {
            TxnOp::Txn(nested) => nested.branches().flat_map(changes).collect(),
            op => vec![op],
        }
    }

    fn meet(one: &TxnOp, other: &TxnOp) -> bool {
        match (one, other) {
            (TxnOp::Put { put, .. }, TxnOp::Put { put: other, .. }) => put.key == other.key,
            (TxnOp::Put { put, .. }, TxnOp::Delete { over, .. })
            | (TxnOp::Delete { over, .. }, TxnOp::Put { put, .. }) => over.contains(&put.key),
            _ => false,
        }
    }

    fn branch_is_wrong(ops: &[TxnOp]) -> bool {
        let pairs = ops
            .iter()
            .enumerate()
            .flat_map(|(at, one)| ops[at + 1..].iter().map(move |other| (one, other)));
        let side_by_side =
            |one: &TxnOp, other: &TxnOp| matches!((one, other), (TxnOp::Txn(_), TxnOp::Txn(_)));
        let crossed = pairs.filter(|(one, other)| !side_by_side(one, other)).any(|(one, other)| {
            changes(one).iter().any(|one| changes(other).iter().any(|other| meet(one, other)))
        });
        let nested = |op: &TxnOp| match op {
            TxnOp::Txn(nested) => {
                branch_is_wrong(&nested.then) || branch_is_wrong(&nested.otherwise)
            }
            _ => false,
        };
        crossed || ops.iter().any(nested)
    }

    proptest!(|(then in ops(), otherwise in ops())| {
        let wrong = branch_is_wrong(&then) || branch_is_wrong(&otherwise);
        let request = TxnRequest { compares: Vec::new(), then, otherwise };
        let limits = TxnLimits { operations_max: 1000, ..LIMITS };
        prop_assert_eq!(request.check(&limits).is_err(), wrong, "{:?}", request);
    });
}

#[test]
fn a_request_comes_back_from_its_json() {
    let text = r#"{"if":[{"prefix":"app/","compare":"unchanged_since","to":17},
        {"key_base64":"/w==","compare":"value","op":"!=","to_base64":"/g=="},
        {"key":"a","compare":"lease","op":">","to":"3"},{"start":"x","compare":"exists","to":false}],
        "then":[{"put":{"key":"a","value":"1","content_type":"a/b","previous":true}},
        {"put":{"key":"b","keep_value":true,"keep_lease":true}},
        {"delete":{"start":"c","previous":true}},{"txn":{"then":[{"get":{"prefix":"p","limit":3}}]}}],
        "else":[{"get":{"key":"a","keys_only":true}}]}"#;
    let request = parse(text);
    assert_eq!(parse(&request.to_json().to_string()), request);
    assert!(!request.is_read_only() && request.reads());
    assert!(
        parse(r#"{"else":[{"txn":{"then":[{"delete":{"key":"a","previous":true}}]}}]}"#).reads()
    );
    assert!(!parse(r#"{"then":[{"put":{"key":"a","value":""}},{"txn":{}}]}"#).reads());
    assert!(parse(r#"{"then":[{"txn":{"then":[{"get":{"prefix":"p"}}]}}]}"#).is_read_only());
}

#[test]
fn replicas_get_what_they_need() {
    let request = parse(
        r#"{"if":[{"key":"a","compare":"exists","to":true}],"then":[{"put":{"key":"a","value":"1","previous":true}},
        {"txn":{"then":[{"delete":{"key":"b","previous":true}}],"else":[{"get":{"prefix":"c","limit":1}}]}}]}"#,
    );
    let nested = Txn {
        compares: Vec::new(),
        then: vec![Op::Delete(key("b"))],
        otherwise: vec![Op::Get(between("c", Some("d")))],
    };
    let txn = Txn {
        compares: vec![Compare { over: key("a"), test: Test::Exists(true) }],
        then: vec![Op::Put(Put::new("a".into(), "1".into())), Op::Txn(nested)],
        otherwise: Vec::new(),
    };
    assert_eq!(request.lower(7), Write::Txn { txn, keys_max: 7 });
}
