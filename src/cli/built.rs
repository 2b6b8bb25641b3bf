//! What `konsen cluster build` says at its end: what was made, how this machine remembers it, and what comes next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::administrator::{self, Administrator};
use super::cluster::copy_line;
use super::profile::Written;
use crate::config::{Config, NodeName};
use crate::pki::Authority;

/// What was built, for whoever goes on with it.
pub(super) struct Built<'a> {
    /// Who has the authority's key.
    pub(super) signers: &'a BTreeSet<NodeName>,
    pub(super) config: &'a Config,
    pub(super) authority: &'a Authority,
    pub(super) homes: &'a [PathBuf],
    pub(super) administrator: Option<&'a Administrator>,
    pub(super) certs: &'a Path,
    /// By which name this machine remembers the cluster; none: not at all.
    pub(super) profile: Option<String>,
}

impl Built<'_> {
    /// Writes the profile, and says what there is and what comes next.
    pub(super) fn told(&self) -> String {
        let mut text: String =
            self.homes.iter().map(|home| format!("made {}\n", home.display())).collect();
        if let Some(one) = self.administrator {
            text += &format!("made {}, for the first administrator\n", shown(&one.folder));
        } else if self.config.http.files.client_authority.is_some() {
            text += "no certificate was made for an administrator: http.tls.clientAuthority takes none of this authority\n";
        }
        let remembered = self.remember();
        text += &match &remembered {
            None => String::new(),
            Some(Ok(line)) => format!("{line}\n"),
            Some(Err(error)) => format!("the cluster is not remembered here: {error}\n"),
        };
        if self.config.http.tls {
            text += &format!(
                "\nThe authority's fingerprint, by which others know the cluster (--fingerprint):\n  {}\n",
                self.authority.fingerprint()
            );
        }
        let first = self.homes.first().map(|home| home.display().to_string()).unwrap_or_default();
        text += &format!(
            "\nNext: copy each folder to its host, and start it there:\n  \
             {}\n  \
             ssh HOST konsen/bootstrap.sh\n\
             or install it as a service, as konsen.service says. Then, from here:\n",
            copy_line(&first)
        );
        if let Some(Ok(_)) = remembered {
            text += "  konsen status\n";
        }
        text + &self.curl_line() + &self.secrets()
    }

    /// Writes the profile; what to say of it, or why it could not be written.
    fn remember(&self) -> Option<Result<String, String>> {
        let name = self.profile.as_ref()?;
        let profile = administrator::profile(self.config, self.authority, self.administrator);
        let origin = format!("the cluster {}, as it was built", self.config.cluster);
        Some(match profile.write(name, &origin) {
            Ok(Written { file, replaced: None }) => {
                Ok(format!("made {}, the profile that commands here use", file.display()))
            }
            Ok(Written { file, replaced: Some(before) }) => Ok(format!(
                "made {} anew, the profile that commands here use; before, it was of {before}",
                file.display()
            )),
            Err(error) => Err(error.message().to_owned()),
        })
    }

    fn curl_line(&self) -> String {
        let Some(endpoint) = administrator::endpoints(self.config).into_iter().next() else {
            return String::new();
        };
        match self.administrator {
            Some(one) => format!("  curl {} {endpoint}/v1/status\n", one.curl_options(shown)),
            None if self.config.http.tls && self.config.http.files.cert.is_none() => {
                format!(
                    "  curl --cacert {} {endpoint}/v1/status\n",
                    self.certs.join("ca.crt").display()
                )
            }
            None => format!("  curl {endpoint}/v1/status\n"),
        }
    }

    /// How the nodes' certificates are renewed.
    fn renewal(&self) -> String {
        if self.signers.is_empty() {
            return String::new();
        }
        let names: Vec<String> = self.signers.iter().map(ToString::to_string).collect();
        format!(
            "The folders of {} hold it, too: their nodes sign the next certificates of all, every {} days or so.\n",
            names.join(", "),
            self.config.tls.days * 2 / 3
        )
    }

    fn secrets(&self) -> String {
        let key = self.certs.join("ca.key");
        let admin = self.administrator.map(|one| {
            format!(" Keep {}, too: whoever has it may do everything.", shown(one.key()))
        });
        format!(
            "\nKeep {} to yourself: whoever has it can join the cluster.{}\n{}",
            key.display(),
            admin.unwrap_or_default(),
            self.renewal()
        )
    }
}

/// A path as it is written in a shell from here.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    in_shell(here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path))
}

/// A path as a shell takes it.
pub(super) fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,@%:".contains(&byte)) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
