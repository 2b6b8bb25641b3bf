//! `konsen bench` where it needs no cluster.

use tempfile::TempDir;

use crate::konsen;

#[test]
fn what_makes_no_sense_is_usage_and_asks_nobody() {
    let dir = TempDir::new().unwrap();
    for (arguments, said) in [
        (&["get", "--reads", "50"][..], "--reads is for the load mixed alone"),
        (&["put", "--value", "2MiB", "--connections", "1024"], "takes more than 1.0 GiB of memory"),
        (&["list", "--range", "20", "--keys", "10"], "asks for more than the --keys 10"),
        (&["put", "--prefix", "a b"], "--prefix \"a b\" cannot be used"),
        (&["put", "--rate", "many"], "invalid value 'many'"),
        (&["put", "--duration", "30"], "write it as 500ms, 2s or 1m"),
        (&["put", "--warmup", "2h"], "it is from 0s to 1h"),
        (&["put", "--endpoints", "ftp://h:1"], "is not an endpoint"),
        (&["put", "--cert", "a"], "needs its private key (--key)"),
    ] {
        let words = [&["bench"], arguments].concat();
        konsen(dir.path(), &words).failed(2, said);
    }
    konsen(dir.path(), &["bench", "put", "--cacert", "/nowhere"]).failed(7, "/nowhere");
}
