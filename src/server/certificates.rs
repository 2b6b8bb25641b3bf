//! Renewed certificates come into use without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::net::{Net, TlsMaterial};
use crate::pki::Material;

/// How often to look whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the network needs of a node's certificates.
pub(super) fn tls_material(material: Material) -> TlsMaterial {
    TlsMaterial { ca: material.ca, chain: material.chain, key: material.key }
}

/// The files as they were when the node read them, and the signal to read them again.
#[derive(Debug)]
pub(super) struct Files {
    known: [Option<Vec<u8>>; 3],
    hang_up: Option<Signal>,
}

impl Files {
    /// To be called before the files are used, so that no change is missed, and as early as SIGHUP may
    /// come, which ends a process that does not expect it.
    pub(super) fn note(config: &Config) -> Files {
        Files { known: contents(config), hang_up: signal(SignalKind::hangup()).ok() }
    }

    /// Reads the files again every half minute and at SIGHUP. Files that cannot be used change nothing
    /// but the log.
    pub(super) async fn follow(
        mut self,
        net: Net,
        https: watch::Sender<Option<Arc<rustls::ServerConfig>>>,
        config: Arc<Config>,
    ) {
        loop {
            let asked = async {
                match &mut self.hang_up {
                    Some(hang_up) => drop(hang_up.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asked => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            let now = contents(&config);
            if now == self.known {
                continue;
            }
            self.known = now;
            let read = config.material().and_then(|material| Ok((material, config.http_tls()?)));
            let (material, http_tls) = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!("the certificates have changed and cannot be used: {error}");
                    continue;
                }
            };
            match net.reload_tls(tls_material(material)) {
                Ok(()) => {
                    https.send_replace(http_tls);
                    tracing::info!(
                        expires = net.certificate_expires(),
                        "new certificates are in use"
                    );
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
}

/// The files' bytes; none for one that cannot be read now.
fn contents(config: &Config) -> [Option<Vec<u8>>; 3] {
    let read = |path: &Path| std::fs::read(path).ok();
    [read(&config.tls.ca), read(&config.tls.cert), read(&config.tls.key)]
}
