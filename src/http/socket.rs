//! A client's TCP connection: as tokio's, but that it can be looked at from beside, and that it says how writing goes.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::watch::Clock;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    clock: Arc<Clock>,
}

/// The same connection, to look at.
#[derive(Clone, Debug)]
pub(super) struct Beside(Arc<TcpStream>);

impl Socket {
    pub(super) fn new(stream: TcpStream, clock: Arc<Clock>) -> (Socket, Beside) {
        let stream = Arc::new(stream);
        (Socket { stream: stream.clone(), clock }, Beside(stream))
    }

    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                self.clock.write_waits();
                return Poll::Pending;
            }
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.clock.write_goes_on();
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl Beside {
    /// Whether the client has said that it sends no more, or is gone.
    #[cfg(target_os = "linux")]
    pub(super) fn is_half_closed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut one = [PollFd::new(&*self.0, PollFlags::RDHUP)];
        let looked = poll(&mut one, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        looked.is_ok() && one[0].revents().intersects(closed)
    }

    /// Whether the client has said that it sends no more, and all that it sent before was read.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_half_closed(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        matches!(SockRef::from(&*self.0).peek(&mut byte), Ok(0))
    }

    /// Lets the client see at the connection's end that something is missing.
    pub(super) fn reset_at_end(&self) {
        if let Err(error) = SockRef::from(&*self.0).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection cannot be reset");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
            // It has ended already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }
}
