//! Threads for what may take long, and is not to be felt meanwhile: reading and writing a whole state.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// How much the processor is to prefer other threads, as nice(1) counts.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Does `work` on a thread of its own, to which the others are preferred. What it came to arrives later;
/// nothing does if it panicked.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    // Not one of the runtime's threads: only the privileged may take back what they gave up.
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        lower_priority();
        // Whoever gave up waiting does not want it.
        let _ = done.send(work());
    })?;
    Ok(result)
}

/// Lets others go before this thread, for good.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    // Of a process without a name it means the thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread's priority cannot be lowered");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}
