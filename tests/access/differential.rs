//! Random rights and random requests of every kind, at every node, against a model: what is allowed is carried out, and what is
//! not answers 403 and changes nothing.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::Guarded;
use crate::model::{Model, RIGHTS, Span, word};

const ADMIN: [&str; 6] = ["members", "leader", "backup", "compact", "auth", "audit"];

/// A request, and whether it is allowed.
struct Case {
    request: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    allowed: bool,
}

fn case(request: String, body: String, allowed: bool) -> Case {
    Case { request, headers: Vec::new(), body, allowed }
}

/// A role of up to three grants, as JSON and for the model.
fn draw_role(chance: &mut StdRng) -> (Value, Model) {
    let mut model = Model::default();
    for _ in 0..chance.random_range(0..4) {
        let may: BTreeSet<&str> = RIGHTS.into_iter().filter(|_| chance.random_bool(0.6)).collect();
        if !may.is_empty() {
            model.grants.push((Span::draw(chance), may));
        }
    }
    model.admin = ADMIN.into_iter().filter(|_| chance.random_bool(0.2)).collect();
    let grant = |(span, may): &(Span, BTreeSet<&str>)| {
        let mut json = span.json();
        json["may"] = json!(may);
        json
    };
    let rights: Vec<Value> = model.grants.iter().map(grant).collect();
    (json!({"rights": rights, "admin": model.admin}), model)
}

/// A list of operations up to so deep, and whether they are allowed.
fn draw_ops(chance: &mut StdRng, model: &Model, depth: usize) -> (Vec<Value>, bool) {
    let (mut ops, mut allowed) = (Vec::new(), true);
    // A branch changes no key twice.
    let mut changes = true;
    for _ in 0..chance.random_range(0..3) {
        let span = Span::draw(chance);
        let mut named = span.json();
        let previous = chance.random_bool(0.3);
        let kind = chance.random_range(0..4);
        let op = match kind {
            0 if changes => {
                let key = Span::Key(word(chance, 1));
                allowed &= model.may("write", &key) && (!previous || model.may("read", &key));
                let mut put = key.json();
                (put["value"], put["previous"]) = (json!("v"), json!(previous));
                json!({"put": put})
            }
            1 if changes && !matches!(&span, Span::Prefix(all) if all.is_empty()) => {
                allowed &= model.may("write", &span) && (!previous || model.may("read", &span));
                named["previous"] = json!(previous);
                json!({"delete": named})
            }
            2 if depth > 0 && changes => {
                let (txn, inner) = draw_txn(chance, model, depth - 1);
                allowed &= inner;
                json!({"txn": txn})
            }
            _ => {
                allowed &= model.may("read", &span);
                ops.push(json!({"get": named}));
                continue;
            }
        };
        changes = false;
        ops.push(op);
    }
    (ops, allowed)
}

fn draw_txn(chance: &mut StdRng, model: &Model, depth: usize) -> (Value, bool) {
    let (then, one) = draw_ops(chance, model, depth);
    let (otherwise, other) = draw_ops(chance, model, depth);
    let mut allowed = one && other;
    let mut compares = Vec::new();
    for _ in 0..chance.random_range(0..2) {
        let span = Span::draw(chance);
        allowed &= model.may("read", &span);
        let mut compare = span.json();
        (compare["compare"], compare["to"]) = (json!("exists"), json!(true));
        compares.push(compare);
    }
    (json!({"if": compares, "then": then, "else": otherwise}), allowed)
}

