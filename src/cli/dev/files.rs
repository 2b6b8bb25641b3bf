//! The files of a cluster on this machine: made once, and kept with what their owner changed in them.
//!
//! `cluster.yml` beside the nodes' folders is made where there is none. Each node's own is made from it at every start,
//! unless it is no longer what was made last: then it is its owner's. Only addresses whose ports are taken are replaced in
//! either, and nothing is written before all of them fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use super::super::CliError;
use super::super::administrator::{self, Administrator};
use super::super::cluster::{self, BuildOptions, build_nodes};
use super::super::output::say;
use super::Home;
use crate::config::{Config, HostPort, NodeName};
use crate::pki::Authority;

/// The first ports tried.
const RAFT_PORT: u16 = 10_001;
const HTTP_PORT: u16 = 20_001;
/// The most nodes.
pub(super) const NODES_MAX: u8 = 9;
/// A node's file as it was made last, beside it.
const MADE: &str = "cluster.yml.made";

/// The authority's folder.
const CERTS: &str = "certs";
/// How the command line reaches the cluster.
pub(super) const PROFILE: &str = "profile.yml";
/// The configuration of all nodes, and in each one's folder its own.
const CONFIGURATION: &str = "cluster.yml";

/// Refuses a directory where no earlier run has left its mark, and where something is that such a run would take for its own:
/// with `fresh` also a configuration.
pub(super) fn check_is_ours(dir: &Path, mark: &Path, fresh: bool) -> Result<(), CliError> {
    if mark.exists() {
        return Ok(());
    }
    let nodes = (1..=NODES_MAX).map(|number| format!("node{number}"));
    let configuration = fresh.then(|| CONFIGURATION.to_owned());
    let ours = [CERTS, administrator::NAME, PROFILE].map(str::to_owned);
    let ours = nodes.chain(ours).chain(configuration);
    match ours.into_iter().find(|name| dir.join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(CliError::failed(format!(
            "{} is there, and no `konsen dev` has run in that folder: nothing of it is used or thrown away",
            dir.join(name).display()
        ))
        .hint("give the cluster a folder of its own with --dir")),
    }
}

/// Removes what earlier runs made, with what was added to their nodes' folders since, and says so; nothing else that may lie
/// in the directory.
pub(super) fn remove_nodes(dir: &Path) -> Result<(), CliError> {
    let is_nodes =
        |name: &String| [CONFIGURATION, MADE].iter().any(|file| dir.join(name).join(file).exists());
    let nodes = (1..=NODES_MAX).map(|number| format!("node{number}")).filter(is_nodes);
    let mut gone = Vec::new();
    let beside = [CERTS, administrator::NAME, PROFILE, CONFIGURATION].map(str::to_owned);
    for name in nodes.chain(beside) {
        let path = dir.join(&name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Ok(()) => gone.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let text = format!("cannot remove {}: {error}", path.display());
                return Err(CliError::failed(text));
            }
        }
    }
    if !gone.is_empty() {
        say(&format!("threw away {} in {}\n", gone.join(", "), dir.display()));
    }
    Ok(())
}

/// Which addresses are replaced by which.
type Moves = BTreeMap<String, String>;

/// Makes cluster.yml, certificates and folders, or takes what an earlier run left.
pub(super) fn prepare(dir: &Path, wanted: Wanted) -> Result<Prepared, CliError> {
    prepare_at(dir, wanted, moves)
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) nodes: u8,
    /// HTTPS; else as the configuration says.
    pub(super) tls: bool,
}

/// What is ready to be started.
pub(super) struct Prepared {
    pub(super) homes: Vec<Home>,
    /// With what the nodes are reached where they speak HTTPS.
    pub(super) administrator: Option<Administrator>,
}

