//! `konsen snapshot restore`: the first node of a new cluster, from a backup or from what a node still has.

use std::io::{self, BufRead, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde::Serialize;

use super::super::config::warn;
use super::super::output::{self, say};
use super::super::remote::{Format, columns, print, print_json};
use super::super::{CliError, Exit};
use super::{inspect, named, open, unusable};
use crate::cluster::{self, Addresses, MEMBERS_MAX};
use crate::config::Config;
use crate::kv::Revision;
use crate::raft::{ClusterId, LogId, Membership, NodeId};
use crate::store::{self, BackupCheck, BackupSummary, IdentityCheck, Survivor};

/// Make the first node of a new cluster from a backup, or from one node's data directory
///
/// The new cluster has an identity of its own, which no member of the old one can join. It begins with this node
/// as its only voter. Start it; then start the other servers of the configuration with empty data directories:
/// each is given a vote by itself once it has caught up.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen snapshot restore konsen.backup --config cluster.yml --name node1
  zstd -dc konsen.backup.zst | konsen snapshot restore - --config cluster.yml --name node1
  konsen snapshot restore --force-new-cluster --config cluster.yml --name node2

The first needs a data directory that is empty or missing. The second works on that of a stopped node; it is for
a cluster that has lost a majority of its nodes for ever, and loses every write that only they had.")]
pub(super) struct Args {
    /// The backup; - is standard input.
    #[arg(required_unless_present = "force_new_cluster", conflicts_with = "force_new_cluster")]
    file: Option<PathBuf>,
    /// Begin anew with what this node's data directory holds; copy the directory first.
    #[arg(long)]
    force_new_cluster: bool,
    /// With --force-new-cluster: do not ask.
    #[arg(long, requires = "force_new_cluster")]
    i_understand_that_writes_may_be_lost: bool,
    /// The cluster's configuration: its servers are those of the new cluster
    #[arg(long, env = "KONSEN_CONFIG", default_value = "conf/cluster.yml", value_name = "FILE")]
    config: PathBuf,
    /// Which of its servers this is; overrides localServerName
    #[arg(long, env = "KONSEN_NAME")]
    name: Option<String>,
    /// Where log and state are kept; overrides `data`
    #[arg(long, env = "KONSEN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// How to print what was done.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// What was made.
#[derive(Serialize)]
struct Made {
    node: String,
    id: String,
    data: String,
    cluster: String,
    cluster_id: String,
    revision: u64,
    index: u64,
    term: u64,
    /// Who is to come in.
    others: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Before>,
}

/// What a directory was before it became that of a new cluster.
#[derive(Serialize)]
struct Before {
    cluster_id: String,
    voters: Vec<String>,
    /// The last entry that the node knew to be decided.
    committed: u64,
}

/// Runs the command.
pub(super) fn run(args: Args) -> Result<(), CliError> {
    let mut config = Config::load(&args.config, args.name.as_deref())?;
    warn(&config);
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if config.servers.len() > MEMBERS_MAX {
        let servers = config.servers.len();
        return Err(CliError::failed(format!(
            "servers lists {servers} nodes; a cluster has {MEMBERS_MAX} members at most"
        )));
    }
    let cluster = ClusterId(rand::rng().random());
    let check =
        IdentityCheck { cluster: config.cluster.to_string(), node: config.name.to_string() };
    let members = |id| members(&config, cluster, id);
    let owner = owner_of(&config.data);
    let made = match &args.file {
        Some(file) => {
            let (id, summary) = from_backup(file, &config, &check, members)?;
            made(&config, cluster, id, summary.revision, summary.last)
        }
        None => {
            if !args.i_understand_that_writes_may_be_lost {
                confirm(&config, &store::survey(&config.data, &check)?)?;
            }
            let (had, revision) = store::rescue(&config.data, &check, members)?;
            let before = Before {
                cluster_id: had.members.cluster.to_string(),
                voters: voters(&had.members),
                committed: had.committed.index.0,
            };
            let made = made(&config, cluster, had.id, revision, had.last);
            Made { before: Some(before), ..made }
        }
    };
    let done = match args.file {
        Some(_) => format!("{} was made", config.data.display()),
        None => format!("{} is that of a new cluster now", config.data.display()),
    };
    if let Some(owner) = owner {
        hand_over(&config.data, owner).map_err(|error| error.although(&done))?;
    }
    report(&made, args.output).map_err(|error| error.although(&done))
}

/// Makes the data directory of a backup. One that can be read twice is looked at as a whole before anything is made;
/// of another, what is made is removed again if it turns out to be unsound.
fn from_backup(
    file: &Path,
    config: &Config,
    check: &IdentityCheck,
    members: impl FnOnce(NodeId) -> Membership,
) -> Result<(NodeId, BackupSummary), CliError> {
    let restore = |backup: &mut dyn Read| {
        let restored = store::restore(backup, &config.data, check, members);
        restored.map_err(|error| unusable(named(file), error))
    };
    if file.metadata().is_ok_and(|found| found.is_file()) {
        let summary = inspect(file)?;
        return Ok((restore(&mut open(file)?)?, summary));
    }
    let mut passing = Passing { from: open(file)?, check: BackupCheck::default() };
    let id = restore(&mut passing)?;
    let summary = passing.check.finish().map_err(|error| unusable(named(file), error))?;
    Ok((id, summary))
}

/// A backup that is summed up while it is read.
struct Passing {
    from: Box<dyn Read>,
    check: BackupCheck,
}

impl Read for Passing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        // What is wrong with it, whoever reads it finds as well, and says where.
        let _ = self.check.feed(&into[..count]);
        Ok(count)
    }
}

