//! What a node shows to those who watch over it, in the text form of OpenMetrics. Nothing is kept for it: whoever asks gets what
//! the counts, the status and the system say at that moment.

mod page;
mod process;

use std::collections::BTreeMap;
use std::fmt::Result;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use super::admin::life::Stillness;
use super::handle::{Handle, INSPECT_TIMEOUT};
use super::tally::load;
use crate::net::LinkStats;
use crate::raft::RoleName;
use crate::replica::Summary;
use page::{Page, Scale};
use process::Process;

/// A node as it was at a moment.
#[derive(Debug)]
struct Look {
    handle: Handle,
    /// None if the replica does not answer.
    summary: Option<Summary>,
    /// None if the file system does not answer.
    process: Option<Process>,
}

impl Handle {
    /// What this node has counted and how it is, as a page of OpenMetrics 1.0. There is always one; what does not answer is
    /// left out.
    pub async fn metrics(&self) -> String {
        let data = self.shared.data.clone();
        let process = tokio::task::spawn_blocking(move || Process::look(&data));
        let process = timeout(INSPECT_TIMEOUT, process);
        let (summary, process) = tokio::join!(self.inspect(), process);
        let process = process.ok().and_then(|looked| looked.ok());
        let look = Look { handle: self.clone(), summary, process };
        render(look)
    }
}

fn render(look: impl Collector) -> String {
    let mut registry = Registry::with_prefix("konsen");
    registry.register_collector(Box::new(look));
    let mut page = String::with_capacity(32 << 10);
    if let Err(error) = text::encode(&mut page, &registry) {
        // A string takes everything in.
        tracing::error!(%error, "the metrics could not be written");
    }
    page
}

impl Collector for Look {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut page = Page(encoder);
        self.identity(&mut page)?;
        self.standing(&mut page)?;
        self.store(&mut page)?;
        self.queues(&mut page)?;
        self.peers(&mut page)?;
        self.http(&mut page)?;
        self.audit(&mut page)?;
        self.system(&mut page)
    }
}

impl Look {
    fn identity(&self, page: &mut Page<'_>) -> Result {
        let handle = &self.handle;
        let (node, cluster) = (handle.name(), handle.cluster_name());
        let id = handle.id().to_string();
        page.info("build", "The release.", [("version", env!("CARGO_PKG_VERSION"))])?;
        let labels = [("node", node), ("id", id), ("cluster", cluster)];
        page.info("node", "Which node of which cluster this is.", labels)?;
        let up = handle.shared.started.elapsed().as_secs_f64();
        page.gauge("uptime_seconds", "How long the node has run.", up)?;
        let healthy = Stillness::of(&handle.shared.life).judge().is_ok();
        page.gauge("healthy", "Whether all workers of the node get further.", flag(healthy))?;
        let warnings = handle.warnings().len();
        page.gauge("warnings", "How many warnings /v1/status shows.", warnings)
    }

    fn standing(&self, page: &mut Page<'_>) -> Result {
        let handle = &self.handle;
        let standing = handle.standing();
        let leads = standing.role == RoleName::Leader;
        page.gauge("is_leader", "Whether this node leads.", flag(leads))?;
        let has = standing.leader.is_some();
        page.gauge("has_leader", "Whether this node knows a leader.", flag(has))?;
        page.gauge("term", "The node's term.", standing.term.0)?;
        page.gauge("voters", "How many members have a vote.", handle.voters())?;
        if let Some(Summary { commit, last, .. }) = &self.summary {
            page.gauge("commit_index", "The last entry known to be committed.", commit.0)?;
            page.gauge("last_log_index", "The last entry of the log.", last.0)?;
        }
        let applied = handle.shared.applied.borrow().0;
        page.gauge("applied_index", "The last entry applied.", applied)?;
        page.gauge("revision", "The store's revision.", handle.revision().0)?;
        let compacted = handle.compacted().0;
        page.gauge("compacted_revision", "The oldest revision that can be read.", compacted)?;
        let behind = flag(handle.shared.behind.now());
        page.gauge("behind", "Whether the node is so far behind that others answer.", behind)?;
        let counts = &handle.shared.counts;
        let elections = load(&counts.elections);
        page.counter("elections_started", "Elections in which the node stood.", elections)?;
        let won = load(&counts.leaderships);
        page.counter("leaderships", "How often the node became the leader.", won)?;
        let changes = load(&counts.leader_changes);
        page.counter("leader_changes", "How often another leader than the last was heard.", changes)
    }

