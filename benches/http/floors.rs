//! The floors that konsen's HTTP figures are compared with: what this machine does without konsen.
//!
//! `floors serve DIR` answers on two ports until stdin ends: a constant, and a look-up in redb.
//! `floors quic` and `floors disk DIR` print medians in microseconds: of a round trip over
//! QUIC on loopback, and of an append with fdatasync. `benches/http/run.sh` uses all of them.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::{Path as PathParameter, State};
use axum::http::StatusCode;
use axum::routing::get;
use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::net::TcpListener;

/// As many keys and bytes as `benches/http/run.sh` gives konsen.
const KEYS: u32 = 10_000;
const VALUE_BYTES: usize = 256;
/// An entry of the log with such a value, about.
const ENTRY_BYTES: usize = 300;
const ROUNDS: usize = 2_000;
const WARM_UP: usize = 200;

const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", dir] => serve(Path::new(dir)).await,
        ["quic"] => {
            println!("{}", quic().await?.as_micros());
            Ok(())
        }
        ["disk", dir] => {
            println!("{}", disk(Path::new(dir))?.as_micros());
            Ok(())
        }
        _ => bail!("usage: floors serve DIR | floors quic | floors disk DIR"),
    }
}

async fn serve(dir: &Path) -> anyhow::Result<()> {
    let database = Database::create(dir.join("floor.redb"))?;
    let writing = database.begin_write()?;
    {
        let mut items = writing.open_table(ITEMS)?;
        for number in 0..KEYS {
            items.insert(format!("bench{number}").as_bytes(), &[b'v'; VALUE_BYTES][..])?;
        }
    }
    writing.commit()?;
    let constant =
        Router::new().route("/v1/kv/{key}", get(async || "v".repeat(VALUE_BYTES)).put(put));
    let looked_up =
        Router::new().route("/v1/kv/{key}", get(look_up)).with_state(Arc::new(database));
    let constant_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let redb_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{} {}", constant_listener.local_addr()?, redb_listener.local_addr()?);
    tokio::spawn(async move { axum::serve(constant_listener, constant).await });
    tokio::spawn(async move { axum::serve(redb_listener, looked_up).await });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// Reads the body and forgets it.
async fn put(_: axum::body::Bytes) -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn look_up(
    State(database): State<Arc<Database>>,
    PathParameter(key): PathParameter<String>,
) -> Result<Vec<u8>, StatusCode> {
    let read = || -> anyhow::Result<Option<Vec<u8>>> {
        let items = database.begin_read()?.open_table(ITEMS)?;
        Ok(items.get(key.as_bytes())?.map(|value| value.value().to_vec()))
    };
    match read() {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// An append of an entry's bytes, durable.
fn disk(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = std::fs::File::create(dir.join("floor.log"))?;
    let entry = [b'e'; ENTRY_BYTES];
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let began = Instant::now();
        file.write_all(&entry)?;
        file.sync_data()?;
        if round >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    Ok(median(times))
}

/// A message of an entry's bytes and its echo, on one stream.
async fn quic() -> anyhow::Result<Duration> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();

    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server)?;
    let server = quinn::ServerConfig::with_crypto(Arc::new(server));
    let server = quinn::Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    let address = server.local_addr()?;
    tokio::spawn(async move {
        let connection = server.accept().await.context("the endpoint is closed")?.await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let mut message = [0; ENTRY_BYTES];
        while receive.read_exact(&mut message).await.is_ok() {
            send.write_all(&message).await?;
        }
        anyhow::Ok(())
    });

    let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(client)));
    let connection = endpoint.connect(address, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut message = [b'e'; ENTRY_BYTES];
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let began = Instant::now();
        send.write_all(&message).await?;
        receive.read_exact(&mut message).await?;
        if round >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    Ok(median(times))
}
