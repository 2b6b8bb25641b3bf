//! Backups through pipes, devices and symbolic links.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{Cluster, konsen};

fn snapshot(cluster: &Cluster, arguments: &[&str], stdin: impl Into<Stdio>) -> Output {
    konsen()
        .current_dir(cluster.dir.path())
        .arg("snapshot")
        .args(arguments)
        .stdin(stdin)
        .output()
        .unwrap()
}

fn save(cluster: &Cluster, arguments: &[&str]) -> Output {
    let endpoints = cluster.url(0, "");
    let arguments = [&["save", "--endpoints", &endpoints], arguments].concat();
    snapshot(cluster, &arguments, Stdio::null())
}

#[track_caller]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn failed(output: Output, part: &str) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: ") && error.contains(part), "{error}");
}

/// The digest of a sound backup.
fn digest(cluster: &Cluster, file: &str) -> String {
    ok(snapshot(cluster, &["inspect", file, "-o", "raw"], Stdio::null()))
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_written_through_what_is_no_file() {
    let cluster = Cluster::start(1).await;
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 201);
    let dir = cluster.dir.path().to_path_buf();
    let fifo = dir.join("fifo");
    mkfifo(&fifo);
    for force in [&["fifo"][..], &["fifo", "--force"]] {
        let reader = std::thread::spawn({
            let (from, to) = (fifo.clone(), dir.join("copy"));
            move || {
                let mut from = File::open(from).unwrap();
                std::io::copy(&mut from, &mut File::create(to).unwrap()).unwrap()
            }
        });
        ok(save(&cluster, force));
        reader.join().unwrap();
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        digest(&cluster, "copy");
    }
    for force in [&["/dev/null"][..], &["/dev/null", "--force"]] {
        ok(save(&cluster, force));
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
    failed(save(&cluster, &["/dev/full"]), "cannot write /dev/full");

    // Standard output by another name: nothing but the backup goes there.
    let whole = save(&cluster, &["/dev/stdout"]);
    assert!(whole.status.success());
    fs::write(dir.join("copy"), whole.stdout).unwrap();
    digest(&cluster, "copy");

    // To nothing yet, then to a file, which is replaced where it lies.
    symlink("real", dir.join("link")).unwrap();
    ok(save(&cluster, &["link"]));
    failed(save(&cluster, &["link"]), "link exists");
    ok(save(&cluster, &["link", "--force"]));
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(dir.join("real")).unwrap().is_file());
    digest(&cluster, "real");
    failed(save(&cluster, &["output"]), "output is a folder");
    let left = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_and_inspected_from_a_pipe() {
    let cluster = Cluster::start(1).await;
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 201);
    let dir = cluster.dir.path().to_path_buf();
    ok(save(&cluster, &["backup"]));
    let cat = |file: &str| {
        let mut cat =
            Command::new("cat").arg(dir.join(file)).stdout(Stdio::piped()).spawn().unwrap();
        let out = cat.stdout.take().unwrap();
        // It ends with its pipe.
        std::thread::spawn(move || cat.wait().unwrap());
        out
    };
    let whole = digest(&cluster, "backup");
    for from in ["-", "/dev/stdin"] {
        let inspected = snapshot(&cluster, &["inspect", from, "-o", "raw"], cat("backup"));
        assert_eq!(ok(inspected), whole);
    }

    let bytes = fs::read(dir.join("backup")).unwrap();
    fs::write(dir.join("half"), &bytes[..bytes.len() / 2]).unwrap();
    let mut damaged = bytes.clone();
    let at = damaged.len() - 100;
    damaged[at] ^= 1;
    fs::write(dir.join("damaged"), damaged).unwrap();
    let restore = |from: &str, file: &str| {
        let arguments = ["restore", from, "--config", "cluster.yml", "--data", "restored"];
        snapshot(&cluster, &arguments, cat(file))
    };
    // What fails leaves nothing behind, so that the next one is not in its way.
    for from in ["-", "/dev/stdin"] {
        failed(restore(from, "half"), "it ends at byte");
        failed(restore(from, "damaged"), "error: ");
        assert!(!dir.join("restored").exists());
        ok(restore(from, "backup"));
        assert!(dir.join("restored/identity").exists());
        fs::remove_dir_all(dir.join("restored")).unwrap();
    }
    let closed = File::open("/dev/null").unwrap();
    let empty = snapshot(&cluster, &["inspect", "-"], closed);
    failed(empty, "standard input");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_restores_belongs_to_whom_the_folder_belongs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    use std::os::unix::fs::{MetadataExt, chown};
    let cluster = Cluster::start(1).await;
    ok(save(&cluster, &["backup"]));
    let home = cluster.dir.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(12345), Some(12346)).unwrap();
    let arguments = ["restore", "backup", "--config", "cluster.yml", "--data", "home/data"];
    ok(snapshot(&cluster, &arguments, Stdio::null()));
    let data = home.join("data");
    let files = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([data.clone()]) {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (12345, 12346), "{}", path.display());
    }
}
