//! `konsen cluster build`: a folder for each node, ready to copy to its host.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};

use super::{CliError, print_text};
use crate::config::{Config, NodeName};
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
    /// Each holds the program, its configuration, certificates, a start script and a systemd unit. It can
    /// be run again: certificates that are still good are kept.
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
    /// Make new node certificates even where those that are there are good; the authority stays
    #[arg(long)]
    force: bool,
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
    /// Whether the program is copied, with its start script and its unit.
    pub with_binary: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let Command::Build(build) = args.command;
    let options = BuildOptions {
        config: build.config,
        out: build.out,
        certs: build.certs,
        keep_certificates: !build.force,
        keep_configuration: BTreeSet::new(),
        with_binary: true,
    };
    super::config::warn(&load(&options.config)?);
    let homes = build_nodes(&options)?;
    let mut text = String::new();
    for home in &homes {
        text += &format!("made {}\n", home.display());
    }
    let first = homes.first().map(|home| home.display().to_string()).unwrap_or_default();
    text += &format!(
        "\nNext: copy each folder to its host, and start it there:\n  \
         {}\n  \
         ssh HOST konsen/bootstrap.sh\n\
         or install it as a service, as konsen.service says. Keep {} to yourself:\n\
         whoever has it can join the cluster.\n",
        copy_line(&first),
        options.certs.join("ca.key").display()
    );
    print_text(&text).map_err(|error| error.although("the folders were made"))
}

/// How to copy a node's folder to its host, over an earlier one and a program that runs, too: `scp -r` would put it
/// into a folder that is there, where nothing starts it.
pub(super) fn copy_line(folder: &str) -> String {
    format!("tar -C {folder} -cf - . | ssh HOST 'mkdir -p konsen && tar -C konsen -xf -'")
}

/// Makes the authority if there is none, and every node's folder; their paths. Can be repeated.
pub fn build_nodes(options: &BuildOptions) -> Result<Vec<PathBuf>, CliError> {
    let config = load(&options.config)?;
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
    let issued = authority.issue(&identity, &hosts, CERTIFICATE_DAYS)?;
    write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Replace)?;
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

fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    fs::write(file, bytes)
        .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(mode)))
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", file.display())))
}