/// Whose the data directory is to be: root makes it for whom it is, or for whom the folder is that it comes into.
fn owner_of(data: &Path) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let found = data.ancestors().skip_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let found = found.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let found = found.into_iter().next()?.metadata().ok()?;
    (found.uid() != 0).then_some((found.uid(), found.gid()))
}

/// Gives the directory and what is in it to its owner, who could not open it otherwise.
fn hand_over(data: &Path, (user, group): (u32, u32)) -> Result<(), CliError> {
    let give = |path: &Path| std::os::unix::fs::lchown(path, Some(user), Some(group));
    let all = || {
        for entry in std::fs::read_dir(data)? {
            give(&entry?.path())?;
        }
        give(data)
    };
    all().map_err(|error| {
        CliError::failed(format!("cannot give {} to user {user}: {error}", data.display()))
            .hint(format!("chown -R {user}:{group} {}", data.display()))
    })
}

fn members(config: &Config, cluster: ClusterId, id: NodeId) -> Membership {
    let hosts = config.servers.iter().map(|(name, raft)| {
        let http = config.http_servers.get(name).map(ToString::to_string).unwrap_or_default();
        (name.to_string(), Addresses { raft: raft.to_string(), http })
    });
    cluster::begin_anew(cluster, (config.name.as_str(), id), hosts)
}

fn made(config: &Config, cluster: ClusterId, id: NodeId, revision: Revision, last: LogId) -> Made {
    let others = config.servers.keys().filter(|name| **name != config.name);
    Made {
        node: config.name.to_string(),
        id: id.to_string(),
        data: config.data.display().to_string(),
        cluster: config.cluster.to_string(),
        cluster_id: cluster.to_string(),
        revision: revision.0,
        index: last.index.0,
        term: last.term.0,
        others: others.map(ToString::to_string).collect(),
        before: None,
    }
}

/// The names of those who decided.
fn voters(members: &Membership) -> Vec<String> {
    let name = |id: &NodeId| {
        let member = members.members.get(id);
        member.map_or_else(|| id.to_string(), |member| member.name.clone())
    };
    members.voters.iter().map(name).collect()
}

/// Says what there is, and asks on the terminal; without one the flag has to say it.
fn confirm(config: &Config, had: &Survivor) -> Result<(), CliError> {
    let name = config.name.to_string();
    let warning = format!(
        "{name} has entries up to {} of term {}, and knows of those up to {} that they were decided; the voters \
         were {}.\n\n\
         This makes the data directory {} that of a new cluster, in which {name} alone decides.\n\
         - Every write is lost that others acknowledged and that had not reached this node.\n\
         - A write that was never acknowledged may turn out to have happened.\n\
         - If a majority of the old cluster comes back, there are two clusters that differ for ever.\n\
         Do it only if a majority is lost for good. Do it on the survivor whose last entry has the highest term, and \
         of those the highest number. Copy its data directory first.\n\n",
        had.last.index,
        had.last.term.0,
        had.committed.index,
        voters(&had.members).join(", "),
        config.data.display()
    );
    say(&warning);
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::usage("this loses writes and was not confirmed; nothing was done")
            .hint("confirm it with --i-understand-that-writes-may-be-lost"));
    }
    say(&format!("Type {name} to go on: "));
    output::settle();
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(_) if line.trim() == name => Ok(()),
        _ => Err(CliError::new(Exit::Failed, "not confirmed; nothing was done")),
    }
}

fn report(made: &Made, output: Format) -> Result<(), CliError> {
    match output {
        Format::Json => print_json(made)?,
        Format::Raw => print(format!("{}\n", made.cluster_id).as_bytes())?,
        Format::Table => {
            let mut lines = vec![
                ("NODE", format!("{} ({}) in {}", made.node, made.id, made.data)),
                ("CLUSTER", format!("{} ({})", made.cluster, made.cluster_id)),
                ("REVISION", made.revision.to_string()),
                ("ENTRY", format!("{} of term {}", made.index, made.term)),
            ];
            if let Some(before) = &made.before {
                let voters = before.voters.join(", ");
                lines.push(("BEFORE", format!("{} (voters {voters})", before.cluster_id)));
                let more = made.index.saturating_sub(before.committed);
                lines.push((
                    "KEPT",
                    format!(
                        "{more} entries of which this node did not know whether they were decided"
                    ),
                ));
            }
            let lines: Vec<_> =
                lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
            print(columns(&lines).as_bytes())?
        }
    };
    let mut next = format!("\nNext: start {}.", made.node);
    if !made.others.is_empty() {
        next += &format!(
            " Once it serves, start {} with empty data directories:\nmove the old ones away, since they belong \
             to another cluster. Until then {} decides alone.",
            made.others.join(", "),
            made.node
        );
    }
    say(&format!("{next}\n"));
    Ok(())
}
