//! `konsen cluster build`: a folder for each node, ready to copy to its host.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};

use super::administrator::Administrator;
use super::built::Built;
use super::{CliError, print_text};
use crate::config::{AUTHORITY_KEY, Config, NodeName};
use crate::pki::{
    AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS, Material, Overwrite, PeerIdentity, Role,
    issue_authority, write_certificate, write_pair,
};

const BOOTSTRAP: &str = include_str!("../../conf/bootstrap.sh");
const SERVICE: &str = include_str!("../../conf/konsen.service");

/// The files of a whole cluster.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  konsen cluster build --config conf/cluster.yml --out output")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a folder for each node, ready to copy to its host
    ///
    /// Each holds the program, its configuration, certificates, a start script and a systemd unit; clients are served over
    /// HTTPS unless the configuration says otherwise. OUT/admin holds a certificate for the first administrator, and a
    /// profile tells other commands on this machine how to reach the cluster with it. It can be run again: certificates that
    /// are still good are kept.
    #[command(
        after_help = "Example:\n  konsen cluster build --config conf/cluster.yml --out output\n  tar -C output/node1 -cf - . | ssh host1 'mkdir -p konsen && tar -C konsen -xf -'\n  ssh host1 konsen/bootstrap.sh"
    )]
    Build(Build),
}

#[derive(Debug, ClapArgs)]
struct Build {
    /// The cluster's configuration
    #[arg(long, env = "KONSEN_CONFIG", default_value = "conf/cluster.yml", value_name = "FILE")]
    config: PathBuf,
    /// Where the nodes' folders are made
    #[arg(long, env = "KONSEN_OUT", default_value = "output", value_name = "DIR")]
    out: PathBuf,
    /// Where the authority is kept, made if it is not there
    #[arg(long, env = "KONSEN_CERTS", default_value = "certs", value_name = "DIR")]
    certs: PathBuf,
    /// Make new certificates of nodes and of the administrator even where those that are there are good; the authority stays
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    signers: SignerArgs,
    #[command(flatten)]
    profile: ProfileArgs,
}

/// Who signs the nodes' next certificates.
#[derive(Debug, ClapArgs)]
struct SignerArgs {
    /// Where the authority's key is kept: in the cluster, which then renews its certificates by itself, or outside of it,
    /// where an operator signs. Whoever takes a host that has the key can pass for every node and every client
    #[arg(long, value_enum, default_value = "outside")]
    authority: Kept,
    /// Which nodes have the authority's key; the first three if not given
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    signers: Vec<NodeName>,
}

/// Where the authority's key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kept {
    Inside,
    Outside,
}

/// How many nodes have the authority's key unless they are named: one may be down and another lost.
const SIGNERS: usize = 3;

impl SignerArgs {
    /// Those of the configuration that have the key.
    fn among(&self, config: &Config) -> Result<BTreeSet<NodeName>, CliError> {
        match self.authority {
            Kept::Outside if self.signers.is_empty() => Ok(BTreeSet::new()),
            Kept::Outside => Err(CliError::usage(
                "--signers names who has the authority's key: that takes --authority inside",
            )),
            Kept::Inside if self.signers.is_empty() => {
                Ok(config.servers.keys().take(SIGNERS).cloned().collect())
            }
            Kept::Inside => {
                match self.signers.iter().find(|name| !config.servers.contains_key(*name)) {
                    None => Ok(self.signers.iter().cloned().collect()),
                    Some(unknown) => {
                        let names: Vec<String> =
                            config.servers.keys().map(ToString::to_string).collect();
                        Err(CliError::usage(format!(
                            "--signers: {unknown} is none of the servers; there are {}",
                            names.join(", ")
                        )))
                    }
                }
            }
        }
    }
}