fn prepare_at(
    dir: &Path,
    wanted: Wanted,
    moves: impl FnOnce(&Config) -> Result<Moves, CliError>,
) -> Result<Prepared, CliError> {
    let file = dir.join("cluster.yml");
    let (text, before) = match read(&file)? {
        Some(text) => (text, cluster::load(&file)?),
        None => {
            let text = first(wanted);
            let config = Config::parse(&file, &text, None)?;
            (text, config)
        }
    };
    check_nodes(dir, &before, wanted.nodes)?;
    if wanted.tls && !before.http.tls {
        return Err(CliError::failed(format!(
            "{} holds a cluster that serves plain HTTP",
            dir.display()
        ))
        .hint(format!(
            "add `http: {{ tls: true }}` to {}, use another --dir, or throw its data away with --fresh",
            file.display()
        )));
    }
    let moves = moves(&before)?;
    let text = moved(&text, &moves);
    let config =
        Config::parse(&file, &text, before.servers.keys().next().map(|name| name.as_str()))?;
    if let Some(still) = moves.keys().find(|old| names_address(&config, old)) {
        return Err(CliError::failed(format!(
            "the port of {still} is taken, and {} cannot be changed by itself",
            file.display()
        ))
        .hint(format!("name a free one there; {} is", moves[still])));
    }
    let mut edited = BTreeMap::new();
    for name in config.servers.keys() {
        if let Some(text) = edited_by_its_owner(dir, name, [&before, &config], &moves)? {
            edited.insert(name.clone(), text);
        }
    }

    // From here on all is known to fit.
    for (old, new) in &moves {
        say(&format!("the port of {old} is taken: {new} is in its place\n"));
    }
    write(&file, &text)?;
    for (name, text) in &edited {
        say(&format!(
            "{name}/cluster.yml was edited, and stays; what cluster.yml beside {name} says does not reach it\n"
        ));
        write(&dir.join(name.as_str()).join("cluster.yml"), text)?;
    }
    build_nodes(&BuildOptions {
        config: file,
        out: dir.to_path_buf(),
        certs: dir.join(CERTS),
        keep_certificates: true,
        keep_configuration: edited.keys().cloned().collect(),
        https: false,
        with_binary: false,
        signers: BTreeSet::new(),
    })?;
    for name in config.servers.keys().filter(|name| !edited.contains_key(*name)) {
        let home = dir.join(name.as_str());
        if let Some(made) = read(&home.join("cluster.yml"))? {
            write(&home.join(MADE), &made)?;
        }
    }
    let administrator = administrator(dir, &config)?;
    let scheme = if config.http.tls { "https" } else { "http" };
    let home = |(name, address): (&NodeName, &HostPort)| Home {
        dir: dir.join(name.as_str()),
        http: format!("{scheme}://127.0.0.1:{}", address.port()),
        name: name.to_string(),
        process: Arc::default(),
    };
    Ok(Prepared { homes: config.http_servers.iter().map(home).collect(), administrator })
}

/// The certificate and the profile that reach the nodes, where they speak HTTPS.
fn administrator(dir: &Path, config: &Config) -> Result<Option<Administrator>, CliError> {
    if !config.http.tls {
        return Ok(None);
    }
    let certs = dir.join(CERTS);
    let authority = Authority::load(&certs.join("ca.crt"), &certs.join("ca.key"))?;
    let made = Administrator::make(config, &authority, dir, true)?;
    let profile = administrator::profile(config, &authority, made.as_ref());
    profile.write_to(&dir.join(PROFILE), "the cluster of `konsen dev`")?;
    Ok(made)
}

/// The first cluster.yml.
fn first(wanted: Wanted) -> String {
    let mut yml = String::from(
        "# Made by `konsen dev`, and yours from now on: what you add holds for every node whose own cluster.yml you do not\n\
         # edit, from the next start on. Addresses whose ports are taken then are replaced.\nservers:\n",
    );
    let nodes = |first: u16| (0..u16::from(wanted.nodes)).map(move |at| (at + 1, first + at));
    for (number, port) in nodes(RAFT_PORT) {
        yml += &format!("  node{number}: 127.0.0.1:{port}\n");
    }
    yml += "httpServers:\n";
    for (number, port) in nodes(HTTP_PORT) {
        yml += &format!("  node{number}: 127.0.0.1:{port}\n");
    }
    yml += "localServerName: node1\ncluster: konsen-dev\n";
    if wanted.tls { yml + "http: { tls: true }\n" } else { yml }
}

fn check_nodes(dir: &Path, before: &Config, count: u8) -> Result<(), CliError> {
    let there = before.servers.len();
    if there != usize::from(count) {
        return Err(CliError::failed(format!(
            "{} holds a cluster of {there} nodes, not {count}",
            dir.display()
        ))
        .hint(format!(
            "start it with --nodes {there}, use another --dir, or throw its data away with --fresh"
        )));
    }
    let expected: BTreeSet<String> = (1..=count).map(|number| format!("node{number}")).collect();
    if before.servers.keys().any(|name| !expected.contains(name.as_str())) {
        return Err(CliError::failed(format!(
            "{} names others than node1 to node{count}, which `konsen dev` runs",
            dir.join("cluster.yml").display()
        ))
        .hint("give them these names again, or run them with `konsen cluster build` and `konsen serve`"));
    }
    Ok(())
}

