//! Renewed certificates come into use without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::net::{Net, TlsMaterial};
use crate::pki::Material;

/// How often to look whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the network needs of a node's certificates.
pub(super) fn tls_material(material: Material) -> TlsMaterial {
    TlsMaterial { ca: material.ca, chain: material.chain, key: material.key }
}

/// Reads the files again every half minute and at SIGHUP. Files that cannot be used change nothing but
/// the log.
pub(super) async fn follow(net: Net, config: Arc<Config>) {
    let mut hang_up = signal(SignalKind::hangup()).ok();
    let mut known = contents(&config);
    loop {
        let asked = async {
            match &mut hang_up {
                Some(hang_up) => drop(hang_up.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = asked => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let now = contents(&config);
        if now == known {
            continue;
        }
        known = now;
        let material = match config.material() {
            Ok(material) => material,
            Err(error) => {
                tracing::warn!("the certificates have changed and cannot be used: {error}");
                continue;
            }
        };
        match net.reload_tls(tls_material(material)) {
            Ok(()) => tracing::info!(
                expires = net.certificate_expires(),
                "new certificates are in use between nodes"
            ),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// The files' bytes; none for one that cannot be read now.
fn contents(config: &Config) -> [Option<Vec<u8>>; 3] {
    let read = |path: &Path| std::fs::read(path).ok();
    [read(&config.tls.ca), read(&config.tls.cert), read(&config.tls.key)]
}
