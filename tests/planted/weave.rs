//! Puts mistakes into sources, each behind the question whether it is planted. What is right stays as it is, word for
//! word and line for line, so a tree in which none is planted does what the sources say.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use super::mistakes::{Edit, Mistake};

/// What is made of every file that a mistake is made in; or what does not fit.
pub(crate) fn sources(
    root: &Path,
    mistakes: &[Mistake],
) -> Result<BTreeMap<String, String>, Vec<String>> {
    let mut by_file: BTreeMap<&str, Vec<(&str, &Edit)>> = BTreeMap::new();
    for Mistake { name, edits, .. } in mistakes {
        for edit in edits {
            by_file.entry(&edit.file).or_default().push((name, edit));
        }
    }
    let mut woven = BTreeMap::new();
    let mut misfits = Vec::new();
    for (file, edits) in by_file {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| {
            misfits.push(format!("{file} cannot be read: {error}"));
            String::new()
        });
        match weave(&text, &edits) {
            Ok(text) => drop(woven.insert(file.to_owned(), text)),
            Err(these) => misfits.extend(these),
        }
    }
    if misfits.is_empty() { Ok(woven) } else { Err(misfits) }
}

/// One file's text with these mistakes, each by its name.
fn weave(text: &str, edits: &[(&str, &Edit)]) -> Result<String, Vec<String>> {
    let mut misfits = Vec::new();
    let mut places: BTreeMap<(usize, usize), Vec<(&str, &str)>> = BTreeMap::new();
    for (name, edit) in edits {
        match place(text, edit) {
            Ok(at) => places.entry((at.start, at.end)).or_default().push((name, &edit.wrong)),
            Err(why) => misfits.push(format!("{name}: {}: {why}", edit.file)),
        }
    }
    let mut woven = String::new();
    let mut end_before = 0;
    for ((start, end), mistakes) in places {
        if start < end_before {
            let (name, _) = mistakes[0];
            misfits.push(format!("{name}: '{}' overlaps what another replaces", &text[start..end]));
            continue;
        }
        woven += &text[end_before..start];
        woven += &question(&text[start..end], &mistakes);
        end_before = end;
    }
    woven += &text[end_before..];
    if misfits.is_empty() { Ok(woven) } else { Err(misfits) }
}

/// What is right, unless one of the mistakes is planted that could stand in its place.
fn question(right: &str, mistakes: &[(&str, &str)]) -> String {
    let mut asked = String::new();
    for (name, wrong) in mistakes {
        // In one line, so that the lines keep their numbers.
        let wrong = wrong.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        asked += "if crate::mutant::on(crate::mutant::Mutant::";
        asked += &format!("{name}) {{ {wrong} }} else ");
    }
    asked += &format!("{{ {right} }}");
    // A statement stands for itself, an expression may be a part of another.
    if right.ends_with([';', '}']) { asked } else { format!("({asked})") }
}

/// What the edit replaces.
fn place(text: &str, edit: &Edit) -> Result<Range<usize>, String> {
    let whole = |at: &Range<usize>| {
        let before = text[..at.start].rsplit('\n').next().unwrap_or_default();
        before.trim().is_empty() && matches!(text[at.end..].chars().next(), None | Some('\n'))
    };
    let lines = once(text, &edit.line, whole)?;
    let Some(right) = &edit.right else { return Ok(lines) };
    let part = once(&text[lines.clone()], right, |_| true)?;
    Ok(lines.start + part.start..lines.start + part.end)
}

/// The one place at which `text` has `wanted`.
fn once(
    text: &str,
    wanted: &str,
    counts: impl Fn(&Range<usize>) -> bool,
) -> Result<Range<usize>, String> {
    let rows: Vec<&str> = wanted.trim().lines().map(str::trim).collect();
    let begins = text.match_indices(rows[0]).map(|(at, _)| at);
    let found: Vec<Range<usize>> =
        begins.filter_map(|at| Some(at..end(text, at, &rows)?)).filter(|at| counts(at)).collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => Err(format!("found {} times, not once:\n    {}", found.len(), rows.join("\n    "))),
    }
}

/// Where `rows` end, if they begin at `at`.
fn end(text: &str, at: usize, rows: &[&str]) -> Option<usize> {
    let mut rest = text[at..].strip_prefix(*rows.first()?)?;
    for row in &rows[1..] {
        rest = rest.strip_prefix('\n')?.trim_start_matches(' ').strip_prefix(row)?;
    }
    Some(text.len() - rest.len())
}

#[cfg(test)]
#[path = "weave_tests.rs"]
mod tests;