/// The text of a node's own file if its owner edited it, at the addresses that the cluster has now. It is refused where that
/// would take more than other ports.
fn edited_by_its_owner(
    dir: &Path,
    name: &NodeName,
    [before, cluster]: [&Config; 2],
    moves: &Moves,
) -> Result<Option<String>, CliError> {
    let home = dir.join(name.as_str());
    let file = home.join("cluster.yml");
    let Some(text) = read(&file)? else { return Ok(None) };
    let made = read(&home.join(MADE))?;
    if made.unwrap_or_else(|| cluster::configuration(before, name, &cluster::origin(&before.file)))
        == text
    {
        return Ok(None);
    }
    let text = moved(&text, moves);
    let own = Config::parse(&file, &text, None)?;
    if own.name != *name {
        return Err(CliError::failed(format!(
            "{} is of {}, not of {name}",
            file.display(),
            own.name
        ))
        .hint(format!(
            "write `localServerName: {name}` there, or remove it to have it made anew"
        )));
    }
    for (there, here) in
        [(&cluster.servers, &own.servers), (&cluster.http_servers, &own.http_servers)]
    {
        let differs = there.iter().find(|(name, address)| here.get(*name) != Some(*address));
        if let Some((other, address)) = differs {
            let said = here.get(other).map_or("nowhere".to_owned(), |said| format!("at {said}"));
            return Err(CliError::failed(format!(
                "{} was edited: {other} is {said} there, and at {address} in {}",
                file.display(),
                cluster.file.display()
            ))
            .hint("write the same addresses in both, or remove the first to have it made anew"));
        }
    }
    Ok(Some(text))
}

/// Which addresses are replaced by which, since their ports are taken.
fn moves(config: &Config) -> Result<Moves, CliError> {
    // Held until all are chosen.
    let udp = free("UDP", &ports(&config.servers), |port| {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()
    })?;
    let tcp = free("TCP", &ports(&config.http_servers), |port| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    })?;
    let raft = config.servers.values().zip(udp.iter().map(|(port, _)| *port));
    let http = config.http_servers.values().zip(tcp.iter().map(|(port, _)| *port));
    let moved = raft.chain(http).filter(|(address, port)| address.port() != *port);
    Ok(moved
        .map(|(address, port)| {
            let old = address.to_string();
            let host = old.trim_end_matches(|c: char| c.is_ascii_digit());
            let new = format!("{host}{port}");
            (old, new)
        })
        .collect())
}

fn ports(addresses: &BTreeMap<NodeName, HostPort>) -> Vec<u16> {
    addresses.values().map(HostPort::port).collect()
}

/// For each port that is wanted itself if it is free, else the next one that is, and what holds it.
fn free<S>(
    kind: &str,
    wanted: &[u16],
    bind: impl Fn(u16) -> Option<S>,
) -> Result<Vec<(u16, S)>, CliError> {
    let bind = |port: u16| bind(port).map(|held| (port, held));
    let mut held: Vec<_> = wanted.iter().map(|port| bind(*port)).collect();
    for (place, wanted) in held.iter_mut().zip(wanted) {
        if place.is_none() {
            *place = (*wanted..=u16::MAX).find_map(&bind);
        }
    }
    held.into_iter()
        .zip(wanted)
        .map(|(held, wanted)| {
            held.ok_or_else(|| {
                let text = format!("no {kind} port from {wanted} on is free on 127.0.0.1");
                CliError::failed(text)
            })
        })
        .collect()
}

fn names_address(config: &Config, address: &str) -> bool {
    let all = config.servers.values().chain(config.http_servers.values());
    all.into_iter().any(|one| one.to_string() == address)
}

/// The text with other addresses; all else stays as it is.
fn moved(text: &str, moves: &Moves) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        let inside = out.ends_with(|c: char| c.is_alphanumeric() || ".-".contains(c));
        let found = moves.iter().find_map(|(old, new)| {
            let after = rest.strip_prefix(old.as_str())?;
            (!after.starts_with(|c: char| c.is_ascii_digit())).then_some((new, after))
        });
        match found.filter(|_| !inside) {
            Some((new, after)) => {
                out += new;
                rest = after;
            }
            None => {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    out
}

/// The text of a file; none if there is no such file.
fn read(file: &Path) -> Result<Option<String>, CliError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::failed(format!("cannot read {}: {error}", file.display()))),
    }
}

