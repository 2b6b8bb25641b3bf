//! The look at a node's certificates: renewed ones come into use without a restart, and who ends soon is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::config::Config;
use crate::net::Net;
use crate::pki;
use crate::server::certificates::{Served, tls_material};
use crate::server::renewal::Renewal;

/// How often to look whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often certificates that end soon are told of.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The files as they were when the node read them, and the signal to read them again.
#[derive(Debug)]
pub(crate) struct Files {
    node: Contents,
    https: Contents,
    hang_up: Option<Signal>,
}

/// The bytes of an authority's file, a certificate's and a key's; none of one that cannot be read.
type Contents = [Option<Vec<u8>>; 3];

/// Where renewed certificates go.
pub(crate) struct Users {
    pub(crate) net: Net,
    pub(crate) served: Served,
    /// Tells of a certificate that the node has renewed.
    pub(crate) renewal: Arc<Renewal>,
}

impl Files {
    /// To be called before the files are used, so that no change is missed, and as early as SIGHUP may
    /// come, which ends a process that does not expect it.
    pub(crate) fn note(config: &Config) -> Files {
        let [node, https] = contents(config);
        Files { node, https, hang_up: signal(SignalKind::hangup()).ok() }
    }

    /// Reads the files again every half minute and at SIGHUP. Files that cannot be used change nothing
    /// but the log, and those between nodes do not keep those of HTTPS from being used, nor the other way round. Tells
    /// once a day of those that end soon.
    pub(crate) async fn follow(mut self, users: Users, config: Arc<Config>) {
        users.served.facts.load().tell();
        let mut told = Instant::now();
        loop {
            let asked = async {
                match &mut self.hang_up {
                    Some(hang_up) => drop(hang_up.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asked => {}
                () = users.renewal.installed.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            if told.elapsed() >= WARN_EVERY {
                users.served.facts.load().tell();
                told = Instant::now();
            }
            let [node, https] = contents(&config);
            let (node_changed, https_changed) = (node != self.node, https != self.https);
            (self.node, self.https) = (node, https);
            let mut changed = false;
            if node_changed {
                match users.renew_between_nodes(&config) {
                    Ok(()) => changed = true,
                    Err(error) => {
                        tracing::warn!("the certificates have changed and cannot be used: {error}");
                        // What HTTPS shows too cannot be used there either, and need not be told twice.
                        if config.http.files.cert.is_none() {
                            continue;
                        }
                    }
                }
            }
            if https_changed && config.http.tls {
                match users.served.renew_https(&config) {
                    Ok(()) => {
                        tracing::info!("new certificates of HTTPS are in use");
                        changed = true;
                    }
                    Err(error) => tracing::warn!(
                        "the certificates of http.tls have changed and cannot be used, so the earlier ones stay in use: \
                         {error}"
                    ),
                }
            }
            if changed {
                users.served.facts.load().tell();
                told = Instant::now();
            }
        }
    }
}

impl Users {
    fn renew_between_nodes(&self, config: &Config) -> Result<(), String> {
        let material = config.material().map_err(|error| error.to_string())?;
        let facts = self.served.facts.load().with_node(&material);
        self.net.reload_tls(tls_material(material)).map_err(|error| error.to_string())?;
        self.served.facts.store(Arc::new(facts));
        tracing::info!(expires = self.net.certificate_expires(), "new certificates are in use");
        Ok(())
    }
}

/// The bytes of the files between nodes, and of those of HTTPS.
fn contents(config: &Config) -> [Contents; 2] {
    // A key that waits for its certificate takes its place once that is there; the pair can be used before, too.
    if let Err(error) = pki::settle(&config.tls.cert, &config.tls.key) {
        tracing::debug!(%error, "the files of the certificate are not looked after");
    }
    let read = |path: &Path| std::fs::read(path).ok();
    let node = [&config.tls.ca, &config.tls.cert, &config.tls.key];
    [node.map(|path| read(path)), config.https_files().map(read)]
}
