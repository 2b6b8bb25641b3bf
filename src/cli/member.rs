//! `konsen member`: who belongs to the cluster.

use std::path::{Path, PathBuf};

use super::CliError;
use super::cluster::{self, BuildOptions};
use super::output::say;
use super::remote::{Connection, Format, print, print_json};
use super::status::member_table;
use crate::client::Client;
use crate::config::{Config, HostPort, NodeName};
use crate::http::members::{AddJson, ReplaceJson};
use crate::pki::Authority;
use crate::server::Members;

/// Show and change who belongs to the cluster
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    List(List),
    Add(Add),
    Remove(Remove),
    Promote(Promote),
    Replace(Replace),
}

/// Show the members
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  konsen member list\n\nraw prints the names alone.")]
struct List {
    #[command(flatten)]
    shared: Shared,
}

/// Take a host into the cluster, and make the folder to copy to it
///
/// The new member starts as a learner, which costs the others nothing, and is given a vote once it has caught
/// up. Its folder holds the program, its configuration, certificates, a start script and a systemd unit.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:
  konsen member add node4 --raft-address 10.0.0.4:10001 --http-address 10.0.0.4:20001
  scp -r output/node4 10.0.0.4:konsen
  ssh 10.0.0.4 konsen/bootstrap.sh")]
struct Add {
    /// The new member's name: lower-case letters, digits and hyphens.
    name: NodeName,
    /// Where it listens for its peers (UDP).
    #[arg(long, value_name = "HOST:PORT")]
    raft_address: HostPort,
    /// Where it serves clients (TCP).
    #[arg(long, value_name = "HOST:PORT")]
    http_address: HostPort,
    /// Keep it a learner: it follows and never votes.
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    bundle: Bundle,
    #[command(flatten)]
    shared: Shared,
}

/// Put a member out of the cluster
///
/// It is refused at once by all others, and its process stops. A leader hands over first.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  konsen member remove node4")]
struct Remove {
    /// Who.
    name: String,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    shared: Shared,
}

/// Give a learner a vote
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  konsen member promote node4")]
struct Promote {
    /// Who.
    name: String,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    shared: Shared,
}

/// Put a new host in the place of a lost one, and make the folder to copy to it
///
/// For a member whose host or data directory is lost or damaged. The new host has the old one's name, an empty
/// data directory, and the same addresses unless others are given.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen member replace node2
  konsen member replace node2 --raft-address 10.0.0.9:10001 --http-address 10.0.0.9:20001")]
struct Replace {
    /// Who.
    name: NodeName,
    /// Where the new host listens for its peers (UDP).
    #[arg(long, value_name = "HOST:PORT", requires = "http_address")]
    raft_address: Option<HostPort>,
    /// Where the new host serves clients (TCP).
    #[arg(long, value_name = "HOST:PORT", requires = "raft_address")]
    http_address: Option<HostPort>,
    #[command(flatten)]
    bundle: Bundle,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Clone, Debug, clap::Args)]
