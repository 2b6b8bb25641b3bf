//! `konsen member`: who belongs to the cluster.

use std::time::Duration;

use serde_json::json;

use super::CliError;
use super::bundle::{Addresses, Bundle, Comes, Folder};
use super::output::say;
use super::remote::{Connection, Format, print, print_json};
use super::status::{member_table, votes};
use crate::api::{AddJson, ClusterStatus, MemberInfo, MemberStatus, Members, ReplaceJson};
use crate::client::{Client, Error};
use crate::config::{HostPort, NodeName};

/// How long `list` waits for members that are decided.
const DECIDED_SOON: Duration = Duration::from_secs(1);

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
    Undo(Undo),
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
  tar -C output/node4 -cf - . | ssh 10.0.0.4 'mkdir -p konsen && tar -C konsen -xf -'
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
/// It is refused at once by all others, and its process stops. A leader hands over first. One that is no member is
/// told of, and is as it was to be: the exit code is 0.
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
///
/// One that has a vote is told of, and is as it was to be: the exit code is 0.
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
/// For a member whose host or data directory is lost or damaged; one that answers is replaced with --force only. The
/// new host has the old one's name, an empty data directory, and the same addresses unless others are given.
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

/// Undo a change of the voters that is under way and cannot complete
///
/// Both the voters from before a change and those after it have to agree until it is complete; `konsen status` says
/// who is missing. A leader undoes a change by itself whose new voters do not answer. Where no leader can be elected
/// since one side is lost for good, --force has the node that is asked stand for election with the votes of the
/// others alone: if the lost side lives after all, and has gone on without them, there are two clusters then.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen member undo
  konsen member undo --force --endpoints http://10.0.0.1:20001")]
struct Undo {
    /// Without a leader and at any risk; ask a voter from before the change.
    #[arg(long)]
    force: bool,
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
    /// Even if the member answers and would be lost, another is awaited, or too few voters can be reached afterwards.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::List(list) => {
            let output = list.shared.output;
            show_members(&list.shared.client().await?, output).await
        }
        Command::Add(add) => add.run().await,
        Command::Remove(Remove { name, force, shared }) => {
            let client = shared.client().await?;
            let gone = |members: &Members| named(members, &name).is_none();
            let (members, done) = match client.remove_member(&name, force.force).await {
                // Removed before, perhaps by an earlier run of this command; but that is to be decided, too.
                Err(Error::NoSuchMember(text)) if client.settles(Duration::MAX, gone).await => {
                    say(&format!("{text}\n"));
                    (client.members().await?, format!("{name} is no member"))
                }
                answer => (settled(&client, answer, gone).await?, format!("{name} was removed")),
            };
            report(&members, shared.output).map_err(|error| error.although(&done))
        }
        Command::Promote(Promote { name, force, shared }) => {
            let client = shared.client().await?;
            let votes = |members: &Members| named(members, &name).is_some_and(|one| one.voter);
            let (members, done) = match client.promote_member(&name, force.force).await {
                // Before, by an earlier run of this command or by the leader itself.
                Err(Error::Refused(_)) if client.settles(Duration::ZERO, votes).await => {
                    let done = format!("{name} has a vote already");
                    say(&format!("{done}\n"));
                    (client.members().await?, done)
                }
                answer => {
                    (settled(&client, answer, votes).await?, format!("{name} was given a vote"))
                }
            };
            report(&members, shared.output).map_err(|error| error.although(&done))
        }
        Command::Replace(replace) => replace.run().await,
        Command::Undo(Undo { force, shared }) => {
            let client = shared.client().await?;
            let members = client.undo_change(force).await.map_err(failed)?;
            report(&members, shared.output).map_err(|error| error.although("the change was undone"))
        }
    }
}

impl Add {
    async fn run(self) -> Result<(), CliError> {
        let client = self.shared.client().await?;
        let addresses = Addresses { raft: self.raft_address, http: self.http_address };
        let wanted = AddJson {
            name: self.name.to_string(),
            raft_address: addresses.raft.to_string(),
            http_address: addresses.http.to_string(),
            learner: self.learner,
        };
        // What can fail here comes before the cluster is changed.
        let folder = self.bundle.prepare(&client, &self.name, Some(addresses), Comes::New).await?;
        // The cluster takes the same again, and refuses anything else.
        let answer = client.add_member(&wanted).await;
        let members = settled(&client, answer, |members| {
            named(members, &wanted.name).is_some_and(|one| {
                one.raft_address == wanted.raft_address
                    && one.http_address == wanted.http_address
                    && (one.voter || one.promote) != wanted.learner
            })
        })
        .await?;
        if awaited(folder.as_ref()).is_some() {
            // An earlier run got no further, or its folder is lost.
            say(&format!("{} is a member already, and was never seen\n", self.name));
        }
        let done = format!("{} is a member", self.name);
        if let Some(folder) = folder {
            folder.put_in_place(&done)?;
        }
        report(&members, self.shared.output).map_err(|error| error.although(&done))
    }
}

