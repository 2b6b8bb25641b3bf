//! How mistakes come into a text.

use super::*;

const TEXT: &str = "fn may(self) -> bool {
    let free = self.vote.is_none();
    self.wait();
    free && self.is_fresh()
}
fn wait(self) {
    self.wait();
    self.sleep();
}
";

fn edit(line: &str, right: Option<&str>, wrong: &str) -> Edit {
    Edit {
        file: "a.rs".to_owned(),
        line: line.to_owned(),
        right: right.map(str::to_owned),
        wrong: wrong.to_owned(),
    }
}

#[test]
fn what_is_right_stays_and_lines_keep_their_numbers() {
    let any = edit("free && self.is_fresh()", Some("self.is_fresh()"), "true");
    let twice = edit("free && self.is_fresh()", Some("free"), "true");
    let hasty =
        edit("self.wait();\nself.sleep();", Some("self.sleep();"), "self.go();\nself.run();");
    let edits = [("Any", &any), ("Twice", &twice), ("Hasty", &hasty)];
    let on = |name: &str| format!("if crate::mutant::on(crate::mutant::Mutant::{name})");
    let expected = TEXT
        .replace(
            "free && self.is_fresh()",
            &format!(
                "({} {{ true }} else {{ free }}) && ({} {{ true }} else {{ self.is_fresh() }})",
                on("Twice"),
                on("Any")
            ),
        )
        .replace(
            "self.sleep();",
            &format!("{} {{ self.go(); self.run(); }} else {{ self.sleep(); }}", on("Hasty")),
        );
    assert_eq!(weave(TEXT, &edits), Ok(expected));
}

#[test]
fn several_mistakes_can_be_made_in_one_place() {
    let first = edit("let free = self.vote.is_none();", Some("self.vote.is_none()"), "true");
    let second = edit("let free = self.vote.is_none();", Some("self.vote.is_none()"), "false");
    let woven = weave(TEXT, &[("First", &first), ("Second", &second)]).unwrap();
    let line = "    let free = (if crate::mutant::on(crate::mutant::Mutant::First) { true } \
        else if crate::mutant::on(crate::mutant::Mutant::Second) { false } \
        else { self.vote.is_none() });";
    assert!(woven.lines().any(|one| one == line), "{woven}");
}

#[test]
fn what_is_found_never_or_twice_is_told() {
    let gone = edit("self.sleeps();", None, "");
    let part = edit("self.is_fresh()", None, "true");
    let twice = edit("self.wait();", None, "");
    let within = edit("let free = self.vote.is_none();", Some("e"), "a");
    let edits = [("Gone", &gone), ("Part", &part), ("Twice", &twice), ("Within", &within)];
    let told = weave(TEXT, &edits).unwrap_err();
    assert_eq!(
        told,
        [
            "Gone: a.rs: found 0 times, not once:\n    self.sleeps();",
            "Part: a.rs: found 0 times, not once:\n    self.is_fresh()",
            "Twice: a.rs: found 2 times, not once:\n    self.wait();",
            "Within: a.rs: found 6 times, not once:\n    e",
        ]
    );
}

#[test]
fn what_overlaps_is_told() {
    let outer = edit("free && self.is_fresh()", None, "true");
    let inner = edit("free && self.is_fresh()", Some("free"), "true");
    let told = weave(TEXT, &[("Outer", &outer), ("Inner", &inner)]).unwrap_err();
    assert_eq!(told, ["Outer: 'free && self.is_fresh()' overlaps what another replaces"]);
}
