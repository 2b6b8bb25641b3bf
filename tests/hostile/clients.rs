//! HTTP/1 by hand and HTTP/2 by its frames' library, from an address that others do not have.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Whose connections the attacks are.
const ATTACKER: [u8; 4] = [127, 0, 0, 9];

/// A connection of the attacker; it reads little by little.
pub async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((ATTACKER, 0)))?;
    // So that the system takes in little of what nobody reads.
    socket.set_recv_buffer_size(4096)?;
    tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await?
}

/// A connection on which a request was sent, whose answer nobody reads.
pub async fn sent(to: SocketAddr, request: &str) -> std::io::Result<TcpStream> {
    let mut stream = connect(to).await?;
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// A connection of HTTP/2, which ends when this is dropped.
pub struct Http2 {
    pub client: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Http2 {
    /// With a window of so many bytes for each answer.
    pub async fn connect(to: SocketAddr, window: u32) -> Option<Http2> {
        let stream = connect(to).await.ok()?;
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 24);
        let (client, connection) = builder.handshake(stream).await.ok()?;
        let driver = tokio::spawn(async move {
            // However it ends.
            let _ = connection.await;
        });
        Some(Http2 { client, driver })
    }

    /// Sends a request without a body; none if the server takes no more.
    pub async fn get(&mut self, path: &str, fields: &[(&str, &str)]) -> Option<ResponseFuture> {
        let mut request = Request::get(format!("http://localhost{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let ready = self.client.clone().ready();
        self.client = tokio::time::timeout(Duration::from_secs(5), ready).await.ok()?.ok()?;
        Some(self.client.send_request(request.body(()).unwrap(), true).ok()?.0)
    }
}

/// Sets a key so often, many times at once.
pub async fn put_often(to: SocketAddr, key: &str, times: usize) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut puts = JoinSet::new();
    for _ in 0..times {
        let request = Request::put(format!("http://localhost/v1/kv/{key}")).body(()).unwrap();
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, mut body) = ready.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"x"), true).unwrap();
        puts.spawn(answer);
        if puts.len() >= 64 {
            let answer = puts.join_next().await.unwrap().unwrap().unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
        }
    }
    while puts.join_next().await.is_some() {}
    driver.abort();
}
