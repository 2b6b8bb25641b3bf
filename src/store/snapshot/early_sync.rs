//! Lets the disk write while more comes: without it, it would idle until a commit waits for all at once. And
//! keeps what comes from filling the system's memory, of which fresh pages cost more than used ones.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::fs::{Advice, fadvise};

/// A thread that syncs a file whenever it is told to; ends when this is dropped. It keeps no promise: what must
/// be durable is synced by whoever needs it. An error ends it, and is told to them as well: the system tells it once to each
/// descriptor of the file.
pub(super) struct EarlySync(SyncSender<()>);

impl EarlySync {
    /// For the file at `path`; none where that cannot be: it is only slower then.
    pub(super) fn start(path: &Path) -> Option<EarlySync> {
        let file = File::open(path).ok()?;
        let (sender, told) = sync_channel(1);
        let thread = thread::Builder::new().name("early-sync".to_owned());
        let work = move || {
            while told.recv().is_ok() && file.sync_data().is_ok() {
                // What is on the disk now. Fails only on what is no file.
                let _ = fadvise(&file, 0, None, Advice::DontNeed);
            }
        };
        thread.spawn(work).ok()?;
        Some(EarlySync(sender))
    }

    /// There is more to write.
    pub(super) fn go_on(&self) {
        // If it is full, a sync is about to begin anyway.
        let _ = self.0.try_send(());
    }
}