fn draw_case(chance: &mut StdRng, model: &Model) -> Case {
    let key = word(chance, 1);
    let span = Span::draw(chance);
    let one = Span::Key(key.clone());
    let may = |right, span: &Span| model.may(right, span);
    let none = String::new;
    match chance.random_range(0..16) {
        0 => case(format!("PUT /v1/kv/{key}"), "v".to_owned(), may("write", &one)),
        1 => Case {
            headers: vec![("if-none-match", "*")],
            ..case(
                format!("PUT /v1/kv/{key}"),
                "v".to_owned(),
                may("write", &one) && may("read", &one),
            )
        },
        2 => {
            let how = ["", "?consistency=stale", "?revision=2", "?min_revision=1"];
            let how = how[chance.random_range(0..how.len())];
            case(format!("GET /v1/kv/{key}{how}"), none(), may("read", &one))
        }
        3 => case(format!("HEAD /v1/kv/{key}"), none(), may("read", &one)),
        4 => case(format!("DELETE /v1/kv/{key}"), none(), may("write", &one)),
        5 => {
            let wait = format!("GET /v1/kv/{key}?wait=1ms");
            case(wait, none(), may("read", &one) && may("watch", &one))
        }
        6 => case(format!("GET /v1/kv?{}", span.query()), none(), may("read", &span)),
        7 => Case {
            headers: vec![("accept", "application/x-ndjson")],
            ..case(
                format!("GET /v1/kv?keys_only=true&{}", span.query()),
                none(),
                may("read", &span),
            )
        },
        8 => {
            // What names no range is malformed, whoever asks.
            let span =
                if matches!(&span, Span::Prefix(all) if all.is_empty()) { one } else { span };
            let steps = if chance.random_bool(0.5) { "&atomic=false" } else { "" };
            case(format!("DELETE /v1/kv?{}{steps}", span.query()), none(), may("write", &span))
        }
        9 | 10 => {
            let (txn, allowed) = draw_txn(chance, model, 2);
            case("POST /v1/txn".to_owned(), txn.to_string(), allowed)
        }
        11 => case(format!("GET /konsen?key={key}"), none(), may("read", &one)),
        12 => {
            let json = json!({"key": key, "value": "v"}).to_string();
            case("POST /api/kv".to_owned(), json, may("write", &one))
        }
        13 => {
            let prefix = Span::Prefix(word(chance, 0));
            let query = prefix.query();
            case(format!("GET /api/keys?{query}"), none(), may("read", &prefix))
        }
        14 => {
            let other = Span::Key(word(chance, 1));
            let both = may("write", &one) && may("write", &other);
            let Span::Key(second) = &other else { unreachable!() };
            Case {
                headers: vec![("content-type", "application/x-www-form-urlencoded")],
                ..case("POST /konsen".to_owned(), format!("{key}=v&{second}=v"), both)
            }
        }
        _ => {
            let admin = |what| model.admin.contains(what);
            match chance.random_range(0..4) {
                0 => case("GET /v1/cluster".to_owned(), none(), admin("members")),
                1 => case("GET /v1/snapshot".to_owned(), none(), admin("backup")),
                2 => case(
                    "POST /v1/compact".to_owned(),
                    json!({"revision": 1}).to_string(),
                    admin("compact"),
                ),
                _ => case("GET /v1/auth/tokens".to_owned(), none(), admin("auth")),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_is_what_the_model_allows() {
    let guarded = Guarded::start(3).await;
    let mut chance = StdRng::seed_from_u64(18);
    let (mut allowed, mut refused) = (0, 0);
    for round in 0..60 {
        let name = format!("user-{}", round % 4);
        // Rights in two roles of one user.
        let (first, mut model) = draw_role(&mut chance);
        let (second, more) = draw_role(&mut chance);
        model.grants.extend(more.grants);
        model.admin.extend(more.admin);
        let token = guarded.user(&name, &first).await;
        guarded.admin(&format!("PUT /v1/auth/roles/{name}-more"), &second).await;
        let roles = json!({"roles": [name, format!("{name}-more")]});
        guarded.admin(&format!("PUT /v1/auth/users/{name}"), &roles).await;
        guarded.settle().await;
        for _ in 0..40 {
            let case = draw_case(&mut chance, &model);
            let node = chance.random_range(0..3);
            let mut asked = guarded.ask(node, &token, &case.request).body(case.body.clone());
            for (name, value) in &case.headers {
                asked = asked.header(*name, *value);
            }
            let before = everything(&guarded).await;
            let answer = asked.send().await.unwrap();
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap_or_default();
            let told = format!("{} {} of {model:?}: {status} {text}", case.request, case.body);
            assert!(status < 500 && status != 401 && status != 400, "{told}");
            assert_eq!(status != 403, case.allowed, "{told}");
            if !case.allowed {
                assert_eq!(everything(&guarded).await, before, "{told}");
            }
            (allowed, refused) =
                if case.allowed { (allowed + 1, refused) } else { (allowed, refused + 1) };
            // What it may, by its own question.
            if let (true, Some(key)) = (case.allowed, case.request.strip_prefix("PUT /v1/kv/")) {
                let can = json!({"may": "write", "key": key}).to_string();
                let (_, text) = guarded.send(node, &token, "POST /v1/auth/can", can).await;
                assert_eq!(text, r#"{"allowed":true}"#);
            }
        }
    }
    assert!(allowed > 300 && refused > 300, "{allowed} were allowed and {refused} refused");
}

/// The store's revision.
async fn everything(guarded: &Guarded) -> String {
    let (status, text) = guarded.send(0, &guarded.admin, "GET /v1/kv?limit=1000", "").await;
    assert_eq!(status, 200);
    text
}