struct Shared {
    /// How to print the members.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
struct Force {
    /// Even if too few of the voters can be reached afterwards: the cluster may stand still until they can.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Folder")]
struct Bundle {
    /// The folder that the node's folder is made in
    #[arg(long, env = "KONSEN_OUT", default_value = "output", value_name = "DIR")]
    out: PathBuf,
    /// Where the cluster's authority is kept
    #[arg(long, env = "KONSEN_CERTS", default_value = "certs", value_name = "DIR")]
    certs: PathBuf,
    /// A configuration whose other keys the new node takes over
    #[arg(long, env = "KONSEN_CONFIG", default_value = "conf/cluster.yml", value_name = "FILE")]
    config: PathBuf,
    /// Only change the membership: its folder is made elsewhere
    #[arg(long)]
    no_folder: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::List(list) => {
            let output = list.shared.output;
            show_members(&list.shared.connection.client()?, output).await
        }
        Command::Add(add) => add.run().await,
        Command::Remove(Remove { name, force, shared }) => {
            let client = shared.connection.client()?;
            let members = client.remove_member(&name, force.force).await?;
            report(&members, shared.output)
        }
        Command::Promote(Promote { name, force, shared }) => {
            let client = shared.connection.client()?;
            let members = client.promote_member(&name, force.force).await?;
            report(&members, shared.output)
        }
        Command::Replace(replace) => replace.run().await,
    }
}

impl Add {
    async fn run(self) -> Result<(), CliError> {
        // What can fail here comes before the cluster is changed.
        let maker = self.bundle.maker()?;
        let client = self.shared.connection.client()?;
        let wanted = AddJson {
            name: self.name.to_string(),
            raft_address: self.raft_address.to_string(),
            http_address: self.http_address.to_string(),
            learner: self.learner,
        };
        let members = client.add_member(&wanted).await?;
        if let Some(maker) = maker {
            maker.make(&self.name, &members)?;
        }
        report(&members, self.shared.output)
    }
}

impl Replace {
    async fn run(self) -> Result<(), CliError> {
        let maker = self.bundle.maker()?;
        let client = self.shared.connection.client()?;
        let wanted = ReplaceJson {
            raft_address: self.raft_address.map(|address| address.to_string()),
            http_address: self.http_address.map(|address| address.to_string()),
        };
        let members = client.replace_member(self.name.as_str(), &wanted, self.force.force).await?;
        if let Some(maker) = maker {
            maker.make(&self.name, &members)?;
        }
        report(&members, self.shared.output)
    }
}

/// What the folder of a node is made of.
struct Maker {
    config: Option<Config>,
    authority: Authority,
    options: BuildOptions,
}

impl Bundle {
    /// None if no folder is wanted.
    fn maker(self) -> Result<Option<Maker>, CliError> {
        if self.no_folder {
            return Ok(None);
        }
        let (cert, key) = (self.certs.join("ca.crt"), self.certs.join("ca.key"));
        let authority = Authority::load(&cert, &key).map_err(|error| {
            CliError::from(error).hint(
                "the new node's certificate comes from the cluster's authority: name its folder with --certs, \
                 or use --no-folder and make the node's folder where the authority is",
            )
        })?;
        let config = if self.config.exists() { Some(cluster::load(&self.config)?) } else { None };
        let options = BuildOptions {
            config: self.config,
            out: self.out,
            certs: self.certs,
            keep_certificates: true,
            with_binary: true,
        };
        Ok(Some(Maker { config, authority, options }))
    }
}

impl Maker {
    /// Makes the folder of `name`, which `members` has already.
    fn make(self, name: &NodeName, members: &Members) -> Result<(), CliError> {
        let mut text = String::from("join: true\n");
        if let Some(config) = &self.config {
            text += &format!("cluster: {}\n", config.cluster);
        }
        text += "servers:\n";
        for member in &members.members {
            text += &format!("  {}: \"{}\"\n", member.name, member.raft_address);
        }
        text += "httpServers:\n";
        for member in &members.members {
            text += &format!("  {}: \"{}\"\n", member.name, member.http_address);
        }
        let fresh = Config::parse(Path::new("cluster.yml"), &text, Some(name.as_str()))?;
        let config = match self.config {
            None => fresh,
            Some(config) => fresh.with_keys_of(config),
        };
        let origin = "made when it was taken into the cluster";
        let home = cluster::build_node(&config, name, &self.authority, origin, &self.options)?;
        let text = format!(
            "made {0}\n\nNext: copy it to its host, and start it there:\n  scp -r {0} HOST:konsen\n  \
             ssh HOST konsen/bootstrap.sh\n\n",
            home.display()
        );
        say(&text);
        Ok(())
    }
}

async fn show_members(client: &Client, output: Format) -> Result<(), CliError> {
    match output {
        Format::Table => {
            let cluster = client.cluster().await?;
            print(member_table(&cluster).as_bytes())?;
            Ok(())
        }
        _ => report(&client.members().await?, output),
    }
}

/// Prints the members after a change.
fn report(members: &Members, output: Format) -> Result<(), CliError> {
    for warning in &members.warnings {
        say(&format!("warning: {warning}\n"));
    }
    match output {
        Format::Json => print_json(members)?,
        Format::Raw => {
            let names = members.members.iter().map(|member| format!("{}\n", member.name));
            print(names.collect::<String>().as_bytes())?
        }
        Format::Table => {
            let mut rows =
                vec![["MEMBER", "VOTER", "ID", "RAFT", "HTTP"].map(str::to_owned).to_vec()];
            for member in &members.members {
                let voter = match (member.voter, member.promote) {
                    (true, _) => "yes",
                    (false, true) => "once it has caught up",
                    (false, false) => "no",
                };
                rows.push(vec![
                    member.name.clone(),
                    voter.to_owned(),
                    member.id.clone().unwrap_or_else(|| "not seen yet".to_owned()),
                    member.raft_address.clone(),
                    member.http_address.clone(),
                ]);
            }
            print(super::remote::columns(&rows).as_bytes())?
        }
    }
    Ok(())
}
