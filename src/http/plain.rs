//! Plain HTTP where HTTPS is spoken: answered in plain HTTP, since an alert of TLS tells its client nothing.

use std::time::Duration;

use axum::body::to_bytes;
use axum::response::IntoResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::{Kind, Problem};

/// The most bytes of such a request that are taken after the answer, and how long that may take. With bytes of it unread,
/// the connection's end would overtake the answer.
const REST_BYTES_MAX: usize = 64 << 10;
const REST_TIME_MAX: Duration = Duration::from_secs(1);
/// The most bytes of the answer's body.
const BODY_BYTES_MAX: usize = 4 << 10;

/// Whether it was plain HTTP, which has its answer then and is at its end. Waits for the first byte, which is left where it
/// is: a method begins with a capital letter, and no record of TLS does.
pub(super) async fn was_answered(stream: &mut TcpStream) -> bool {
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1) if first[0].is_ascii_uppercase()) {
        return false;
    }
    tracing::debug!("a client speaks plain HTTP where HTTPS is spoken");
    let answer = answer().await;
    if stream.write_all(&answer).await.is_ok() && stream.shutdown().await.is_ok() {
        let rest = async {
            let (mut taken, mut part) = (0, [0; 4 << 10]);
            while taken < REST_BYTES_MAX
                && let Ok(count @ 1..) = stream.read(&mut part).await
            {
                taken += count;
            }
        };
        // Whoever sends for longer may miss it.
        let _ = tokio::time::timeout(REST_TIME_MAX, rest).await;
    }
    true
}

async fn answer() -> Vec<u8> {
    let detail =
        "this port speaks HTTPS, and the request came in plain HTTP; write https:// in its URL";
    let (head, body) = Problem::new(Kind::NeedsTls, detail).into_response().into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let mut bytes = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        head.status,
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}