impl Replace {
    async fn run(self) -> Result<(), CliError> {
        let client = self.shared.client().await?;
        let wanted = ReplaceJson {
            raft_address: self.raft_address.as_ref().map(ToString::to_string),
            http_address: self.http_address.as_ref().map(ToString::to_string),
        };
        let addresses = self.raft_address.zip(self.http_address);
        let addresses = addresses.map(|(raft, http)| Addresses { raft, http });
        let stays = addresses.is_none();
        let before = client.members().await?;
        let before = named(&before, self.name.as_str()).and_then(|one| one.id.clone());
        let folder = self.bundle.prepare(&client, &self.name, addresses, Comes::InPlace).await?;
        let members = match awaited(folder.as_ref()) {
            Some(_) if stays => {
                say(&format!("a new {} is awaited already, and was never seen\n", self.name));
                client.members().await?
            }
            _ => {
                let name = self.name.as_str();
                let answer = client.replace_member(name, &wanted, self.force.force).await;
                let replaced = |members: &Members| {
                    // Of one that was awaited before, only the addresses show that it was moved.
                    before.is_some() && named(members, name).is_some_and(|one| one.id != before)
                };
                settled(&client, answer, replaced).await?
            }
        };
        let done = format!("a new {} is awaited in the old one's place", self.name);
        if let Some(folder) = folder {
            folder.put_in_place(&done)?;
        }
        report(&members, self.shared.output).map_err(|error| error.although(&done))
    }
}

impl Shared {
    /// A client of one cluster: members of two are neither shown nor changed together.
    async fn client(&self) -> Result<Client, CliError> {
        let connection = self.connection.clone().resolved()?;
        let several = connection.endpoints.len() > 1;
        let client = connection.client()?;
        if several {
            client.one_cluster().await?;
        }
        Ok(client)
    }
}

fn named<'a>(members: &'a Members, name: &str) -> Option<&'a MemberInfo> {
    members.members.iter().find(|member| member.name == name)
}

/// What became of a change. Where the answer was lost, as it is when the node that was asked is the one that goes, the
/// members tell whether it was made.
async fn settled(
    client: &Client,
    answer: Result<Members, Error>,
    made: impl Fn(&Members) -> bool,
) -> Result<Members, CliError> {
    match answer {
        Err(Error::Unknown(text)) if client.settles(Duration::MAX, &made).await => {
            say(&format!("no answer came ({text}), but the change was made\n"));
            Ok(client.members().await?)
        }
        answer => answer.map_err(failed),
    }
}

fn failed(error: Error) -> CliError {
    let unknown = matches!(error, Error::Unknown(_));
    let error = CliError::from(error);
    match unknown {
        true => error.hint(
            "the members may have been changed, or may yet be; `konsen member list` shows them, and commands can be \
             repeated",
        ),
        false => error,
    }
}

/// The member whose folder it is, if the cluster waits for it to show itself for the first time.
fn awaited(folder: Option<&Folder>) -> Option<&MemberStatus> {
    folder?.known.as_ref().filter(|known| known.id.is_none())
}

async fn show_members(client: &Client, output: Format) -> Result<(), CliError> {
    // One that is just being put out has an old list, and does not know that it is decided.
    let members = client.members().await?;
    if !members.decided && !client.settles(DECIDED_SOON, |_| true).await {
        say(
            "warning: the node that was asked hears no leader, or does not know whether these members are decided; \
             they may be others by now\n",
        );
    }
    match output {
        Format::Table => {
            let cluster = client.cluster().await?;
            warn(&members.warnings);
            print(member_table(&cluster).as_bytes())?;
            Ok(())
        }
        Format::Raw => report(&members, output),
        Format::Json => {
            warn(&members.warnings);
            print_json(&with_status(&members, &client.cluster().await?))
        }
    }
}

/// The members, each with all that is known of how it is.
fn with_status(members: &Members, cluster: &ClusterStatus) -> serde_json::Value {
    let mut shown = json!(members);
    for member in shown["members"].as_array_mut().into_iter().flatten() {
        let status = cluster.members.iter().find(|one| member["name"] == one.name);
        if let (Some(member), serde_json::Value::Object(status)) =
            (member.as_object_mut(), json!(status))
        {
            for (name, value) in status {
                member.entry(name).or_insert(value);
            }
        }
    }
    shown["features"] = json!(cluster.features);
    shown
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {warning}\n"));
    }
}

/// Prints the members after a change.
fn report(members: &Members, output: Format) -> Result<(), CliError> {
    warn(&members.warnings);
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
                    (false, true) => "once it has caught up",
                    (voter, _) => votes(voter, member.id.is_none()),
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
