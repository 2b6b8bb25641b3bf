//! Makes slots of the file ahead of their need, so that nobody's write waits while zeros are written.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use redb::StorageBackend;

/// A thread that makes the file longer when it is asked to. When this is dropped it has ended: nothing is written any more to a
/// file that may be opened anew.
#[derive(Debug)]
pub(super) struct Grower {
    /// None once it is to end.
    asked: Option<Sender<u64>>,
    done: Receiver<io::Result<()>>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Grower {
    fn drop(&mut self) {
        self.asked = None;
        // If it panicked there is nobody to wait for.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Grower {
    /// For that file; none where no thread can be had: then whoever needs a slot makes it.
    pub(super) fn start(file: Arc<dyn StorageBackend>) -> Option<Grower> {
        let (asked, lengths) = channel::<u64>();
        let (sender, done) = channel();
        let work = move || {
            for length in lengths {
                let made = file.set_len(length).and_then(|()| file.sync_data());
                if sender.send(made).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("wal-slots".to_owned()).spawn(work).ok()?;
        Some(Grower { asked: Some(asked), done, is_busy: false, thread: Some(thread) })
    }

    /// Whether it is at work.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins to make the file so long. It must not be at work.
    pub(super) fn begin(&mut self, length: u64) {
        self.is_busy = self.asked.as_ref().is_some_and(|asked| asked.send(length).is_ok());
    }

    /// What became of what was begun, if that has ended.
    pub(super) fn ended(&mut self) -> Option<io::Result<()>> {
        let ended = self.done.try_recv().ok()?;
        self.is_busy = false;
        Some(ended)
    }

    /// Waits until what was begun has ended.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.is_busy = false;
        // It ends without a word only if it panicked.
        self.done
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that makes slots ended")))
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn what_is_asked_for_is_made_once() {
        let file: Arc<dyn StorageBackend> = Arc::new(InMemoryBackend::new());
        let mut grower = Grower::start(file.clone()).unwrap();
        assert!(!grower.is_busy() && grower.ended().is_none());
        grower.begin(4096);
        assert!(grower.is_busy());
        grower.wait().unwrap();
        assert!(!grower.is_busy() && grower.ended().is_none());
        assert_eq!(file.len().unwrap(), 4096);
    }
}