/// What [`build_nodes`] makes.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The cluster's configuration.
    pub config: PathBuf,
    /// The folder that the nodes' folders are made in.
    pub out: PathBuf,
    /// Where the authority lies, or is made.
    pub certs: PathBuf,
    /// Whether certificates that are still good are kept.
    pub keep_certificates: bool,
    /// Nodes whose configuration stays as it is.
    pub keep_configuration: BTreeSet<NodeName>,
    /// Whether clients are served over HTTPS where the configuration does not say, also on loopback.
    pub https: bool,
    /// Whether the program is copied, with its start script and its unit.
    pub with_binary: bool,
    /// Nodes that have the authority's key in their folder, and sign for the others.
    pub signers: BTreeSet<NodeName>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let Command::Build(build) = args.command;
    let config = load(&build.config)?;
    let options = BuildOptions {
        signers: build.signers.among(&config)?,
        config: build.config,
        out: build.out,
        certs: build.certs,
        keep_certificates: !build.force,
        keep_configuration: BTreeSet::new(),
        https: true,
        with_binary: true,
    };
    super::config::warn(&config);
    let config = config.with_https();
    Administrator::check_names(&config)?;
    let homes = build_nodes(&options)?;
    let authority = authority(&config, &options.certs)?;
    let keep = options.keep_certificates;
    let administrator = Administrator::make(&config, &authority, &options.out, keep)?;
    let text = Built {
        signers: &options.signers,
        config: &config,
        authority: &authority,
        homes: &homes,
        administrator: administrator.as_ref(),
        certs: &options.certs,
        profile: build.profile.wanted(&config),
    }
    .told();
    print_text(&text).map_err(|error| error.although("the folders were made"))
}

/// Whether the command line remembers the cluster, and as what.
#[derive(Debug, ClapArgs)]
struct ProfileArgs {
    /// What this machine's command line remembers the cluster as; the cluster's name if not given
    #[arg(long, env = "KONSEN_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// Do not remember it
    #[arg(long)]
    no_profile: bool,
}

impl ProfileArgs {
    /// By which name; none: not at all.
    fn wanted(self, config: &Config) -> Option<String> {
        let name = self.profile.filter(|name| !name.is_empty());
        (!self.no_profile).then(|| name.unwrap_or_else(|| config.cluster.to_string()))
    }
}

/// How to copy a node's folder to its host, over an earlier one and a program that runs, too: `scp -r` would put it
/// into a folder that is there, where nothing starts it.
pub(super) fn copy_line(folder: &str) -> String {
    format!("tar -C {folder} -cf - . | ssh HOST 'mkdir -p konsen && tar -C konsen -xf -'")
}

/// Makes the authority if there is none, and every node's folder; their paths. Can be repeated.
pub fn build_nodes(options: &BuildOptions) -> Result<Vec<PathBuf>, CliError> {
    let config = load(&options.config)?;
    let config = if options.https { config.with_https() } else { config };
    let authority = authority(&config, &options.certs)?;
    let origin = origin(&options.config);
    config
        .servers
        .keys()
        .map(|name| build_node(&config, name, &authority, &origin, options))
        .collect()
}

/// Makes the folder of one node; its path. `origin` says where its configuration comes from.
pub(super) fn build_node(
    config: &Config,
    name: &NodeName,
    authority: &Authority,
    origin: &str,
    options: &BuildOptions,
) -> Result<PathBuf, CliError> {
    let home = options.out.join(name.as_str());
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    certificates(config, name, authority, &home, options)?;
    let config = &as_signer(config, name, &home, options)?;
    copy_https_files(config, &home)?;
    let yml = configuration(config, name, origin);
    if !options.keep_configuration.contains(name) {
        write(&home.join("cluster.yml"), yml.as_bytes(), 0o644)?;
    }
    if options.with_binary {
        copy_program(&home.join("konsen"))?;
        write(&home.join("bootstrap.sh"), BOOTSTRAP.as_bytes(), 0o755)?;
        write(&home.join("konsen.service"), SERVICE.as_bytes(), 0o644)?;
    }
    Ok(home)
}

/// The configuration of a node, with the authority's key in its folder if it is to sign for the others.
fn as_signer(
    config: &Config,
    name: &NodeName,
    home: &Path,
    options: &BuildOptions,
) -> Result<Config, CliError> {
    let mut config = config.clone();
    let signs = options.signers.contains(name);
    config.tls.authority_key = signs.then(|| AUTHORITY_KEY.into());
    let key = home.join(AUTHORITY_KEY);
    if signs {
        let from = options.certs.join("ca.key");
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        write(&key, &bytes, 0o600)?;
    } else if let Err(error) = fs::remove_file(&key)
        && error.kind() != io::ErrorKind::NotFound
    {
        // It is not to be copied to the host.
        return Err(CliError::failed(format!("cannot remove {}: {error}", key.display())));
    }
    Ok(config)
}