/// Writes what differs from what is there, all of it or nothing.
fn write(file: &Path, text: &str) -> Result<(), CliError> {
    if read(file)?.as_deref() == Some(text) {
        return Ok(());
    }
    let part = file.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, file))
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// The files of two nodes, as a first start leaves them where all ports are free.
    fn begun() -> TempDir {
        let dir = TempDir::new().unwrap();
        again(&dir).unwrap();
        dir
    }

    const TWO: Wanted = Wanted { nodes: 2, tls: false };

    fn again(dir: &TempDir) -> Result<Prepared, CliError> {
        prepare_at(dir.path(), TWO, |_| Ok(Moves::new()))
    }

    fn refused(dir: &TempDir, count: u8) -> String {
        let wanted = Wanted { nodes: count, ..TWO };
        let refused = prepare_at(dir.path(), wanted, |_| Ok(Moves::new()));
        refused.err().unwrap().to_string()
    }

    fn text(dir: &TempDir, file: &str) -> String {
        fs::read_to_string(dir.path().join(file)).unwrap()
    }

    fn edit(dir: &TempDir, file: &str, from: &str, to: &str) -> String {
        let before = text(dir, file);
        let after = before.replace(from, to);
        assert_ne!(before, after);
        fs::write(dir.path().join(file), &after).unwrap();
        after
    }

    #[test]
    fn what_was_added_to_the_clusters_file_stays_and_reaches_every_node() {
        let dir = begun();
        let edited =
            edit(&dir, "cluster.yml", "servers:\n", "# Mine.\nlimits: {value: 4MiB}\nservers:\n");
        for _ in 0..2 {
            again(&dir).unwrap();
            assert_eq!(text(&dir, "cluster.yml"), edited);
            for name in ["node1", "node2"] {
                let own = text(&dir, &format!("{name}/cluster.yml"));
                assert!(own.contains("  value: 4MiB"), "{own}");
            }
        }
    }

    #[test]
    fn a_nodes_file_that_was_edited_stays() {
        let dir = begun();
        let other = text(&dir, "node2/cluster.yml");
        let edited = edit(&dir, "node1/cluster.yml", "\nhttp:\n", "\n# Mine.\nhttp:\n");
        edit(
            &dir,
            "cluster.yml",
            "cluster: konsen-dev",
            "cluster: konsen-dev\nlimits: {value: 4MiB}",
        );
        again(&dir).unwrap();
        assert_eq!(text(&dir, "node1/cluster.yml"), edited);
        assert_ne!(text(&dir, "node2/cluster.yml"), other);
        // Removed, it is made anew.
        fs::remove_file(dir.path().join("node1/cluster.yml")).unwrap();
        again(&dir).unwrap();
        assert!(!text(&dir, "node1/cluster.yml").contains("# Mine."));
    }

    #[test]
    fn of_what_was_edited_only_taken_ports_are_replaced() {
        let dir = begun();
        let edited = edit(&dir, "cluster.yml", "servers:\n", "# Mine.\nservers:\n");
        let own = edit(&dir, "node2/cluster.yml", "\nhttp:\n", "\n# Mine.\nhttp:\n");
        let moves = Moves::from([("127.0.0.1:20002".to_owned(), "127.0.0.1:20005".to_owned())]);
        let homes = prepare_at(dir.path(), TWO, |_| Ok(moves)).unwrap().homes;
        assert_eq!(homes[1].http, "http://127.0.0.1:20005");
        let [old, new] = ["127.0.0.1:20002", "127.0.0.1:20005"];
        assert_eq!(text(&dir, "cluster.yml"), edited.replace(old, new));
        assert_eq!(text(&dir, "node2/cluster.yml"), own.replace(old, new));
        assert!(text(&dir, "node1/cluster.yml").contains(new));
        // One that cannot be found in the text is left to whoever wrote it.
        edit(&dir, "cluster.yml", "node2: 127.0.0.1:20005", "node2: 127.0.0.1:0020005");
        let moves = Moves::from([(new.to_owned(), old.to_owned())]);
        let error = prepare_at(dir.path(), TWO, |_| Ok(moves)).err().unwrap().to_string();
        assert!(error.contains("cannot be changed by itself"), "{error}");
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_nothing_is_written() {
        let dir = begun();
        let edited = edit(&dir, "node1/cluster.yml", "127.0.0.1:20001", "127.0.0.1:1");
        let cluster = edit(&dir, "cluster.yml", "servers:\n", "# Mine.\nservers:\n");
        let error = refused(&dir, 2);
        assert!(error.contains("node1 is at 127.0.0.1:1 there, and at "), "{error}");
        assert_eq!(text(&dir, "node1/cluster.yml"), edited);
        assert_eq!(text(&dir, "cluster.yml"), cluster);
        let error = refused(&dir, 3);
        assert!(error.contains("holds a cluster of 2 nodes, not 3"), "{error}");
        fs::write(dir.path().join("node1/cluster.yml"), "servers: [").unwrap();
        assert!(refused(&dir, 2).contains("node1/cluster.yml"));
        edit(&dir, "cluster.yml", "node2", "second");
        let error = refused(&dir, 2);
        assert!(error.contains("names others than node1 to node2"), "{error}");
        remove_nodes(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn https_is_a_matter_of_the_first_start() {
        let dir = begun();
        let tls = Wanted { tls: true, ..TWO };
        let refused = prepare_at(dir.path(), tls, |_| Ok(Moves::new())).err().unwrap().to_string();
        assert!(
            refused.contains("serves plain HTTP") && refused.contains("tls: true"),
            "{refused}"
        );
        let dir = TempDir::new().unwrap();
        let first = prepare_at(dir.path(), tls, |_| Ok(Moves::new())).unwrap();
        assert_eq!(first.homes[1].http, "https://127.0.0.1:20002");
        let options = first.administrator.unwrap().curl_options(|path| path.display().to_string());
        // It stays.
        let then = again(&dir).unwrap();
        assert_eq!(then.homes[0].http, "https://127.0.0.1:20001");
        let again = then.administrator.unwrap().curl_options(|path| path.display().to_string());
        assert_eq!(options, again);
        assert!(text(&dir, "node1/cluster.yml").contains("  clientAuth: optional"));
        assert!(text(&dir, PROFILE).contains("https://127.0.0.1:20001"));
        remove_nodes(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_release_made_is_not_taken_for_edited() {
        let dir = begun();
        for name in ["node1", "node2"] {
            fs::remove_file(dir.path().join(name).join(MADE)).unwrap();
        }
        again(&dir).unwrap();
        edit(&dir, "cluster.yml", "servers:\n", "limits: {value: 4MiB}\nservers:\n");
        again(&dir).unwrap();
        assert!(text(&dir, "node1/cluster.yml").contains("  value: 4MiB"));
    }

    #[test]
    fn what_no_earlier_run_made_is_neither_used_nor_thrown_away() {
        let dir = TempDir::new().unwrap();
        let mark = dir.path().join("dev.lock");
        let check = |fresh| check_is_ours(dir.path(), &mark, fresh).map_err(|e| e.to_string());
        // A configuration to begin with may be there.
        fs::write(dir.path().join(CONFIGURATION), first(Wanted { nodes: 3, ..TWO })).unwrap();
        assert!(check(false).is_ok());
        assert!(check(true).unwrap_err().contains("cluster.yml is there, and no `konsen dev`"));
        for name in ["certs", "node7"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            for fresh in [false, true] {
                assert!(check(fresh).unwrap_err().contains(&format!("{name} is there")), "{name}");
            }
            fs::remove_dir(dir.path().join(name)).unwrap();
        }
        let begun = begun();
        fs::create_dir(begun.path().join("node7")).unwrap();
        fs::write(begun.path().join("dev.lock"), "").unwrap();
        check_is_ours(begun.path(), &begun.path().join("dev.lock"), true).unwrap();
        remove_nodes(begun.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(begun.path()).unwrap().flatten().collect();
        left.sort_by_key(|entry| entry.file_name());
        assert_eq!(
            left.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(),
            ["dev.lock", "node7"]
        );
    }

    #[test]
    fn a_port_that_is_free_stays_and_one_that_is_taken_goes_behind_them() {
        let taken = std::cell::RefCell::new(vec![2, 4]);
        let bind = |port: u16| {
            let is_free = !taken.borrow().contains(&port);
            is_free.then(|| taken.borrow_mut().push(port))
        };
        let found = free("UDP", &[1, 2, 3], bind).unwrap();
        assert_eq!(found.iter().map(|(port, ())| *port).collect::<Vec<_>>(), [1, 5, 3]);
        assert!(free("UDP", &[1], |_| None::<()>).is_err());
    }

    #[test]
    fn only_whole_addresses_are_replaced() {
        let moves = [("h:1".to_owned(), "h:2".to_owned()), ("h:2".to_owned(), "h:1".to_owned())];
        let text = "a: h:1\nb: [h:2, 'h:1'] # h:12, oh:1, x.h:1\n";
        let expected = "a: h:2\nb: [h:1, 'h:2'] # h:12, oh:1, x.h:1\n";
        assert_eq!(moved(text, &moves.into()), expected);
    }
}
