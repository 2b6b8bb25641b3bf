//! Bytes that change while a host is down. It may refuse to start, and be repaired; it must not
//! start with anything
//! else than what it had.

use std::panic::{AssertUnwindSafe, catch_unwind};

use konsen::store::StoreError;

use super::due::Due;
use super::host::Host;
use super::oracle::Broken;
use super::world::World;

impl World {
    /// Stops a host in order, damages one of its files, and starts it.
    pub(super) fn rot(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].running.is_none() {
            return Ok(());
        }
        self.count("fault: damage at rest");
        // A disk that fails the last commit leaves what a crash leaves; damage to that is told from nothing.
        self.hosts[host].cure();
        self.end_transfers_of(host)?;
        self.end_links_of(host);
        self.hosts[host].stop();
        let before = self.hosts[host].images();
        let what = self.hosts[host].damage(&mut self.chance.nemesis);
        let id = self.hosts[host].id;
        self.trace(|_| format!("{id} stops; {what}"));
        let seed = self.chance.nemesis.next();
        let one = &mut self.hosts[host];
        // A panic is no fine way to refuse, but it is one.
        // All pages are verified before it takes part, since what it would do until one is found can not be taken back here.
        let started = catch_unwind(AssertUnwindSafe(|| {
            let found = one.start(&self.plan, seed, self.now)?;
            verify(one)?;
            Ok::<_, StoreError>(found)
        }));
        match started {
            Ok(Ok(found)) => {
                self.count("damage where nothing is kept");
                self.begin(host, &found)
            }
            refused => {
                let why = refused.map_or("a panic".to_owned(), |told| format!("{:?}", told.err()));
                self.trace(|_| format!("{id} refuses to start: {why}"));
                self.count("damage found");
                self.hosts[host].restore(before);
                let down = self.a_while(1, 500);
                self.after(down, Due::Start { host });
                Ok(())
            }
        }
    }
}

/// Verifies all pages of the state's file that a host found at its start.
fn verify(host: &Host) -> Result<(), StoreError> {
    let Some(running) = &host.running else { return Ok(()) };
    while running.state.verify(1 << 20)? {}
    Ok(())
}
