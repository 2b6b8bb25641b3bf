//! TLS and QUIC settings of the connections between nodes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::NetError;

/// The protocol's name in TLS (ALPN).
pub const ALPN: &[u8] = b"konsen/1";
/// A connection on which nothing is heard for so long is dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the dialling side shows that it lives.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// The round trip assumed before one was measured: governs how soon a lost first packet is repeated.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// How many packets may arrive before one must be acknowledged at once. A node answers on a connection of
/// its own, so that acknowledgements never ride along and each costs a packet.
const ACKNOWLEDGED_LATE_MAX: u32 = 8;
/// The largest datagram that is tried, in bytes: four times Ethernet's where the way carries jumbo frames,
/// as it does within most data centres and on loopback. Ten go out together, which may be 64 KiB at most.
pub(super) const DATAGRAM_BYTES_MAX: u16 = 6_500;
/// The most requests of one peer that are served at once.
const REQUESTS_SERVED_MAX: u32 = 1100;
/// The most message streams that a peer may open: two, and as many while it changes connections.
const MESSAGE_STREAMS_MAX: u32 = 4;
/// The most connections that wait to be accepted.
const INCOMING_MAX: usize = 256;
/// The most early data of one, and of all, connections that wait to be accepted, in bytes.
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
const INCOMING_BUFFER_BYTES_TOTAL: u64 = 4 << 20;

/// A node's certificate and what it trusts.
pub struct TlsMaterial {
    /// The authorities whose certificates are accepted.
    pub ca: Vec<CertificateDer<'static>>,
    /// The node's certificate, then the intermediate ones.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the node's certificate.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for TlsMaterial {
    fn clone(&self) -> TlsMaterial {
        TlsMaterial { ca: self.ca.clone(), chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("TlsMaterial")
            .field("authorities", &self.ca.len())
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Settings for both directions, from one material.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server: quinn::ServerConfig,
    pub(super) client: quinn::ClientConfig,
    pub(super) trust: Trust,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug)]
pub(super) struct Trust(Arc<dyn ClientCertVerifier>);

impl Trust {
    /// Whether an authority that is trusted vouches for the other end of a connection, now.
    pub(super) fn vouches_for(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), rustls::Error> {
        let Some((leaf, rest)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        self.0.verify_client_cert(leaf, rest, UnixTime::now()).map(|_| ())
    }
}

impl Settings {
    pub(super) fn new(material: &TlsMaterial) -> Result<Settings, NetError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in &material.ca {
            roots
                .add(authority.clone())
                .map_err(|error| NetError::Tls(format!("an authority's certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(NetError::Tls("no authority to trust was given".to_owned()));
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| NetError::Tls(error.to_string()))?;
        Ok(Settings {
            server: server(material, &provider, verifier.clone())?,
            client: client(material, &provider, &roots)?,
            trust: Trust(verifier),
        })
    }
}

fn server(
    material: &TlsMaterial,
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<quinn::ServerConfig, NetError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| NetError::Tls(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| NetError::Tls(format!("the node's certificate and key: {error}")))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.max_early_data_size = 0;
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| NetError::Tls(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport()?;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS_SERVED_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(MESSAGE_STREAMS_MAX));
    config
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL)
        .transport_config(Arc::new(transport));
    Ok(config)
}

fn client(
    material: &TlsMaterial,
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
) -> Result<quinn::ClientConfig, NetError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| NetError::Tls(error.to_string()))?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| NetError::Tls(format!("the node's certificate and key: {error}")))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();
    let crypto =
        QuicClientConfig::try_from(tls).map_err(|error| NetError::Tls(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = transport()?;
    // Only the dialling side opens streams.
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn transport() -> Result<TransportConfig, NetError> {
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT)
        .map_err(|error| NetError::Tls(format!("the idle time-out: {error}")))?;
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(ACKNOWLEDGED_LATE_MAX));
    let mut datagrams = MtuDiscoveryConfig::default();
    datagrams.upper_bound(DATAGRAM_BYTES_MAX);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(datagrams))
        .max_idle_timeout(Some(idle))
        .ack_frequency_config(Some(acknowledgements))
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(None);
    Ok(transport)
}
