//! `konsen cert renew`: the next certificate of somebody who has one.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::super::output::say;
use super::super::remote::Connection;
use super::{Dir, authority, days, pair};
use crate::cli::{CliError, print_made, print_text};
use crate::client::Client;
use crate::config::{Host, NodeName};
use crate::pki::{
    CERTIFICATE_DAYS, Kind, Overwrite, PeerIdentity, describe, read_certificates, write_pair,
};

/// How long one member may take to renew its certificate: it may have to ask several for a signature.
const RENEW_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Replace a certificate and its key by new ones for the same owner and hosts
///
/// With a file or --name where the authority's key is: makes both here. With --member or --all the members do it
/// themselves, by a new key that stays on their hosts: that takes a member that has the authority's key (`konsen cluster
/// build --authority inside`).
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  konsen cert renew --name node1\n  konsen cert renew output/node1/certs/node.crt\n  konsen cert renew --all"
)]
#[group(required = true, multiple = false, id = "which", args = ["name", "file", "member", "all"])]
pub(super) struct Renew {
    #[command(flatten)]
    dir: Dir,
    /// The certificate NAME.crt of --dir
    #[arg(long)]
    name: Option<NodeName>,
    /// The certificate's file; its key lies beside it, as .key
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Have this member renew its own
    #[arg(long, value_name = "NAME")]
    member: Option<NodeName>,
    /// Have each member renew its own, one after the other
    #[arg(long)]
    all: bool,
    /// How long the new one is valid; of members the signer's configuration says that
    #[arg(long, default_value_t = CERTIFICATE_DAYS, value_parser = days(), conflicts_with_all = ["member", "all"])]
    days: u32,
    #[command(flatten)]
    connection: Connection,
}

impl Renew {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let names = match (&self.member, self.all) {
            (None, false) => return self.here(),
            (Some(name), _) => Some(vec![name.to_string()]),
            (None, true) => None,
        };
        let mut connection = self.connection;
        connection.timeout = connection.timeout.max(RENEW_TIME);
        let client = connection.client()?;
        let names = match names {
            Some(names) => names,
            None => client.members().await?.members.into_iter().map(|one| one.name).collect(),
        };
        by_members(&client, &names).await
    }

    /// With the authority's key.
    fn here(self) -> Result<(), CliError> {
        let dir = &self.dir.dir;
        let cert = match (&self.file, &self.name) {
            (Some(file), _) => file.clone(),
            (None, Some(name)) => pair(dir, name.as_str()).0,
            (None, None) => return Err(CliError::usage("give --name or a file")),
        };
        let key = cert.with_extension("key");
        if key == cert {
            return Err(CliError::usage(format!(
                "{}: give the certificate, not its key",
                cert.display()
            )));
        }
        let certificates = read_certificates(&cert)?;
        let described = describe(&cert)?;
        let (Some(leaf), Some(described)) = (certificates.first(), described.first()) else {
            return Err(CliError::failed(format!("{}: holds no certificate", cert.display())));
        };
        if described.kind == Kind::Authority {
            return Err(CliError::failed(format!("{}: is an authority", cert.display())).hint(
                "a new authority needs new certificates for all: `konsen cert ca --force`, then `konsen cluster build`",
            ));
        }
        let identity = PeerIdentity::from_certificate(leaf)
            .map_err(|error| CliError::failed(format!("{}: {error}", cert.display())))?;
        let hosts: Vec<Host> =
            described.hosts.iter().filter_map(|host| host.parse().ok()).collect();
        let issued = authority(dir)?.issue(&identity, &hosts, self.days)?;
        write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Replace)?;
        let until = describe(&cert)?.into_iter().next().and_then(|one| one.not_after);
        print_made(&format!(
            "renewed {} and {}: {} {}, until {}\n",
            cert.display(),
            key.display(),
            identity.role,
            identity.name,
            until.unwrap_or_default()
        ))
    }
}

/// One after the other, so that what is wrong with one is seen before all have tried.
async fn by_members(client: &Client, names: &[String]) -> Result<(), CliError> {
    let mut failed = Vec::new();
    for name in names {
        match client.renew_member(name).await {
            Ok(renewed) => print_text(&format!("{name}: renewed, until {}\n", renewed.expires))?,
            Err(error) if names.len() == 1 => return Err(error.into()),
            Err(error) => {
                say(&format!("{name}: not renewed: {error}\n"));
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let (failed, of) = (failed.join(", "), names.len());
    Err(CliError::failed(format!("of {of} members these were not renewed: {failed}"))
        .hint("what was renewed stays so; `konsen status` says what the others wait for"))
}
