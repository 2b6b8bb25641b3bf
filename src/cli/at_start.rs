//! Which standard streams the process was started without, as by `>&-`. Rust's runtime opens /dev/null in their place
//! before `main`, so that no file takes their numbers; a command that writes its data there would have lost it and
//! ended as if all was well. So this is looked at before the runtime begins.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::fcntl_getfd;
use rustix::stdio;

static STDIN_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`: two system calls, and nothing that needs the runtime.
#[ctor::ctor(unsafe)]
fn look() {
    STDIN_CLOSED.store(fcntl_getfd(stdio::stdin()).is_err(), Ordering::Relaxed);
    STDOUT_CLOSED.store(fcntl_getfd(stdio::stdout()).is_err(), Ordering::Relaxed);
}

/// Whether there was no standard input.
pub(super) fn stdin_closed() -> bool {
    STDIN_CLOSED.load(Ordering::Relaxed)
}

/// Whether there was no standard output.
pub(super) fn stdout_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}
