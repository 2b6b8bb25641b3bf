//! `konsen cert request` and `konsen cert sign`: certificates for keys that stay where they were made.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{Dir, authority, days, overwrite};
use crate::cli::{CliError, print_made};
use crate::config::{ClusterName, Host, NodeName};
use crate::pki::{
    CERTIFICATE_DAYS, PeerIdentity, Requested, Role, new_key, request, write_certificate,
    write_pair,
};

/// Make a key and a request for its certificate: NAME.key and NAME.csr
///
/// The key stays where it was made; the request goes to where the authority is, and its certificate comes back.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  konsen cert request --name node4 --host 10.0.0.4\n  konsen cert request --client --name alice"
)]
pub(super) struct Request {
    #[command(flatten)]
    dir: Dir,
    /// The cluster's name
    #[arg(long, env = "KONSEN_CLUSTER", default_value = "konsen")]
    cluster: ClusterName,
    /// Whose certificate it is to be
    #[arg(long)]
    name: NodeName,
    /// A client's, not a node's
    #[arg(long, conflicts_with = "hosts")]
    client: bool,
    /// A DNS name or an address that the node is reached at; repeat it for several
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,
    /// Replace the files that are there
    #[arg(long)]
    force: bool,
}

/// Sign a request for a certificate, where the authority's key is
///
/// A node whose certificate ends makes such a request beside it, as node.csr, if no member has the authority's key. What
/// this prints says whom the certificate stands for: sign nothing that you did not expect.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  konsen cert sign --request node.csr --out node.crt")]
pub(super) struct Sign {
    #[command(flatten)]
    dir: Dir,
    /// The request
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Where the certificate goes; beside the request, as .crt, if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long it is valid
    #[arg(long, default_value_t = CERTIFICATE_DAYS, value_parser = days())]
    days: u32,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
}

impl Request {
    pub(super) fn run(self) -> Result<(), CliError> {
        let role = if self.client { Role::Client } else { Role::Node };
        let identity = PeerIdentity { cluster: self.cluster, role, name: self.name };
        let file = |end: &str| self.dir.dir.join(format!("{}.{end}", identity.name));
        let (key, csr) = (new_key()?, file("csr"));
        let made = request(&identity, &self.hosts, &key)?;
        write_pair((&csr, &made), (&file("key"), &key), overwrite(self.force))?;
        print_made(&format!(
            "made {} and {}\nNext: where the authority is, `konsen cert sign --request {}.csr`; what that makes belongs \
             beside the key.\n",
            csr.display(),
            file("key").display(),
            identity.name
        ))
    }
}

impl Sign {
    pub(super) fn run(self) -> Result<(), CliError> {
        let bytes = std::fs::read(&self.request).map_err(|error| {
            CliError::failed(format!("{}: cannot be read: {error}", self.request.display()))
        })?;
        let requested = Requested::read(&bytes)
            .map_err(|error| CliError::failed(format!("{}: {error}", self.request.display())))?;
        let life = time::Duration::days(self.days.into());
        let (identity, hosts) = (&requested.identity, &requested.hosts);
        let signed = authority(&self.dir.dir)?.sign(&requested, identity, hosts, life)?;
        let out = self.out.unwrap_or_else(|| self.request.with_extension("crt"));
        write_certificate(&out, &signed, overwrite(self.force))?;
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        print_made(&format!(
            "made {}: {} {} of the cluster {}, for {}\n\
             Next: put it where the request comes from, in the place of the certificate that ends; a node that runs has it \
             in use within half a minute.\n",
            out.display(),
            identity.role,
            identity.name,
            identity.cluster,
            if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") }
        ))
    }
}
