//! The look at a node's certificates: renewed ones come into use without a restart, and who ends soon is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::net::Net;
use crate::pki::Admits;
use crate::server::certificates::{Facts, tls_material};

/// How often to look whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often certificates that end soon are told of.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The files as they were when the node read them, and the signal to read them again.
#[derive(Debug)]
pub(crate) struct Files {
    known: [Option<Vec<u8>>; 3],
    hang_up: Option<Signal>,
}

/// Where renewed certificates go.
pub(crate) struct Users {
    pub(crate) net: Net,
    pub(crate) https: watch::Sender<Option<Arc<rustls::ServerConfig>>>,
    pub(crate) admits: Admits,
    pub(crate) facts: Arc<ArcSwap<Facts>>,
}

impl Files {
    /// To be called before the files are used, so that no change is missed, and as early as SIGHUP may
    /// come, which ends a process that does not expect it.
    pub(crate) fn note(config: &Config) -> Files {
        Files { known: contents(config), hang_up: signal(SignalKind::hangup()).ok() }
    }

    /// Reads the files again every half minute and at SIGHUP. Files that cannot be used change nothing
    /// but the log. Tells once a day of those that end soon.
    pub(crate) async fn follow(mut self, users: Users, config: Arc<Config>) {
        users.facts.load().tell();
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
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            if told.elapsed() >= WARN_EVERY {
                users.facts.load().tell();
                told = Instant::now();
            }
            let now = contents(&config);
            if now == self.known {
                continue;
            }
            self.known = now;
            let read = config
                .material()
                .and_then(|material| Ok((material, config.http_tls(users.admits.clone())?)));
            let (material, http_tls) = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!("the certificates have changed and cannot be used: {error}");
                    continue;
                }
            };
            let facts = Facts::of(&material);
            match users.net.reload_tls(tls_material(material)) {
                Ok(()) => {
                    users.https.send_replace(http_tls);
                    tracing::info!(
                        expires = users.net.certificate_expires(),
                        "new certificates are in use"
                    );
                    facts.tell();
                    told = Instant::now();
                    users.facts.store(Arc::new(facts));
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