    fn store(&self, page: &mut Page<'_>) -> Result {
        let (shared, counts) = (&self.handle.shared, &self.handle.shared.counts);
        let tally = &shared.life.tally;
        let one = Scale::One;
        let writes = tally.log_writes.read();
        page.histogram("log_commit_writes", "Writes in a commit of the log.", one, &writes)?;
        let bytes = tally.log_bytes.read();
        page.histogram("log_commit_bytes", "Bytes of entries in a commit.", one, &bytes)?;
        let time = tally.log_time.read();
        let help = "Time of a commit of the log, until it is durable.";
        page.histogram("log_commit_duration_seconds", help, Scale::Micros, &time)?;
        let time = tally.apply_time.read();
        let help = "Time in which entries were applied together.";
        page.histogram("apply_duration_seconds", help, Scale::Micros, &time)?;
        let time = tally.checkpoint_time.read();
        let help = "Time of a checkpoint of the state.";
        page.histogram("checkpoint_duration_seconds", help, Scale::Micros, &time)?;
        let overlay = shared.state.unstored_bytes();
        page.gauge("overlay_bytes", "Memory of what is applied and in no file yet.", overlay)?;
        let verified = shared.state.verified();
        let help = "Bytes of pages of the state's file that were verified since the start.";
        page.gauge("state_verified_bytes", help, verified.verified_bytes)?;
        let left = verified.of_bytes.saturating_sub(verified.verified_bytes);
        let help = "Bytes of pages of the state's file that are still to be verified, at most.";
        page.gauge("state_unverified_bytes", help, left)?;
        let sent = [
            ("installed", load(&counts.snapshots_sent)),
            ("failed", load(&counts.snapshots_not_sent)),
        ];
        page.counters("snapshots_sent", "Snapshots sent to peers.", "result", sent)?;
        let received = load(&counts.snapshots_received);
        page.counter("snapshots_received", "Snapshots that took the state's place.", received)
    }

    fn queues(&self, page: &mut Page<'_>) -> Result {
        let (shared, counts) = (&self.handle.shared, &self.handle.shared.counts);
        let reads = counts.reads.read();
        let help = "Reads that ask together for an index to read at.";
        page.histogram("read_batch_reads", help, Scale::One, &reads)?;
        let started = load(&counts.read_rounds_started);
        let help = "Rounds to the other nodes that were begun for reads.";
        page.counter("read_rounds_started", help, started)?;
        let confirmed = load(&counts.read_rounds_confirmed);
        let help = "Rounds for reads that a quorum has answered.";
        page.counter("read_rounds_confirmed", help, confirmed)?;
        let readers = counts.read_round_readers.read();
        let help = "Reads of this node and questions of followers that a round was begun for.";
        page.histogram("read_round_readers", help, Scale::One, &readers)?;
        let lanes = shared.mailbox.depths();
        page.gauges("mailbox_events", "What waits for the replica.", "lane", lanes)?;
        let waiters = shared.waiters.count();
        page.gauge("waiters", "Requests that wait for a change.", waiters)
    }

