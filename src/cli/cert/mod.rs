//! `konsen cert`: authorities and certificates.

mod renewal;
mod request;
mod revocation;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{CliError, print_made, print_text};
use crate::config::{ClusterName, Host, NodeName};
use crate::pki::{
    AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS, DAYS_MAX, Description, Kind, Overwrite,
    PeerIdentity, Role, describe, issue_authority, write_pair,
};

/// The authority, certificates, renewal, and what a file holds.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  konsen cert ca\n  konsen cert client --name alice\n  konsen cert show"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an authority: ca.crt and ca.key
    #[command(after_help = "Example:\n  konsen cert ca --dir certs --cluster konsen")]
    Ca(Ca),
    /// Make a node's certificate: NAME.crt and NAME.key
    #[command(
        after_help = "Example:\n  konsen cert node --name node1 --host 192.168.86.25 --host node1.example.org"
    )]
    Node(Node),
    /// Make a client's certificate: NAME.crt and NAME.key
    #[command(after_help = "Example:\n  konsen cert client --name alice --days 30")]
    Client(Client),
    /// Say what files hold and until when they are good
    #[command(
        after_help = "Example:\n  konsen cert show\n  konsen cert show -o json output/node1/certs/node.crt"
    )]
    Show(Show),
    Renew(renewal::Renew),
    Request(request::Request),
    Sign(request::Sign),
    Revoke(revocation::Revoke),
    Revoked(revocation::Revoked),
}

#[derive(Debug, ClapArgs)]
struct Dir {
    /// Where the authority and the certificates are kept
    #[arg(long, env = "KONSEN_CERTS", default_value = "certs")]
    dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
struct Ca {
    #[command(flatten)]
    dir: Dir,
    /// The cluster's name
    #[arg(long, env = "KONSEN_CLUSTER", default_value = "konsen")]
    cluster: ClusterName,
    /// How long it is valid
    #[arg(long, default_value_t = AUTHORITY_DAYS, value_parser = days())]
    days: u32,
    /// Replace the files that are there; what the old authority signed is then worth nothing
    #[arg(long)]
    force: bool,
}

#[derive(Debug, ClapArgs)]
struct New {
    #[command(flatten)]
    dir: Dir,
    /// The cluster's name
    #[arg(long, env = "KONSEN_CLUSTER", default_value = "konsen")]
    cluster: ClusterName,
    /// Whose certificate it is
    #[arg(long)]
    name: NodeName,
    /// How long it is valid
    #[arg(long, default_value_t = CERTIFICATE_DAYS, value_parser = days())]
    days: u32,
    /// Replace the files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, ClapArgs)]
struct Node {
    #[command(flatten)]
    new: New,
    /// A DNS name or an address that the node is reached at; repeat it for several
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,
}

#[derive(Debug, ClapArgs)]
struct Client {
    #[command(flatten)]
    new: New,
}

#[derive(Debug, ClapArgs)]
struct Show {
    #[command(flatten)]
    dir: Dir,
    /// The files; all .crt and .key files of --dir if none is given
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print it
    #[arg(short, long, env = "KONSEN_OUTPUT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    #[value(alias = "table", alias = "raw")]
    Text,
    Json,
}

fn days() -> impl clap::builder::TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX))
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Ca(ca) => {
            let (cert, key) = pair(&ca.dir.dir, "ca");
            let issued = issue_authority(&ca.cluster, ca.days)?;
            write_pair((&cert, &issued.certificate), (&key, &issued.key), overwrite(ca.force))?;
            print_made(&format!(
                "made {} and {}\nKeep the key to yourself: whoever has it can join the cluster.\n",
                cert.display(),
                key.display()
            ))
        }
        Command::Node(node) => {
            let (cert, key) = issue(&node.new, Role::Node, &node.hosts)?;
            print_made(&format!(
                "made {0} and {1}\nNext: on the host of {2}, put them and ca.crt where its cluster.yml \
                 says, certs/{{node.crt,node.key,ca.crt}} unless set.\n",
                cert.display(),
                key.display(),
                node.new.name
            ))
        }
        Command::Client(client) => {
            let (cert, key) = issue(&client.new, Role::Client, &[])?;
            print_made(&format!("made {} and {}\n", cert.display(), key.display()))
        }
        Command::Show(show) => self::show(&show),
        Command::Renew(renew) => renew.run().await,
        Command::Request(request) => request.run(),
        Command::Sign(sign) => sign.run(),
        Command::Revoke(revoke) => revoke.run().await,
        Command::Revoked(revoked) => revoked.run().await,
    }
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Replace } else { Overwrite::Never }
}

fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

fn authority(dir: &Path) -> Result<Authority, CliError> {
    let (cert, key) = pair(dir, "ca");
    let loaded = Authority::load(&cert, &key);
    loaded.map_err(|error| {
        let missing = matches!(error, crate::pki::PkiError::Missing { .. });
        let error = CliError::from(error);
        if missing { error.hint("`konsen cert ca` makes an authority") } else { error }
    })
}

fn issue(new: &New, role: Role, hosts: &[Host]) -> Result<(PathBuf, PathBuf), CliError> {
    if new.name.as_str() == "ca" {
        return Err(CliError::usage(
            "the name ca is that of the authority's files; choose another",
        ));
    }
    let dir = &new.dir.dir;
    let identity = PeerIdentity { cluster: new.cluster.clone(), role, name: new.name.clone() };
    let issued = authority(dir)?.issue(&identity, hosts, new.days)?;
    let (cert, key) = pair(dir, new.name.as_str());
    write_pair((&cert, &issued.certificate), (&key, &issued.key), overwrite(new.force))?;
    Ok((cert, key))
}

fn show(show: &Show) -> Result<(), CliError> {
    let files = if show.files.is_empty() { files_of(&show.dir.dir)? } else { show.files.clone() };
    let mut all = Vec::new();
    for file in &files {
        all.extend(describe(file)?);
    }
    match show.output {
        Format::Text => print_text(&all.iter().map(text).collect::<String>()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&all).context("cannot write JSON")?;
            print_text(&(json + "\n"))
        }
    }
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let context = || format!("cannot list {}", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "crt" || extension == "key") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::failed(format!("{}: holds no .crt and no .key", dir.display()))
            .hint("`konsen cert ca` makes an authority"));
    }
    Ok(files)
}

fn text(one: &Description) -> String {
    let mut out = format!("{}\n", one.file.display());
    let name = one.name.as_deref().unwrap_or_default();
    let cluster = one.cluster.as_deref().unwrap_or_default();
    let subject = one.subject.as_deref().unwrap_or_default();
    let what = match one.kind {
        Kind::Authority => format!("authority: {subject}"),
        Kind::Node => format!("certificate of node {name} in cluster {cluster}"),
        Kind::Client => format!("certificate of client {name} in cluster {cluster}"),
        Kind::Foreign => format!("certificate not made by konsen: {subject}"),
        Kind::Key => format!("private key, mode {}", one.mode.as_deref().unwrap_or_default()),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {what}");
    if !one.hosts.is_empty() {
        let _ = writeln!(out, "  for {}", one.hosts.join(", "));
    }
    if let (Some(from), Some(until), Some(days)) = (&one.not_before, &one.not_after, one.days_left)
    {
        let left = match days {
            ..0 => "EXPIRED".to_owned(),
            0 => "less than a day left".to_owned(),
            1 => "1 day left".to_owned(),
            _ => format!("{days} days left"),
        };
        let _ = writeln!(out, "  valid from {from} until {until} ({left})");
    }
    if let (Some(issuer), Some(serial)) = (&one.issuer, &one.serial) {
        let _ = writeln!(out, "  signed by {issuer}, serial {serial}");
    }
    out
}
