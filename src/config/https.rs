//! HTTPS of a node: which files it is served with, and whether the file itself says that there is any.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ClientAuth, Config, HostPort};
use crate::pki::{Https, PkiError};

/// What HTTPS shows and whom it takes in (PEM), where that is not what the node shows its peers and whom it trusts of
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpsFiles {
    /// The certificate; only together with its key.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The authorities that clients' certificates come from.
    pub client_authority: Option<PathBuf>,
}

/// Which keys the file has that would otherwise go by the address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Says {
    /// `http.tls`.
    pub(super) tls: bool,
    /// `http.clientAuth`.
    pub(super) client_auth: bool,
}

/// What plain HTTP means that other hosts reach.
pub(super) fn plain_warning(address: &HostPort) -> String {
    format!(
        "http.tls: false, and other hosts reach {address}: whoever is on the way reads and changes what clients send and \
         get, tokens too, and nobody can show a certificate; `tls: true` ends both"
    )
}

impl Config {
    /// The same with HTTPS and clients' certificates, unless the file says otherwise.
    #[must_use]
    pub fn with_https(mut self) -> Config {
        if !self.says.tls {
            self.http.tls = true;
        }
        if !self.says.client_auth {
            self.http.client_auth = ClientAuth::default_with(self.http.tls);
        }
        self
    }

    /// What is wrong with serving clients at `address` in place of the advertised one: other hosts would reach plain
    /// HTTP there that nobody asked for (an error), or that the file allows (a warning).
    pub fn served_at(&self, address: &HostPort) -> Result<Option<String>, String> {
        let advertised = !self.http_address().is_loopback();
        if self.http.tls || address.is_loopback() || advertised {
            return Ok(None);
        }
        match self.says.tls {
            true => Ok(Some(plain_warning(address))),
            false => Err(format!(
                "{}: http.tls is not given, and other hosts reach {address}, while {} is only for this one",
                self.file.display(),
                self.http_address()
            )),
        }
    }

    /// The files that HTTPS is served with: certificate, key, and the authorities of clients.
    pub fn https_files(&self) -> [&Path; 3] {
        let HttpsFiles { cert, key, client_authority } = &self.http.files;
        [
            cert.as_ref().unwrap_or(&self.tls.cert),
            key.as_ref().unwrap_or(&self.tls.key),
            client_authority.as_ref().unwrap_or(&self.tls.ca),
        ]
    }

    /// What HTTPS shows and whom it takes in, read and checked; none where HTTP is plain.
    pub fn https(&self) -> Result<Option<Https>, PkiError> {
        if !self.http.tls {
            return Ok(None);
        }
        let HttpsFiles { cert, key, client_authority } = &self.http.files;
        let https = match cert.as_ref().zip(key.as_ref()) {
            Some((cert, key)) => Https::load(cert, key, &self.tls.ca)?,
            None => Https::of(&self.material()?),
        };
        match client_authority {
            Some(file) => https.for_clients_of(file).map(Some),
            None => Ok(Some(https)),
        }
    }

    /// The files that are HTTPS's own, as they are and as the configuration of a node's folder names them: those that
    /// lie beside this file lie beside that one, too.
    pub fn own_https_files(&self) -> Vec<(PathBuf, PathBuf)> {
        let HttpsFiles { cert, key, client_authority } = &self.http.files;
        let own = [cert, key, client_authority].into_iter().flatten();
        own.map(|file| (file.clone(), self.beside(file))).collect()
    }

    /// A path as the file has it: relative if it lies beside the file.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        path.strip_prefix(folder).unwrap_or(path).to_owned()
    }

    /// What is to be said of keys' files that others can read.
    pub fn key_warnings(&self) -> Vec<String> {
        let means = "who can join the cluster with it";
        let own =
            self.http.files.key.as_ref().map(|key| (key, "who can pass for this node to clients"));
        let signs = "who can be any member and any client with it";
        let authority = self.tls.authority_key.as_ref().map(|key| (key, signs));
        [(&self.tls.key, means)]
            .into_iter()
            .chain(own)
            .chain(authority)
            .filter_map(|(key, means)| {
                let mode = std::fs::metadata(key).ok()?.permissions().mode() & 0o777;
                (mode & 0o077 != 0).then(|| {
                    let key = key.display();
                    format!("{key} can be read by others (mode {mode:o}), {means}: chmod 600")
                })
            })
            .collect()
    }
}
