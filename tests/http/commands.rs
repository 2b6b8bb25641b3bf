//! `konsen put|get|delete|list|status` and their exit codes.

use std::io::{Read, Write};
use std::process::{Output, Stdio};

use crate::harness::{Cluster, free_ports, konsen};
use crate::raw::Server;

struct Shell {
    endpoints: String,
}

impl Shell {
    fn of(server: &Server) -> Shell {
        Shell { endpoints: format!("http://127.0.0.1:{}", server.port) }
    }

    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = konsen()
            .env("KONSEN_ENDPOINTS", &self.endpoints)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read it may have ended.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    /// What a command that succeeds prints.
    fn out(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, b"");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code of a command that fails, after checking that it says why in one line.
    fn fails(&self, arguments: &[&str]) -> i32 {
        let output = self.run(arguments, b"");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
        output.status.code().unwrap()
    }
}

#[tokio::test]
async fn data_goes_in_and_comes_out() {
    let server = Server::start().await;
    let shell = Shell::of(&server);
    assert!(shell.out(&["put", "greeting", "hello"]).starts_with("created, revision "));
    assert!(shell.out(&["put", "greeting", "hello"]).starts_with("replaced, revision "));
    assert_eq!(shell.out(&["get", "greeting"]), "hello");
    let put = shell.run(&["put", "bytes", "-o", "json", "--content-type", "a/b"], b"\0\xff");
    assert!(put.stdout.starts_with(b"{\"revision\":") && put.status.success(), "{put:?}");
    assert_eq!(shell.run(&["get", "bytes"], b"").stdout, b"\0\xff");
    assert!(shell.run(&["put", "dash", "-"], b"from stdin").status.success());
    assert_eq!(shell.out(&["get", "dash"]), "from stdin");
    let json = shell.out(&["get", "bytes", "-o", "json"]);
    assert!(json.contains(r#""value_base64":"AP8=""#) && json.contains(r#""content_type":"a/b""#));
    assert!(shell.out(&["get", "bytes", "-o", "table"]).contains("\\x00\\xff"));

    assert_eq!(shell.out(&["list", "-o", "raw", "--prefix", "d"]), "dash\tfrom stdin\n");
    let keys = ["list", "--keys-only", "-o", "raw", "--order", "desc", "--limit", "2"];
    assert_eq!(shell.out(&keys), "greeting\ndash\n");
    let table = shell.out(&["list"]);
    assert_eq!(table.lines().count(), 4);
    assert!(table.starts_with("KEY "), "{table}");
    assert_eq!(shell.out(&["list", "-o", "json"]).lines().count(), 3);

    let compacted = shell.out(&["compact", "2"]);
    assert_eq!(compacted, "compacted, revision 2\n");
    assert_eq!(shell.out(&["compact", "3", "-o", "json"]), "{\"revision\":3}\n");
    assert!(shell.out(&["delete", "greeting"]).starts_with("deleted 1, revision "));
    assert_eq!(shell.out(&["delete", "--prefix", "d", "-o", "raw"]), "1\n");
    assert_eq!(shell.out(&["list", "--keys-only", "-o", "raw"]), "bytes\n");
}

#[tokio::test]
async fn ranges_are_deleted_and_the_past_is_read() {
    let server = Server::start_with("limits: {deleteKeys: 3}\n").await;
    let shell = Shell::of(&server);
    for key in ["a", "b", "c", "d", "e", "f"] {
        shell.out(&["put", key, "1"]);
    }
    assert_eq!(shell.out(&["put", "a", "2", "-o", "json"]), "{\"revision\":8,\"created\":false}\n");
    assert_eq!(shell.out(&["get", "a", "--revision", "7"]), "1");
    assert_eq!(shell.out(&["get", "a"]), "2");
    assert_eq!(shell.fails(&["get", "a", "--revision", "99"]), 1);
    assert_eq!(shell.fails(&["get", "b", "--revision", "2"]), 3);
    assert_eq!(shell.out(&["delete", "--start", "b", "--end", "d", "-o", "raw"]), "2\n");
    assert_eq!(shell.fails(&["delete", "--start", "a"]), 1, "they are too many for one revision");
    let steps = ["delete", "--start", "a", "--steps"];
    assert_eq!(shell.out(&steps), "deleted 4, revision 11\n");
    assert_eq!(shell.out(&steps), "deleted 0, revision 11\n");
    for wrong in [
        &["delete"][..],
        &["delete", "--steps"],
        &["delete", "a", "--start", "a"],
        &["delete", "a", "--steps"],
        &["delete", "--prefix", "a", "--if-match", "1"],
        &["get", "a", "--revision", "0"],
    ] {
        assert_eq!(shell.fails(wrong), 2, "{wrong:?}");
    }
    // What the table shows is in the JSON, too.
    let members: serde_json::Value =
        serde_json::from_str(&shell.out(&["member", "list", "-o", "json"])).unwrap();
    let own = &members["members"][0];
    assert_eq!((&own["role"], &own["reachable"]), (&"leader".into(), &true.into()), "{members}");
    assert_eq!((&own["voter"], &own["features"]), (&true.into(), &members["features"]["level"]));
}

#[tokio::test]
async fn transactions_are_written_as_people_read_them() {
    let server = Server::start().await;
    let shell = Shell::of(&server);
    shell.out(&["put", "tmp/1", "x"]);
    let text = b"if mod_revision(lock) == 0\nthen\n  put lock \"me \\xff\"\n  delete prefix tmp/ previous\n  get prefix \"\"\nelse\n  get lock\n";
    let run = |arguments: &[&str], text: &[u8]| {
        let output = shell.run(arguments, text);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), out, String::from_utf8(output.stderr).unwrap())
    };
    let (code, out, err) = run(&["txn"], text);
    let expected = "succeeded, revision 3\n1: put\n2: deleted 1; before:\n   tmp/1  revision 2  version 1  x\n3: got 1 key\n   \
                    lock  revision 3  version 1  me \\xff\n";
    assert_eq!((code, &*out, &*err), (0, expected, ""));
    let (code, out, err) = run(&["txn", "-"], text);
    let expected = "the compares do not hold, revision 3\n1: got 1 key\n   lock  revision 3  version 1  me \\xff\n";
    assert_eq!((code, &*out), (4, expected));
    assert_eq!(
        err,
        "error: the compares do not hold, and `else` was carried out, if there is one, revision 3\n"
    );
    let (code, out, _) =
        run(&["txn", "-o", "raw"], b"get lock\ntxn\nget prefix lock keys_only\nend");
    assert_eq!((code, &*out), (0, "lock\tme \u{fffd}\nlock\n"));
    // JSON goes as it is.
    let json = br#"  {"then":[{"put":{"key":"n","value":"1","previous":true}}]}"#;
    let (code, out, _) = run(&["txn", "-o", "json"], json);
    let expected = "{\"succeeded\":true,\"revision\":4,\"results\":[{\"put\":{\"revision\":4}}]}\n";
    assert_eq!((code, &*out), (0, expected));
    for (text, code, what) in [
        (&br#"{"then":[{"put":{"key":"n"}}]}"#[..], 1, "then[0].put: it needs a value"),
        (b"{\"then\":[}", 2, "this is no JSON: expected value at line 1 column 10"),
        (b"if version(a) == 99999999999999999999", 2, "larger than 18446744073709551615"),
        (b"put a 1\nput a 2", 1, "then[1]: puts the key \"a\", which then[0] puts, too"),
        (b"put absent keep_value", 1, "the key \"absent\" did not exist"),
        (b"delete prefix \"\"", 1, "not empty"),
    ] {
        let (found, out, err) = run(&["txn"], text);
        assert_eq!((found, &*out), (code, ""), "{err}");
        assert!(err.starts_with("error: ") && err.contains(what), "{err}");
    }
    assert_eq!(run(&["txn"], b"get n").0, 0);
    let dead = Shell { endpoints: format!("http://127.0.0.1:{}", free_ports(1)[0].1) };
    assert_eq!(dead.run(&["txn"], b"get n").status.code(), Some(5));
}

/// A node ends pages early where much is deleted; `konsen list` goes on.
#[tokio::test]
async fn pages_without_items_end_no_listing() {
    let server = Server::start_with("limits:\n  listRows: 3\n").await;
    let shell = Shell::of(&server);
    for number in 0..10 {
        shell.out(&["put", &format!("k{number}"), "v"]);
    }
    assert_eq!(shell.out(&["delete", "--prefix", "k", "-o", "raw"]), "10\n");
    shell.out(&["put", "k9", "v"]);
    shell.out(&["put", "l", "v"]);
    assert_eq!(shell.out(&["list", "-o", "raw", "--keys-only"]), "k9\nl\n");
    let down = ["list", "-o", "raw", "--keys-only", "--order", "desc", "--prefix", "k"];
    assert_eq!(shell.out(&down), "k9\n");
    assert_eq!(shell.out(&["list", "-o", "raw", "--limit", "1"]), "k9\tv\n");
    // The heading is there once, and as wide as what is below it.
    let table = shell.out(&["list", "--keys-only"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert_eq!(shell.out(&["list", "--end", "k9"]).lines().count(), 1);
    assert_eq!(shell.out(&["list", "--end", "k9", "-o", "json"]), "");
}

#[tokio::test]
async fn exit_codes_say_what_went_wrong() {
    let server = Server::start().await;
    let shell = Shell::of(&server);
    shell.out(&["put", "k", "v"]);
    assert_eq!(shell.fails(&["get", "absent"]), 3);
    assert_eq!(shell.fails(&["delete", "absent"]), 3);
    assert_eq!(shell.fails(&["put", "k", "w", "--if-absent"]), 4);
    assert_eq!(shell.fails(&["put", "k", "w", "--if-none-match", "*"]), 4);
    assert_eq!(shell.fails(&["put", "k", "w", "--if-match", "999"]), 4);
    assert_eq!(shell.fails(&["delete", "k", "--if-match", "999"]), 4);
    assert_eq!(shell.fails(&["put", "", "v"]), 2);
    assert_eq!(shell.fails(&["get"]), 2);
    let unplaced = shell.run(&["snapshot", "save", "/nonexist/x"], b"");
    let said = String::from_utf8(unplaced.stderr).unwrap();
    assert_eq!(unplaced.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: cannot create /nonexist/x: "), "{said}");
    assert_eq!(shell.fails(&["list", "--revision", "100000"]), 1);
    assert_eq!(shell.fails(&["get", "k", "--cacert", "/nowhere"]), 7);
    assert_eq!(shell.fails(&["get", "k", "--endpoints", "ftp://x"]), 2);
    let dead = Shell { endpoints: format!("http://127.0.0.1:{}", free_ports(1)[0].1) };
    assert_eq!(dead.fails(&["put", "k", "v"]), 5);
    assert_eq!(dead.fails(&["status"]), 5);
    // The next endpoint is tried when one is down.
    let both = Shell { endpoints: format!("{},{}", dead.endpoints, shell.endpoints) };
    assert_eq!(both.out(&["get", "k"]), "v");
    for command in ["put", "get", "delete", "list", "txn", "status", "compact"] {
        let help = shell.out(&[command, "--help"]);
        assert!(help.contains(&format!("konsen {command}")) && help.contains("Example"), "{help}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_listing_without_a_word() {
    let server = Server::start().await;
    let shell = Shell::of(&server);
    let form: Vec<String> = (0..3000).map(|number| format!("k{number:0500}=x")).collect();
    let content_type = ["Content-Type: application/x-www-form-urlencoded"];
    for part in form.chunks(1000) {
        let filled = server.send_body("POST /konsen", &content_type, part.join("&"));
        assert_eq!(filled.status, 200, "{filled:?}");
    }
    for format in ["raw", "json", "table"] {
        let mut child = konsen()
            .env("KONSEN_ENDPOINTS", &shell.endpoints)
            .args(["list", "-o", format])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[tokio::test]
async fn status_shows_endpoints_and_members() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    cluster.nodes[(leader + 1) % 3].kill();
    let endpoints: Vec<String> = (0..3).map(|node| cluster.url(node, "")).collect();
    let shell = Shell { endpoints: endpoints.join(",") };
    let table = shell.out(&["status"]);
    assert!(table.contains("unreachable"), "{table}");
    assert!(table.contains("leader") && table.contains("MEMBER"), "{table}");
    for node in &cluster.nodes {
        assert!(table.contains(&node.name), "{table}");
    }
    assert_eq!(shell.out(&["status", "-o", "raw"]), format!("node{}\n", leader + 1));
    let json: serde_json::Value =
        serde_json::from_str(&shell.out(&["status", "-o", "json"])).unwrap();
    assert_eq!(json["endpoints"].as_array().unwrap().len(), 3);
    assert_eq!(json["cluster"]["members"].as_array().unwrap().len(), 3);
}
