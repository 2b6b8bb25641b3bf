//! `konsen serve`: one node.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args as ClapArgs;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::descriptors;
use super::error::CliError;
use super::logging::{LogArgs, interrupted};
use super::notify;
use crate::config::{Config, HostPort};
use crate::http;
use crate::server::{Ending, Server, StartError};
use crate::store::{Life, StoreError};

/// How many connections of clients wait in the system's queue, as far as that allows it: with fewer than come at once some
/// would be cut off before anybody has seen them.
const BACKLOG: u32 = 4096;

/// Runs one node of a cluster.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  konsen serve --config conf/cluster.yml --name node1")]
pub struct Args {
    /// The cluster's configuration
    #[arg(
        long,
        env = "KONSEN_CONFIG",
        default_value = "conf/cluster.yml",
        alias = "cluster_config_path",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Which of its servers this is; overrides localServerName
    #[arg(long, env = "KONSEN_NAME")]
    name: Option<String>,
    /// Where log and state are kept; overrides `data`
    #[arg(long, env = "KONSEN_DATA", alias = "db_dir", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen for peers here (UDP) instead of on the advertised address
    #[arg(long, env = "KONSEN_LISTEN", value_name = "HOST:PORT")]
    listen: Option<HostPort>,
    /// Listen for clients here (TCP) instead of on the advertised address
    #[arg(long, env = "KONSEN_HTTP_LISTEN", value_name = "HOST:PORT")]
    http_listen: Option<HostPort>,
    /// Stop when standard input ends: for supervisors
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the node until it is told to stop, or until its disk fails.
pub async fn run(args: Args) -> Result<(), CliError> {
    args.log.start().map_err(CliError::usage)?;
    let config = Arc::new(in_force(&args).await?);
    let http_address = args.http_listen.as_ref().unwrap_or(config.http_address());

    // The HTTP port first: it is the cheapest thing that can fail.
    let listener = listen(http_address).await?;
    let life = Arc::<Life>::default();
    let asking = tokio::spawn(notify::ask_for_time(life.clone()));
    let started = Server::start_with(config.clone(), life.clone()).await;
    asking.abort();
    let mut server = started.map_err(|error| match error {
        StartError::Store(error) => failed(error, &config),
        error => error.into(),
    })?;
    tracing::info!(
        node = %config.name,
        cluster = %config.cluster,
        http = %http_address,
        tls = server.https().borrow().is_some(),
        "serving"
    );
    let stop = CancellationToken::new();
    let handle = server.handle();
    let tls = server.https();
    let mut http = tokio::spawn({
        let stop = stop.clone();
        async move {
            let limits = handle.limits().clone();
            http::serve(listener, http::router(handle), tls, &limits, stop).await
        }
    });
    notify::ready();
    let alive = tokio::spawn(notify::keep_alive(server.handle()));
    let end = tokio::select! {
        () = asked_to_stop(args.stop_with_stdin) => None,
        ending = server.ended() => Some(ending),
        ended = &mut http => return Err(http_ended(ended)),
    };
    alive.abort();
    notify::stopping();
    let asking = tokio::spawn(notify::ask_for_time(life));
    stop.cancel();
    say_why(end, &config)?;
    // What is in flight ends while this node can still carry it out.
    http.await.context("the HTTP server panicked")?.context("the HTTP server failed")?;
    server.stop().await.map_err(|error| failed(error, &config))?;
    asking.abort();
    tracing::info!("stopped");
    Ok(())
}

/// The configuration as the arguments and the system leave it. What is odd about it is told.
async fn in_force(args: &Args) -> Result<Config, CliError> {
    let mut config = Config::load(&args.config, args.name.as_deref())?;
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", args.config.display());
    }
    config.limits.connections = granted_connections(config.limits.connections);
    for warning in config.key_warnings() {
        tracing::warn!("{warning}");
    }
    if let Some(address) = &args.http_listen {
        let served = config.served_at(address).map_err(|error| {
            CliError::failed(error).hint(
                "write `http: { tls: true }` there for HTTPS, or `http: { tls: false }` for plain text that everybody on \
                 the way can read and change",
            )
        })?;
        if let Some(warning) = served {
            tracing::warn!("{}: {warning}", args.config.display());
        }
    }
    let raft_address = args.listen.as_ref().unwrap_or(config.raft_address());
    if !raft_address.is_unspecified() {
        for obstacle in &config.obstacles {
            tracing::warn!("{}: {obstacle}", args.config.display());
        }
    }
    config.listen = Some(raft_address.resolve().await?);
    Ok(config)
}

