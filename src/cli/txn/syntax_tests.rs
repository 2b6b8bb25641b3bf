use crate::api::TxnLimits;

use super::*;

/// What the JSON says that means the same.
fn json(text: &str) -> TxnRequest {
    let limits = TxnLimits { operations_max: 128, value_bytes_max: 1 << 20 };
    TxnRequest::parse(text.as_bytes(), &limits).unwrap()
}

#[test]
fn a_text_means_what_its_json_means() {
    for (text, means) in [
        (
            "if mod_revision(a) == 3\nif value(b) != \"x y\" # why\nif unchanged(prefix app/) since 17\nthen\n  put a 1\n  \
             delete prefix tmp/\n  get c\nelse\n  get a\n",
            r#"{"if":[{"key":"a","compare":"mod_revision","to":3},{"key":"b","compare":"value","op":"!=","to":"x y"},
                {"prefix":"app/","compare":"unchanged_since","to":17}],
                "then":[{"put":{"key":"a","value":"1"}},{"delete":{"prefix":"tmp/"}},{"get":{"key":"c"}}],
                "else":[{"get":{"key":"a"}}]}"#,
        ),
        (
            "if exists(a)\nif not exists( \"b)\" )\nif version(from a)>=2\nif lease(range a b) < 7\nif create_revision(a)!=0\nif value(a)<=\"\"\nelse\nget a",
            r#"{"if":[{"key":"a","compare":"exists","to":true},{"key":"b)","compare":"exists","to":false},
                {"start":"a","compare":"version","op":">=","to":2},{"start":"a","end":"b","compare":"lease","op":"<","to":7},
                {"key":"a","compare":"create_revision","op":"!=","to":0},{"key":"a","compare":"value","op":"<=","to":""}],
                "else":[{"get":{"key":"a"}}]}"#,
        ),
        // Without compares, then may be left out.
        (
            "put \"\\xff\\\"\\\\\" \"\\0\\t\\r\\n\" previous content_type a/b\nput b keep_value keep_lease\nput c \"keep_value\"\nput d a(b)=c#d",
            r#"{"then":[{"put":{"key_base64":"/yJc","value":"\u0000\t\r\n","content_type":"a/b","previous":true}},
                {"put":{"key":"b","keep_value":true,"keep_lease":true}},{"put":{"key":"c","value":"keep_value"}},
                {"put":{"key":"d","value":"a(b)=c#d"}}]}"#,
        ),
        (
            "get \"prefix\"\nget prefix \"\" limit 5 keys_only\ndelete \"from\" previous\ndelete range a b",
            r#"{"then":[{"get":{"key":"prefix"}},{"get":{"prefix":"","limit":5,"keys_only":true}},
                {"delete":{"key":"from","previous":true}},{"delete":{"start":"a","end":"b"}}]}"#,
        ),
        (
            "then\ntxn\n if exists(a)\n then\n  get a\n  txn\n  end\nend\nelse\n\n# nothing",
            r#"{"then":[{"txn":{"if":[{"key":"a","compare":"exists","to":true}],"then":[{"get":{"key":"a"}},{"txn":{}}]}}]}"#,
        ),
        ("then", "{}"),
    ] {
        assert_eq!(parse(text).unwrap(), json(means), "{text}");
    }
}

#[test]
fn what_is_wrong_has_a_line_and_a_column() {
    for (text, line, column, what) in [
        ("", 1, 1, "no statement"),
        ("# only this\n", 1, 1, "no statement"),
        ("put a 1\nset a 1", 2, 1, "a line begins with if, then"),
        ("\"put\" a 1", 1, 1, "a line begins with"),
        ("put", 1, 4, "a key is missing"),
        ("  put a", 1, 8, "a value, or keep_value, is missing"),
        ("put a b c", 1, 9, "needs quotes"),
        ("put \"\" b", 1, 5, "the key is empty"),
        ("put a \"b", 1, 7, "the quote has no end"),
        ("put a \"b\"c", 1, 10, "a blank is missing"),
        ("put ü \"\\y\"", 1, 8, r"\xHH"),
        ("put a \"\\x4\"", 1, 8, r"\xHH"),
        ("put a \"\\", 1, 8, r"\xHH"),
        ("get a limit", 1, 12, "a whole number"),
        ("get a limit 0", 1, 13, "1 or more"),
        ("get a limit x", 1, 13, "a whole number"),
        ("get a b", 1, 7, "nothing more"),
        ("get prefix", 1, 11, "what the keys begin with is missing"),
        ("delete range a", 1, 15, "behind the range is missing"),
        ("delete range a \"\"", 1, 16, "`from START`"),
        ("delete a previous previous", 1, 19, "nothing more"),
        ("if", 1, 3, "a compare is one of"),
        ("if revision(a) == 3", 1, 4, "a compare is one of"),
        ("if version a == 3", 1, 12, "a ( is missing"),
        ("if version(a == 3", 1, 14, "a ) is missing"),
        ("if version(a)", 1, 14, "one of == !="),
        ("if version(a) = 3", 1, 15, "= is no relation"),
        ("if version(a) == x", 1, 18, "a whole number"),
        ("if version(a) == 3 4", 1, 20, "nothing more"),
        ("if version() == 3", 1, 12, "a key is missing"),
        ("if not value(a) == 3", 1, 8, "only exists"),
        ("if unchanged(a) == 3", 1, 17, "since"),
        ("if exists(a)\nput a 1", 2, 7, "then or else is missing"),
        ("then\nif exists(a)", 2, 1, "before then"),
        ("then\nthen", 2, 1, "it was there before"),
        ("else\nthen", 2, 1, "behind else"),
        ("then now", 1, 6, "nothing more"),
        ("end", 1, 1, "no txn"),
        ("then\n  txn\n  get a", 2, 3, "no end"),
        (&"txn\n".repeat(32), 32, 1, "more than 32 deep"),
    ] {
        let wrong = parse(text).expect_err(text);
        assert_eq!((wrong.line, wrong.column), (line, column), "{text:?}: {wrong}");
        assert!(wrong.what.contains(what), "{text:?}: {wrong}");
    }
    let deep = format!("{}{}", "txn\n".repeat(31), "end\n".repeat(31));
    json(&parse(&deep).unwrap().to_json().to_string());
}
