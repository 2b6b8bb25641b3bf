//! The UDP socket of a node.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::NetError;

/// What the kernel is asked to buffer in each direction. Its usual 208 KiB lose packets under bulk; it
/// grants what `net.core.rmem_max` and `wmem_max` allow.
const BUFFER_BYTES: usize = 4 << 20;

/// Opens the socket at `address`.
pub(super) fn bind(address: SocketAddr) -> Result<UdpSocket, NetError> {
    open(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => NetError::InUse { address },
        _ => NetError::Bind { address, error },
    })
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // A node at [::] talks to peers of both families, where the system lets it.
        let _ = socket.set_only_v6(false);
    }
    for result in
        [socket.set_recv_buffer_size(BUFFER_BYTES), socket.set_send_buffer_size(BUFFER_BYTES)]
    {
        if let Err(error) = result {
            tracing::debug!(%error, "the socket keeps its default buffers");
        }
    }
    if let Ok(granted) = socket.recv_buffer_size()
        && granted < BUFFER_BYTES
    {
        tracing::info!(
            granted,
            wanted = BUFFER_BYTES,
            "small socket buffer; raise net.core.rmem_max and wmem_max for bulk transfers"
        );
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
