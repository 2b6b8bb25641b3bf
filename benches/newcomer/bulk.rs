//! How fast one stream of a QUIC connection carries bytes over loopback, with quinn as it comes and nothing else:
//! the floor for a snapshot. Usage: bulk [MIB]; prints MiB a second.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::RootCertStore;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const PIECE: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(1024), |text| text.parse())?;
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = ServerConfig::with_single_cert(vec![cert.der().clone()], key)?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));

    // A thread each, as two processes would have.
    let (tell, address) = std::sync::mpsc::channel();
    let receiver = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime
            .block_on(receive(server, &tell))
            .map_err(|error| std::io::Error::other(error.to_string()))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = runtime.block_on(send(client, address.recv()?, mib))?;
    receiver.join().map_err(|_| "the receiver panicked")??;
    println!("{:.0}", mib as f64 / took);
    Ok(())
}

async fn receive(
    server: ServerConfig,
    tell: &std::sync::mpsc::Sender<SocketAddr>,
) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::server(server, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    tell.send(endpoint.local_addr()?)?;
    let connection = endpoint.accept().await.ok_or("nobody came")?.await?;
    let (mut answer, mut stream) = connection.accept_bi().await?;
    while stream.read_chunk(usize::MAX, true).await?.is_some() {}
    answer.write_all(b"done").await?;
    answer.finish()?;
    connection.closed().await;
    Ok(())
}

async fn send(client: ClientConfig, to: SocketAddr, mib: usize) -> Result<f64, Box<dyn Error>> {
    let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    endpoint.set_default_client_config(client);
    let connection = endpoint.connect(to, "localhost")?.await?;
    let (mut stream, mut answer) = connection.open_bi().await?;
    let piece = vec![7; PIECE];
    let began = Instant::now();
    for _ in 0..mib * (1 << 20) / PIECE {
        stream.write_all(&piece).await?;
    }
    stream.finish()?;
    answer.read_to_end(16).await?;
    let took = began.elapsed().as_secs_f64();
    connection.close(0_u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(took)
}
