//! The folder of a node that comes into a cluster: made before the cluster is changed, and put in its place
//! after it was.
//!
//! So whatever can fail on this machine fails first; and since a node's key is made anew each time, the command
//! can be repeated until the folder is there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::CliError;
use super::cluster::{self, BuildOptions};
use super::output::say;
use crate::api::{ClusterStatus, MemberStatus};
use crate::client::Client;
use crate::cluster::ChangeRefused;
use crate::config::{Config, HostPort, NodeName};
use crate::pki::{Authority, ClusterName};

/// The configuration that is taken where it is there and none was named.
const DEFAULT_CONFIG: &str = "conf/cluster.yml";
/// What a folder consists of, in the order in which it is replaced: the key and what goes with it last but for
/// what does not change.
const FILES: [&str; 7] = [
    "konsen",
    "bootstrap.sh",
    "konsen.service",
    "cluster.yml",
    "certs/ca.crt",
    "certs/node.key",
    "certs/node.crt",
];

/// Where a folder is made, and of what.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Folder")]
pub(super) struct Bundle {
    /// The folder that the node's folder is made in
    #[arg(long, env = "KONSEN_OUT", default_value = "output", value_name = "DIR")]
    out: PathBuf,
    /// Where the cluster's authority is kept
    #[arg(long, env = "KONSEN_CERTS", default_value = "certs", value_name = "DIR")]
    certs: PathBuf,
    /// A configuration whose other keys the new node takes over; conf/cluster.yml if it is there
    #[arg(long, env = "KONSEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only change the membership: its folder is made elsewhere
    #[arg(long)]
    no_folder: bool,
}

/// Where a member listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) raft: HostPort,
    pub(super) http: HostPort,
}

/// As what a host comes into the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// As a member that there is not yet.
    New,
    /// In the place of one.
    InPlace,
}

impl Comes {
    /// Refuses what the cluster would refuse, in the same words.
    fn fits(
        self,
        name: &NodeName,
        known: Option<&MemberStatus>,
        cluster: &ClusterStatus,
    ) -> Result<(), CliError> {
        let refused = match (self, known) {
            (Comes::New, Some(known)) if known.id.is_some() => {
                ChangeRefused::NameInUse(name.to_string())
            }
            (Comes::InPlace, None) => {
                let names = cluster.members.iter().map(|member| member.name.as_str());
                ChangeRefused::no_such_member(name.as_str(), names)
            }
            _ => return Ok(()),
        };
        Err(CliError::failed(refused.to_string()))
    }
}

/// A folder that is made and not yet in its place. Dropping it removes it.
pub(super) struct Folder {
    staging: PathBuf,
    home: PathBuf,
    /// Files of HTTPS's own in it.
    https: Vec<PathBuf>,
    /// The node as the cluster knows it already.
    pub(super) known: Option<MemberStatus>,
}

impl Bundle {
    /// Makes the folder of `name` for the cluster that `client` reaches; none if none is wanted. Where no addresses
    /// are given they are those of the member of that name, which there has to be.
    pub(super) async fn prepare(
        self,
        client: &Client,
        name: &NodeName,
        addresses: Option<Addresses>,
        comes: Comes,
    ) -> Result<Option<Folder>, CliError> {
        if self.no_folder {
            return Ok(None);
        }
        // What is asked of the cluster comes before what this machine lacks.
        let cluster = client.cluster().await?;
        let known = cluster.members.iter().find(|member| member.name == name.as_str()).cloned();
        comes.fits(name, known.as_ref(), &cluster)?;
        let (cert, key) = (self.certs.join("ca.crt"), self.certs.join("ca.key"));
        let authority = Authority::load(&cert, &key).map_err(|error| {
            CliError::from(error).hint(
                "the new node's certificate comes from the cluster's authority: name its folder with --certs, \
                 or use --no-folder and make the node's folder where the authority is",
            )
        })?;
        let config = match &self.config {
            Some(named) => Some(cluster::load(named)?),
            None if Path::new(DEFAULT_CONFIG).exists() => {
                Some(cluster::load(Path::new(DEFAULT_CONFIG))?)
            }
            None => None,
        };
        let cluster_name = same_cluster(&cluster, config.as_ref(), &authority, &cert)?;
        let text = configuration(&cluster_name, &cluster, name, addresses.as_ref());
        let fresh = Config::parse(Path::new("cluster.yml"), &text, Some(name.as_str()))?;
        let config = match config {
            None => fresh,
            Some(config) => fresh.with_keys_of(config),
        }
        .with_https();
        let home = self.out.join(name.as_str());
        let staging = self.out.join(format!(".{name}.{}.part", std::process::id()));
        // Removes what is made if the rest fails.
        let https = cluster::own_https_files(&config).into_iter().map(|(_, file)| file).collect();
        let folder = Folder { staging: staging.clone(), home: home.clone(), https, known };
        if home.exists() {
            let certs = home.join("certs");
            fs::create_dir_all(&certs)
                .with_context(|| format!("cannot create {}", certs.display()))?;
        }
        let options = BuildOptions {
            config: PathBuf::new(),
            out: staging,
            certs: self.certs,
            keep_certificates: false,
            keep_configuration: BTreeSet::new(),
            https: true,
            with_binary: true,
            signers: BTreeSet::new(),
        };
        let origin = "made when it was taken into the cluster";
        cluster::build_node(&config, name, &authority, origin, &options)?;
        Ok(Some(folder))
    }
}

