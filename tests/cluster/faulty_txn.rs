//! Transactions of the server that faults.

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use crate::faulty_server::{CHANGES_AGO, Cell, Fault, State, Store};

impl Store {
    /// `POST /v1/txn`, of the compares and operations that `konsen check` asks for.
    pub(crate) fn txn(&self, request: &[u8]) -> Response<Body> {
        let request: Value = serde_json::from_slice(request).unwrap();
        let list = |name: &str| request[name].as_array().cloned().unwrap_or_default();
        let mut states = self.states.lock();
        let before = states.last().unwrap().clone();
        let mut holds = list("if").iter().all(|compare| before.holds(compare));
        if !holds && self.faults(Fault::Compare) {
            holds = true;
        }
        let branch = list(if holds { "then" } else { "else" });
        let past = states.len().checked_sub(CHANGES_AGO).map(|at| states[at].clone());
        let past = past.filter(|_| self.faults(Fault::Within));
        let own = before.revision + 1;
        let (mut state, mut changed, mut results) = (before, false, Vec::new());
        for op in &branch {
            let (name, about) = op.as_object().unwrap().iter().next().unwrap();
            results.push(match name.as_str() {
                "put" => {
                    let key = about["key"].as_str().unwrap();
                    changed = true;
                    state.set(key, own, about["value"].as_str());
                    json!({"put": {"revision": own}})
                }
                "delete" => {
                    let deleted = state.set(about["key"].as_str().unwrap(), own, None);
                    changed |= deleted;
                    json!({"delete": {"deleted": u64::from(deleted)}})
                }
                _ => {
                    let state = past.as_ref().unwrap_or(&state);
                    let items: Vec<Value> = state.items(|key| is_about(about, key)).collect();
                    json!({"get": {"items": items}})
                }
            });
        }
        let last = branch.iter().rev().find_map(|op| op["put"]["key"].as_str());
        if let Some(key) = last
            && self.faults(Fault::Torn)
        {
            state.cells.remove(key);
        }
        if changed {
            state.revision = own;
        }
        let answer = json!({"succeeded": holds, "revision": state.revision, "results": results});
        states.push(state);
        Response::new(answer.to_string().into())
    }
}

/// Whether a compare or an operation is about the key.
fn is_about(about: &Value, key: &str) -> bool {
    match about["key"].as_str() {
        Some(one) => one == key,
        None => (about["start"].as_str()..about["end"].as_str()).contains(&Some(key)),
    }
}

impl State {
    /// Sets or deletes a key; whether it existed.
    pub(crate) fn set(&mut self, key: &str, revision: u64, value: Option<&str>) -> bool {
        let existed = self.cells.remove(key).is_some();
        if let Some(value) = value {
            let value = value.to_owned().into();
            self.cells.insert(key.to_owned(), Cell { value, revision });
        }
        if existed || value.is_some() {
            self.changed.insert(key.to_owned(), revision);
        }
        existed
    }

    /// The JSON of these keys.
    pub(crate) fn items(&self, asked: impl Fn(&str) -> bool) -> impl Iterator<Item = Value> {
        let cells = self.cells.iter().filter(move |(key, _)| asked(key));
        cells.map(|(key, cell)| {
            json!({
                "key": key, "value": String::from_utf8_lossy(&cell.value),
                "create_revision": 1, "mod_revision": cell.revision, "version": 1,
            })
        })
    }

    fn holds(&self, compare: &Value) -> bool {
        let cell = compare["key"].as_str().and_then(|key| self.cells.get(key));
        let to = &compare["to"];
        match compare["compare"].as_str().unwrap() {
            "mod_revision" => cell.map_or(0, |cell| cell.revision) == to.as_u64().unwrap(),
            "exists" => cell.is_some() == to.as_bool().unwrap(),
            "unchanged_since" => {
                let mut changed = self.changed.iter().filter(|(key, _)| is_about(compare, key));
                changed.all(|(_, at)| *at <= to.as_u64().unwrap())
            }
            other => panic!("{other}"),
        }
    }
}