    fn peers(&self, page: &mut Page<'_>) -> Result {
        let net = &self.handle.shared.net;
        let mut peers: BTreeMap<String, Option<LinkStats>> = BTreeMap::new();
        for (name, link) in net.links() {
            // While a member is being replaced there are two of one name.
            let known = peers.entry(name).or_default();
            *known = known.or(link);
        }
        let connected = peers.iter().map(|(name, link)| (name, flag(link.is_some())));
        let help = "Whether the peer can be sent to.";
        page.gauges("peer_connected", help, "peer", connected)?;
        let links = || peers.iter().filter_map(|(name, link)| Some((name, (*link)?)));
        let rtt = links().map(|(name, link)| (name, link.rtt.as_secs_f64()));
        let help = "Round trip time to the peer, as QUIC has it.";
        page.gauges("peer_rtt_seconds", help, "peer", rtt)?;
        let mtu = links().map(|(name, link)| (name, u32::from(link.mtu)));
        let help = "Largest datagram on the way to the peer.";
        page.gauges("peer_mtu_bytes", help, "peer", mtu)?;
        let lost = links().map(|(name, link)| (name, link.lost_packets));
        let help = "Packets to the peer that were lost, of the present connection.";
        page.counters("peer_lost_packets", help, "peer", lost)?;
        let sent = links().map(|(name, link)| (name, link.sent_bytes));
        let help = "Bytes sent on the connection that this node dialled.";
        page.counters("peer_sent_bytes", help, "peer", sent)?;
        let received = links().map(|(name, link)| (name, link.received_bytes));
        let help = "Bytes received on the connection that this node dialled.";
        page.counters("peer_received_bytes", help, "peer", received)?;
        if let Some(summary) = &self.summary {
            let name = |id| self.handle.name_of(id);
            let matched: BTreeMap<_, _> = summary
                .peers
                .iter()
                .filter_map(|peer| Some((name(peer.id)?, peer.matched.0)))
                .collect();
            let help = "The last entry that the peer is known to have; at the leader.";
            page.gauges("peer_matched_index", help, "peer", matched)?;
        }
        let counters = net.counters();
        let (dropped, refused) = (counters.messages_dropped, counters.refusals);
        page.counter("peer_messages_dropped", "Messages that found no way or room.", dropped)?;
        page.counter("peer_refusals", "Connections between nodes that were refused.", refused)
    }

    fn http(&self, page: &mut Page<'_>) -> Result {
        let counts = &self.handle.shared.counts;
        let requests = counts.requests().flat_map(|(route, requests)| {
            requests.answered().map(move |(class, count)| ([route, class], count))
        });
        let help = "Requests answered, by what they are for and the class of the status.";
        page.counters_by_two("http_requests", help, ["route", "status"], requests)?;
        let times = counts.requests().map(|(route, requests)| (route, requests.time.read()));
        let help = "Time from a request's head to its answer's head.";
        let name = "http_request_duration_seconds";
        page.histograms(name, help, Scale::Micros, "route", times)?;
        let help = "Requests refused for want of room, time or a leader.";
        page.counters("http_refusals", help, "reason", counts.refusals())?;
        let help = "Requests of which it is not known who asks, or that are not allowed.";
        page.counters("http_denials", help, "reason", counts.denials())?;
        let help = "Connections of clients that are open.";
        page.gauges("http_connections", help, "place", counts.connections())
    }

    /// Left out where nothing is recorded.
    fn audit(&self, page: &mut Page<'_>) -> Result {
        let Some(audit) = &self.handle.shared.audit else { return Ok(()) };
        let (recorded, unrecorded) = audit.counts();
        page.counter("audit_records", "Requests that were recorded.", recorded)?;
        let help = "Requests that were carried out and not recorded.";
        page.counter("audit_unrecorded", help, unrecorded)?;
        let failing = flag(audit.failure().is_some());
        page.gauge("audit_failing", "Whether the audit cannot be written.", failing)?;
        let help = "Memory of what is not written to the audit yet.";
        page.gauge("audit_queue_bytes", help, audit.held_bytes())?;
        let head = audit.head().sequence;
        page.gauge("audit_sequence", "The last record of the audit.", head)?;
        let help = "The last record of the audit that the cluster's state has an anchor of.";
        page.gauge("audit_anchored_sequence", help, audit.anchored())
    }