impl Folder {
    /// Puts it in its place, over what may be left there of an earlier node of the name; `done` says what the
    /// cluster did.
    pub(super) fn put_in_place(self, done: &str) -> Result<(), CliError> {
        let name = self.home.file_name().unwrap_or_default();
        let made = self.staging.join(name);
        let home = self.home.display();
        let moved = if self.home.exists() {
            let files = FILES.iter().map(Path::new).chain(self.https.iter().map(PathBuf::as_path));
            files.into_iter().try_for_each(|file| move_into(&made, &self.home, file))
        } else {
            fs::rename(&made, &self.home)
        };
        moved.map_err(|error| {
            CliError::failed(format!("cannot put its folder at {home}: {error}"))
                .although(done)
                .hint("run the same command again: it makes the folder, with another key")
        })?;
        let mut text = format!(
            "made {home}\n\nNext: copy it to its host, and start it there:\n  {}\n  \
             ssh HOST konsen/bootstrap.sh\n\n",
            cluster::copy_line(&home.to_string())
        );
        if self.home.join("data").exists() {
            text += &format!(
                "{home}/data is that of an earlier node: the new one starts with an empty data directory\n\n"
            );
        }
        say(&text);
        Ok(())
    }
}

fn move_into(made: &Path, home: &Path, file: &Path) -> io::Result<()> {
    let to = home.join(file);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::rename(made.join(file), to)
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Its name says what it is.
        let _ = fs::remove_dir_all(&self.staging);
    }
}

/// The name of the cluster that was asked, once the file and the authority are found to be its own.
fn same_cluster(
    cluster: &ClusterStatus,
    config: Option<&Config>,
    authority: &Authority,
    cert: &Path,
) -> Result<ClusterName, CliError> {
    let name: ClusterName = cluster.cluster.parse().map_err(|error| {
        CliError::failed(format!(
            "the cluster that was asked has no name for certificates: {error}"
        ))
    })?;
    if let Some(config) = config
        && config.cluster != name
    {
        return Err(CliError::failed(format!(
            "{} is of the cluster {}, and the one that was asked is {name}; nothing was changed",
            config.file.display(),
            config.cluster
        ))
        .hint(
            "name that cluster's own configuration with --config, or its nodes with --endpoints",
        ));
    }
    // One of an earlier release does not say.
    let known = &cluster.authorities;
    if !known.is_empty() && !known.iter().any(|known| known == authority.fingerprint()) {
        return Err(CliError::failed(format!(
            "{} is not the authority of the cluster {name} that was asked, whose members would refuse its \
             certificates; nothing was changed",
            cert.display()
        ))
        .hint("name the folder of that cluster's authority with --certs"));
    }
    Ok(name)
}

/// The new node's configuration: the members that there are, and itself.
fn configuration(
    name: &ClusterName,
    cluster: &ClusterStatus,
    node: &NodeName,
    addresses: Option<&Addresses>,
) -> String {
    let others =
        cluster.members.iter().filter(|member| addresses.is_none() || member.name != node.as_str());
    let mut all: Vec<_> = others
        .map(|member| {
            (member.name.clone(), member.raft_address.clone(), member.http_address.clone())
        })
        .collect();
    if let Some(Addresses { raft, http }) = addresses {
        all.push((node.to_string(), raft.to_string(), http.to_string()));
    }
    let lines = |of: fn(&(String, String, String)) -> &String| -> String {
        all.iter().map(|member| format!("  \"{}\": \"{}\"\n", member.0, of(member))).collect()
    };
    format!(
        "join: true\ncluster: {name}\nservers:\n{}httpServers:\n{}",
        lines(|member| &member.1),
        lines(|member| &member.2)
    )
}
