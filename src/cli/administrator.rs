//! The first administrator of a cluster: a client's certificate from its authority, and how the cluster is reached with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::CliError;
use super::profile::Profile;
use crate::client::{Fingerprint, TlsFiles};
use crate::config::{ClientAuth, Config, HostPort, NodeName};
use crate::pki::{
    self, Authority, CERTIFICATE_DAYS, Material, Overwrite, PeerIdentity, Role, read_certificates,
    write_certificate, write_pair,
};

/// The administrator's name, and that of the folder.
pub(super) const NAME: &str = "admin";

/// The files of an administrator. Paths are absolute.
#[derive(Clone, Debug)]
pub(super) struct Administrator {
    pub(super) folder: PathBuf,
    /// Where HTTPS shows a certificate of it.
    ca: Option<PathBuf>,
    cert: PathBuf,
    key: PathBuf,
}

impl Administrator {
    /// Refuses nodes whose folder would be the administrator's.
    pub(super) fn check_names(config: &Config) -> Result<(), CliError> {
        match config.servers.contains_key(NAME) {
            false => Ok(()),
            true => Err(CliError::failed(format!(
                "{}: a node is called {NAME}, and its folder would be the administrator's",
                config.file.display()
            ))
            .hint("give the node another name in servers and httpServers")),
        }
    }

    /// Makes the folder in `out`; what is there stays if it is good and may. None where HTTPS takes no certificate of this
    /// authority.
    pub(super) fn make(
        config: &Config,
        authority: &Authority,
        out: &Path,
        keep: bool,
    ) -> Result<Option<Administrator>, CliError> {
        let asks = config.http.tls && config.http.client_auth != ClientAuth::None;
        if !asks || !takes_in(config, authority) {
            return Ok(None);
        }
        let folder = out.join(NAME);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let [ca, cert, key] = ["ca.crt", "admin.crt", "admin.key"].map(|file| folder.join(file));
        write_certificate(&ca, authority.certificate(), Overwrite::Replace)?;
        let name = NAME.parse().map_err(|error| CliError::failed(format!("{NAME}: {error}")))?;
        let identity = PeerIdentity { cluster: config.cluster.clone(), role: Role::Client, name };
        let good =
            Material::load(&ca, &cert, &key).is_ok_and(|material| material.identity == identity);
        if !(good && keep) {
            let issued = authority.issue(&identity, &[], CERTIFICATE_DAYS)?;
            write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Replace)?;
        }
        let ca = config.http.files.cert.is_none().then_some(ca);
        Ok(Some(Administrator { folder, ca, cert, key }))
    }

    /// The options that curl takes.
    pub(super) fn curl_options(&self, shown: impl Fn(&Path) -> String) -> String {
        let ca = self.ca.as_ref().map(|ca| format!("--cacert {} ", shown(ca)));
        format!("{}--cert {} --key {}", ca.unwrap_or_default(), shown(&self.cert), shown(&self.key))
    }

    pub(super) fn key(&self) -> &Path {
        &self.key
    }

    /// What a client shows and trusts with them.
    pub(super) fn tls_files(&self) -> TlsFiles {
        let [cert, key] = [&self.cert, &self.key].map(|path| Some(path.clone()));
        TlsFiles { ca: self.ca.clone(), fingerprint: None, cert, key }
    }
}

/// Whether HTTPS takes certificates of this authority.
fn takes_in(config: &Config, authority: &Authority) -> bool {
    let Some(file) = &config.http.files.client_authority else { return true };
    let is_it = |one: &_| pki::fingerprint(one) == authority.fingerprint();
    read_certificates(file).is_ok_and(|all| all.iter().any(is_it))
}

/// How to reach the nodes of a configuration: by the administrator's certificate, where there is one, and the authority's
/// fingerprint, where HTTPS shows certificates of that authority.
pub(super) fn profile(
    config: &Config,
    authority: &Authority,
    administrator: Option<&Administrator>,
) -> Profile {
    let ours = config.http.tls && config.http.files.cert.is_none();
    let fingerprint = || authority.fingerprint().parse::<Fingerprint>().ok();
    Profile {
        endpoints: endpoints(config),
        cacert: None,
        fingerprint: ours.then(fingerprint).flatten(),
        cert: administrator.map(|one| one.cert.clone()),
        key: administrator.map(|one| one.key.clone()),
        token: None,
    }
}

/// Where the nodes serve clients. One that listens on all addresses is reached where its peers reach it.
pub(super) fn endpoints(config: &Config) -> Vec<String> {
    let scheme = if config.http.tls { "https" } else { "http" };
    let endpoint = |(name, http): (&NodeName, &HostPort)| match config.servers.get(name) {
        Some(raft) if http.is_unspecified() => {
            let raft = raft.to_string();
            let host = raft.rsplit_once(':').map_or(raft.as_str(), |(host, _)| host);
            format!("{scheme}://{host}:{}", http.port())
        }
        _ => format!("{scheme}://{http}"),
    };
    config.http_servers.iter().map(endpoint).collect()
}