    fn system(&self, page: &mut Page<'_>) -> Result {
        let shared = &self.handle.shared;
        let help = "Room on the disk, beside what is kept for votes and deletions.";
        page.gauge("disk_free_bytes", help, shared.space.spare_bytes())?;
        let low = flag(shared.space.is_low());
        page.gauge("disk_low", "Whether the disk has less room than it needs.", low)?;
        let ends = shared.facts.load().ends();
        let help = "When a certificate ends, in seconds since 1970.";
        page.gauges("certificate_end_timestamp_seconds", help, "certificate", ends)?;
        let help = "Whether the renewal of the node's certificate waits for somebody, or fails.";
        let waits = flag(shared.renewal.waits_for().is_some());
        page.gauge("certificate_renewal_waiting", help, waits)?;
        let Some(process) = &self.process else { return Ok(()) };
        let sizes = process.sizes;
        let files = [("log", sizes.log_bytes), ("state", sizes.state_bytes)];
        page.gauges("file_bytes", "Sizes of the files.", "file", files)?;
        let help = "CPU time of the process.";
        page.counter("process_cpu_seconds", help, process.cpu_seconds)?;
        if let Some(bytes) = process.resident_bytes {
            page.gauge("process_resident_memory_bytes", "Memory of the process.", bytes)?;
        }
        if let Some(files) = process.open_files {
            page.gauge("process_open_fds", "Open file descriptors of the process.", files)?;
        }
        Ok(())
    }
}

fn flag(is: bool) -> u32 {
    u32::from(is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Histogram;

    #[derive(Debug)]
    struct Sample;

    impl Collector for Sample {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
            let mut page = Page(encoder);
            page.info("build", "The release.", [("version", "1")])?;
            page.gauge("term", "The term.", 7u64)?;
            page.gauges("peer_rtt_seconds", "Time.", "peer", [("a\"b\n", 0.25)])?;
            page.counter("sent_bytes", "Bytes.", 3u64)?;
            let pairs = [(["kv", "2xx"], 1)];
            page.counters_by_two("requests", "Requests.", ["route", "status"], pairs)?;
            let histogram = Histogram::new(&[500, 1_000_000]);
            [400, 500, 2_000_000].into_iter().for_each(|time| histogram.observe(time));
            page.histogram("wait_seconds", "Wait.", Scale::Micros, &histogram.read())
        }
    }

    #[test]
    fn the_text_form_is_that_of_openmetrics() {
        assert_eq!(
            render(Sample),
            r##"# HELP konsen_build The release.
# TYPE konsen_build info
konsen_build_info{version="1"} 1
# HELP konsen_term The term.
# TYPE konsen_term gauge
konsen_term 7
# HELP konsen_peer_rtt_seconds Time.
# TYPE konsen_peer_rtt_seconds gauge
# UNIT konsen_peer_rtt_seconds seconds
konsen_peer_rtt_seconds{peer="a\"b\n"} 0.25
# HELP konsen_sent_bytes Bytes.
# TYPE konsen_sent_bytes counter
# UNIT konsen_sent_bytes bytes
konsen_sent_bytes_total 3
# HELP konsen_requests Requests.
# TYPE konsen_requests counter
konsen_requests_total{route="kv",status="2xx"} 1
# HELP konsen_wait_seconds Wait.
# TYPE konsen_wait_seconds histogram
# UNIT konsen_wait_seconds seconds
konsen_wait_seconds_sum 2.0009
konsen_wait_seconds_count 3
konsen_wait_seconds_bucket{le="0.0005"} 2
konsen_wait_seconds_bucket{le="1.0"} 2
konsen_wait_seconds_bucket{le="+Inf"} 3
# EOF
"##
        );
    }
}