/// How many of the connections that are wanted the system has descriptors for.
fn granted_connections(wanted: usize) -> usize {
    let granted = descriptors::raise(wanted);
    if granted.connections < wanted {
        tracing::warn!(
            "limits.connections is {}, but the process may have only {} files open: at most {} clients are served at a \
             time; raise the hard limit (LimitNOFILE, ulimit -Hn)",
            wanted,
            granted.descriptors.unwrap_or_default(),
            granted.connections
        );
    }
    tracing::info!(
        descriptors = granted.descriptors,
        connections = granted.connections,
        "limits in force"
    );
    granted.connections
}

/// The HTTP server is to end only when it is told to.
fn http_ended(ended: Result<io::Result<()>, JoinError>) -> CliError {
    let why = match ended {
        Ok(Ok(())) => "for no reason that it told".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    CliError::failed(format!("the HTTP server ended: {why}"))
}

/// Says why the node stops, which is an error where its disk or its thread failed. None: it was asked to.
fn say_why(end: Option<Ending>, config: &Config) -> Result<(), CliError> {
    match end {
        Some(Ending::Failed(Some(error))) => return Err(failed(error, config)),
        Some(Ending::Failed(None)) => return Err(CliError::failed("the replica thread ended")),
        Some(Ending::Removed { replaced: true }) => tracing::warn!(
            "{} was replaced in the cluster, where another host has its name or is to have it, and stops; its \
             data directory {} is not needed any more",
            config.name,
            config.data.display()
        ),
        Some(Ending::Removed { replaced: false }) => tracing::warn!(
            "{} was removed from the cluster, and stops; to take it in again, use `konsen member add` and \
             start it with an empty data directory (this one is {})",
            config.name,
            config.data.display()
        ),
        None => tracing::info!("stopping"),
    }
    Ok(())
}

/// Where the disk failed, and for a file that is damaged what to do about it.
fn failed(error: StoreError, config: &Config) -> CliError {
    let Some(file) = error.damaged_file() else { return error.into() };
    let path = config.data.join(file);
    let failed = CliError::failed(format!("{}: {error}", path.display()));
    if config.servers.len() == 1 && !config.join {
        return failed.hint(format!(
            "no other node has what this one had: move {} away and restore a backup (`konsen snapshot restore`)",
            config.data.display()
        ));
    }
    failed.hint(format!(
        "the other nodes have all that this one had: run `konsen member replace {}` at one that runs, then \
         start this node with an empty data directory",
        config.name
    ))
}

async fn asked_to_stop(with_stdin: bool) {
    let stdin_ended = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        let (ended, end) = tokio::sync::oneshot::channel();
        // A thread of its own, since reading from standard input cannot be given up.
        std::thread::spawn(move || {
            let read = io::copy(&mut io::stdin().lock(), &mut io::sink());
            if let Err(error) = read {
                tracing::warn!(%error, "standard input cannot be read");
            }
            // Nobody listens any more if another signal came first.
            let _ = ended.send(());
        });
        let _ = end.await;
    };
    tokio::select! {
        () = interrupted() => {}
        () = stdin_ended => {}
    }
}

async fn listen(address: &HostPort) -> Result<TcpListener, CliError> {
    let address_of = address.resolve().await?;
    let bind = || {
        let socket = match address_of {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A node that starts again need not wait until the connections of the one before are forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address_of)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            CliError::failed(format!("the HTTP address {address} is in use by another process"))
                .hint("stop that process, or choose another port in httpServers or --http-listen")
        }
        _ => CliError::failed(format!("cannot listen for HTTP on {address}: {error}")),
    })
}
