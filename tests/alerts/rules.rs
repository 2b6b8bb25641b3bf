//! The rules of conf/alerts.yml in a sixtieth of their time.

/// Makes an hour a minute, a minute a second, and a second a sixtieth of one: in each `for`, and in each range (`[15m]`).
/// Nothing else changes, no threshold either.
pub(super) fn shortened(rules: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, duration)) if indent.trim().is_empty() => {
            format!("{indent}for: {}", sixtieth(duration))
        }
        _ if line.trim_start().starts_with("expr: ") => ranges(line),
        _ => line.to_owned(),
    };
    rules.lines().map(|one| line(one) + "\n").collect()
}

fn ranges(expression: &str) -> String {
    let mut parts = expression.split('[');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (duration, rest) = part.split_once(']').expect("a range ends");
        all += &format!("[{}]{rest}", sixtieth(duration));
    }
    all
}

fn sixtieth(duration: &str) -> String {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{duration}"));
    match unit {
        "h" => format!("{number}m"),
        "m" => format!("{number}s"),
        "s" => format!("{}ms", (number * 1000).div_ceil(60)),
        _ => panic!("{duration}"),
    }
}

/// The names of the alerts.
pub(super) fn names(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn only_durations_are_shortened() {
    let rules = "- alert: A [6h]\n  expr: rate(a[6h]) > 30 * 86400 and b[5m] > 60\n  for: 15s\n  labels: {for: 1m}\n";
    let short = "- alert: A [6h]\n  expr: rate(a[6m]) > 30 * 86400 and b[5s] > 60\n  for: 250ms\n  labels: {for: 1m}\n";
    assert_eq!(shortened(rules), short);
    let rules = include_str!("../../conf/alerts.yml");
    let (before, after) = (rules.lines(), shortened(rules));
    let changed = before.zip(after.lines()).filter(|(before, after)| before != after);
    let timed = |line: &&str| line.trim().starts_with("for:") || line.contains('[');
    assert_eq!(changed.clone().count(), rules.lines().filter(timed).count());
    for (before, after) in changed {
        let word = |line: &str| line.trim().split(' ').next().map(str::to_owned);
        assert!(["for:", "expr:"].contains(&word(before).unwrap().as_str()), "{before}");
        assert_eq!(word(before), word(after));
    }
}
