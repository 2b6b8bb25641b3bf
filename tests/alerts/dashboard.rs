//! conf/dashboard.json: whether Grafana can lay it out, and whether Prometheus answers what it asks.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::prometheus::Prometheus;

/// What a range of the dashboard's is where nodes are scraped every 15 s, in the time of this test.
const RATE_INTERVAL: &str = "10s";
/// The columns of a dashboard.
const COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(include_str!("../../conf/dashboard.json")).unwrap()
}

/// All but the rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// The expressions with the names of their panels.
fn expressions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().iter();
        targets
            .map(|target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    panels(&dashboard).flat_map(of).collect()
}

/// As Grafana fills it in, with all nodes chosen.
fn filled_in(expression: &str) -> String {
    let filled = expression
        .replace("$__rate_interval", RATE_INTERVAL)
        .replace("$job", ".+")
        .replace("$instance", ".+");
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// Asks Prometheus for all that the dashboard shows. Nothing may be without a series: counters are there from the start.
pub(super) async fn check(prometheus: &Prometheus) {
    let expressions = expressions();
    assert!(expressions.len() >= 40, "{}", expressions.len());
    for (title, expression) in expressions {
        let answer = prometheus.query(&filled_in(&expression)).await;
        let series = answer.unwrap_or_else(|error| panic!("{title}: {expression}: {error}"));
        assert!(!series.is_empty(), "{title} shows nothing: {expression}");
    }
    for variable in dashboard()["templating"]["list"].as_array().unwrap() {
        if variable["type"] != "query" {
            continue;
        }
        let query = variable["query"]["query"].as_str().unwrap();
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.unwrap().rsplit_once(", ").unwrap();
        let values = prometheus.label(label, &filled_in(selector)).await.unwrap();
        assert!(!values.is_empty(), "{query}");
    }
}

#[test]
fn panels_lie_beside_each_other_and_ask_the_chosen_source() {
    let dashboard = dashboard();
    let (mut taken, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for (x, y) in (at("x")..at("x") + at("w"))
            .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(x < COLUMNS && taken.insert((x, y)), "{title} at {x}, {y}");
        }
    }
    // No hole, either.
    let rows = taken.iter().map(|(_, y)| y + 1).max().unwrap();
    assert_eq!(taken.len() as u64, rows * COLUMNS);
    for panel in panels(&dashboard) {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
    }
    let names = dashboard["templating"]["list"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    for (title, expression) in expressions() {
        let selectors = expression.matches("instance=~\"$instance\"").count();
        let metrics = expression.matches("konsen_").count();
        assert!(selectors >= metrics.max(1), "{title} shows nodes that were not chosen");
    }
}
