//! A Prometheus of the test's own: the real program, on loopback, with its data in a folder that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{client, free_ports};

/// How long a condition, and then its alert, may be awaited. Every wait of this test is for less than a minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often nodes are scraped and rules looked at. A scrape that takes as long has failed.
const INTERVAL: &str = "1s";
/// How often an answer is asked for again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Labels, by name.
pub(super) type Labels = BTreeMap<String, String>;

pub(super) struct Prometheus {
    dir: TempDir,
    child: Child,
    url: String,
    http: reqwest::Client,
}

/// The program, if it is in the PATH. CI has it (ci/prometheus); elsewhere one may do without.
pub(super) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|dir| dir.join("prometheus"));
    let found = files.find(|file| file.is_file());
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(found.is_some() || !ci, "prometheus is not in the PATH; see ci/prometheus");
    found
}

impl Prometheus {
    /// Starts it, and waits until each target was scraped and each rule looked at.
    pub(super) async fn start(program: &Path, rules: &str, targets: &[String]) -> Prometheus {
        let dir = TempDir::new().unwrap();
        let port = free_ports(1)[0].1;
        let targets = targets.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>();
        let config = format!(
            "global:\n  scrape_interval: {INTERVAL}\n  scrape_timeout: {INTERVAL}\n  evaluation_interval: {INTERVAL}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs:\n  - job_name: konsen\n    static_configs:\n      - targets: [{}]\n",
            targets.join(", ")
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        fs::write(dir.path().join("alerts.yml"), rules).unwrap();
        let log = fs::File::create(dir.path().join("log.txt")).unwrap();
        let child = Command::new(program)
            .env_clear()
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let prometheus = Prometheus { dir, child, url, http: client() };
        prometheus.wait_until_it_looks(targets.len()).await;
        prometheus
    }

    async fn wait_until_it_looks(&self, targets: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let up = self.query("sum(up)").await.unwrap_or_default();
            let scraped = up.first().is_some_and(|(_, value)| *value >= targets as f64);
            if scraped && self.rules_are_looked_at().await {
                return;
            }
            assert!(Instant::now() < deadline, "{up:?} of {targets}\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn rules_are_looked_at(&self) -> bool {
        let Ok(data) = self.get("rules", &[]).await else { return false };
        let rules = data["groups"].as_array().into_iter().flatten();
        let mut rules = rules.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.all(|rule| rule["health"] == "ok")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log.txt")).unwrap_or_default()
    }

    /// Asks its API; the `data` of the answer.
    async fn get(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let pairs = query.iter().map(|(name, value)| {
            let encode = percent_encoding::utf8_percent_encode;
            let all = percent_encoding::NON_ALPHANUMERIC;
            format!("{}={}", encode(name, all), encode(value, all))
        });
        let url = format!("{}/api/v1/{what}?{}", self.url, pairs.collect::<Vec<_>>().join("&"));
        let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"].take())
    }

    /// What an expression comes to now.
    pub(super) async fn query(&self, expression: &str) -> Result<Vec<(Labels, f64)>, String> {
        let data = self.get("query", &[("query", expression)]).await?;
        let samples = data["result"].as_array().ok_or("no vector")?;
        let sample = |sample: &Value| {
            let labels = serde_json::from_value(sample["metric"].clone()).ok()?;
            Some((labels, sample["value"][1].as_str()?.parse().ok()?))
        };
        samples.iter().map(|one| sample(one).ok_or_else(|| one.to_string())).collect()
    }

    /// The values of a label of the series that a selector names.
    pub(super) async fn label(&self, label: &str, selector: &str) -> Result<Vec<String>, String> {
        let data = self.get(&format!("label/{label}/values"), &[("match[]", selector)]).await?;
        serde_json::from_value(data).map_err(|error| error.to_string())
    }

    /// What fires now, each alert with its labels.
    pub(super) async fn firing(&self) -> Vec<Labels> {
        let data = self.get("alerts", &[]).await.unwrap();
        let alerts = data["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| {
                let said = alert["annotations"].to_string();
                assert!(!said.contains("error expanding"), "{said}");
                serde_json::from_value(alert["labels"].clone()).unwrap()
            })
            .collect()
    }

    /// Whether this alert fires, with these labels among others.
    pub(super) async fn fires(&self, alert: &str, labels: &[(&str, &str)]) -> bool {
        let wanted = |one: &Labels| {
            let has = |name: &str, value: &str| one.get(name).is_some_and(|is| is == value);
            has("alertname", alert) && labels.iter().all(|(name, value)| has(name, value))
        };
        self.firing().await.iter().any(wanted)
    }

    /// Waits until this alert fires, with these labels among others.
    pub(super) async fn wait_firing(&self, alert: &str, labels: &[(&str, &str)]) {
        let deadline = Instant::now() + PATIENCE;
        while !self.fires(alert, labels).await {
            assert!(
                Instant::now() < deadline,
                "{alert} does not fire with {labels:?}; what does: {:#?}\n{}",
                self.firing().await,
                self.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
