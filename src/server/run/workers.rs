//! The replica's driver, and the threads that work for it.

use std::io;
use std::sync::Arc;

use super::answers;
use super::driver::{self, Driver, Published};
use super::event::Notice;
use super::lag::Lag;
use super::lookups::Lookups;
use super::mailbox::Mailbox;
use super::opened::Opened;
use super::read_load::ReadLoad;
use super::snapshots;
use super::timing::Timing;
use super::verifier::Verifier;
use super::watched;
use crate::net::Net;
use crate::raft::Node;
use crate::replica::Replica;
use crate::server::tally::Counts;
use crate::server::watch::waiters::Waiters;
use crate::store::{Checkpointer, Life, LogEvent, LogWriter};

/// The most ranges of old entries that wait to be read; there is at most one a peer.
const FETCHES_MAX: usize = 16;

/// What all of them share.
pub(crate) struct Base {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) life: Arc<Life>,
    pub(crate) net: Net,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) read_load: Arc<ReadLoad>,
    pub(crate) counts: Arc<Counts>,
}

/// The replica's driver and the threads that work for it, each of which tells the mailbox what it has done.
pub(crate) fn start(
    base: Base,
    opened: Opened,
    node: Node,
    published: Published,
    timing: Timing,
    lag: Lag,
) -> io::Result<Driver> {
    let Base { mailbox, life, net, waiters, read_load, counts } = &base;
    let log_reader = opened.log.reader();
    let log_writer = LogWriter::spawn(opened.log, opened.space.clone(), {
        let mailbox = mailbox.clone();
        move |event| match event {
            LogEvent::Persisted { seq } => mailbox.send(Notice::Persisted { seq }),
            LogEvent::Compacted { last } => mailbox.send(Notice::Compacted { last }),
            LogEvent::Failed(error) => mailbox.fail(error),
        }
    })?;
    let checkpointer = Checkpointer::spawn(opened.state.clone(), opened.space.clone(), {
        let mailbox = mailbox.clone();
        move |result| match result {
            Ok(checkpoint) => mailbox.send(Notice::Checkpointed(checkpoint)),
            Err(error) => mailbox.fail(error),
        }
    })?;
    let verifier = Verifier::start(opened.state.clone(), mailbox)?;
    let (fetcher, fetches) = std::sync::mpsc::sync_channel(FETCHES_MAX);
    {
        let (log, events) = (log_reader.clone(), mailbox.clone());
        watched::thread("fetch", mailbox.clone(), move || {
            driver::read_for_peers(&fetches, &log, &events);
        })?;
    }
    let (lookups, incoming) = Lookups::new();
    {
        let (log, state) = (log_reader, opened.state.clone());
        let (life, events) = (life.clone(), mailbox.clone());
        watched::thread("lookup", mailbox.clone(), move || {
            incoming.run(&state, &log, &life, &events);
        })?;
    }
    let (answers, delivery) = answers::channel(waiters.clone());
    watched::task("the delivery of answers", mailbox.clone(), delivery.run());
    Ok(Driver {
        snapshots: snapshots::Sender::new(net.clone(), opened.state.clone(), mailbox.clone()),
        replica: Replica::new(node, opened.state, timing.tick),
        mailbox: mailbox.clone(),
        _space_watch: opened.space.watch({
            let mailbox = mailbox.clone();
            move |error| mailbox.fail(error)
        })?,
        life: life.clone(),
        space: opened.space,
        log_writer,
        checkpointer,
        verifier,
        fetcher,
        lookups,
        net: net.clone(),
        published,
        answers,
        timing,
        lag,
        read_load: read_load.clone(),
        counts: counts.clone(),
        led_last: None,
    })
}