/// Where a node's configuration comes from that is made from this file.
pub(super) fn origin(file: &Path) -> String {
    format!("from {}", file.display())
}

/// The configuration in a node's folder.
pub(super) fn configuration(config: &Config, name: &NodeName, origin: &str) -> String {
    let yml = config.to_yaml_for(name);
    format!("# {name}, {origin}, with every default spelled out.\n{yml}")
}

/// The file as any of its nodes would have it: it need not say which.
pub(super) fn load(file: &Path) -> Result<Config, CliError> {
    match Config::load(file, None) {
        Err(crate::config::ConfigError::Name { names, .. }) => {
            Ok(Config::load(file, names.first().map(String::as_str))?)
        }
        other => Ok(other?),
    }
}

fn authority(config: &Config, dir: &Path) -> Result<Authority, CliError> {
    let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    if !cert.exists() && !key.exists() {
        let issued = issue_authority(&config.cluster, AUTHORITY_DAYS)?;
        write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Never)?;
    }
    Ok(Authority::load(&cert, &key)?)
}

/// The node's certificates; those that are there stay if they are good and may.
fn certificates(
    config: &Config,
    name: &NodeName,
    authority: &Authority,
    home: &Path,
    options: &BuildOptions,
) -> Result<(), CliError> {
    let dir = home.join("certs");
    let (ca, cert, key) = (dir.join("ca.crt"), dir.join("node.crt"), dir.join("node.key"));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    write_certificate(&ca, authority.certificate(), Overwrite::Replace)?;
    let addresses = [config.servers.get(name), config.http_servers.get(name)];
    let hosts: Vec<_> =
        addresses.into_iter().flatten().map(|address| address.host().clone()).collect();
    let good = Material::load(&ca, &cert, &key).is_ok_and(|material| {
        material.check_node(&config.cluster, name).is_ok() && material.is_for(&hosts)
    });
    if good && options.keep_certificates {
        return Ok(());
    }
    let identity =
        PeerIdentity { cluster: config.cluster.clone(), role: Role::Node, name: name.clone() };
    let days = if options.signers.is_empty() { CERTIFICATE_DAYS } else { config.tls.days };
    let issued = authority.issue(&identity, &hosts, days)?;
    write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Replace)?;
    Ok(())
}

/// The files of HTTPS's own that lie beside the configuration, as the folder's names them; the others are the host's.
pub(super) fn own_https_files(config: &Config) -> Vec<(PathBuf, PathBuf)> {
    let is_inside =
        |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let files = config.own_https_files();
    files.into_iter().filter(|(from, to)| is_inside(to) && from.exists()).collect()
}

/// Copies them into a node's folder, a key for its owner only.
fn copy_https_files(config: &Config, home: &Path) -> Result<(), CliError> {
    for (from, to) in own_https_files(config) {
        let to = home.join(to);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let is_key = config.http.files.key.as_ref() == Some(&from);
        write(&to, &bytes, if is_key { 0o600 } else { 0o644 })?;
    }
    Ok(())
}

/// Copies this program. The old file is replaced, not written over: it may be running.
fn copy_program(to: &Path) -> Result<(), CliError> {
    let from = std::env::current_exe().context("cannot find this program's own file")?;
    if to.canonicalize().is_ok_and(|to| from.canonicalize().is_ok_and(|from| from == to)) {
        return Ok(());
    }
    let failed =
        |error: io::Error| CliError::failed(format!("cannot write {}: {error}", to.display()));
    let temporary = to.with_extension("tmp");
    let copied = fs::copy(&from, &temporary)
        .and_then(|_| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&temporary, to));
    if copied.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    copied.map_err(failed)
}

/// The file has its mode before there is anything in it.
fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(mode).open(file);
    opened
        .and_then(|mut out| {
            out.set_permissions(fs::Permissions::from_mode(mode))?;
            out.write_all(bytes)
        })
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", file.display())))
}
