//! HTTP/2 with prior knowledge, a request a connection.

use axum::http::{Method, Request, Uri};
use bytes::Bytes;

use crate::raw::Answer;

/// Sends a request and reads the whole answer. `authority` is what the request is for, wherever it goes.
pub async fn send(
    port: u16,
    authority: &str,
    line: &str,
    headers: &[&str],
    body: Option<&[u8]>,
) -> Answer {
    let (method, target) = line.split_once(' ').unwrap();
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(target);
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(uri.build().unwrap());
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = request.body(()).unwrap();
    let (response, mut sending) = client.send_request(request, body.is_none()).unwrap();
    if let Some(body) = body {
        // A server that has refused already takes no more.
        let _ = sending.send_data(Bytes::copy_from_slice(body), true);
    }
    let response = response.await.unwrap();
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data.unwrap();
        incoming.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    drop(client);
    connection.abort();
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    Answer { status: head.status.as_u16(), headers: headers.collect(), body }
}
