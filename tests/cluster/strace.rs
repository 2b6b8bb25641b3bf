//! Reads what `strace -f -ttt -T -yy` writes, and judges acknowledgements by it; `markers.rs` judges something else.

use std::collections::HashMap;

/// A system call that has ended. Times are in microseconds since the epoch.
pub(crate) struct Call {
    pub(crate) name: String,
    /// Its arguments.
    pub(crate) text: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
}

impl Call {
    /// Whether it is about the write-ahead log.
    fn on_log(&self) -> bool {
        self.text.split(',').next().is_some_and(|descriptor| descriptor.contains("/log.wal>"))
    }

    fn writes_log(&self) -> bool {
        self.name.starts_with("pwrite") && self.on_log()
    }

    /// Whether what it wrote to the log is on the disk when it ends.
    fn writes_log_durably(&self) -> bool {
        self.writes_log() && self.text.contains("RWF_DSYNC") && !self.failed
    }

    fn syncs_log(&self) -> bool {
        matches!(self.name.as_str(), "fdatasync" | "fsync") && self.on_log() && !self.failed
    }

    /// The TCP connection that it is about, if it is about one.
    fn connection(&self) -> Option<&str> {
        let (_, from) = self.text.split_once("<TCP:[")?;
        Some(from.split_once("]>")?.0)
    }
}

/// All calls that ended, in the order in which they began.
pub(crate) fn parse(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, (&str, u64)> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let mut words = line.splitn(2, ' ');
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else { continue };
        let Some((time, rest)) = rest.trim_start().split_once(' ') else { continue };
        let Some(time) = micros(time) else { continue };
        if let Some(text) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, (text, time));
        } else if let Some((_, tail)) =
            rest.split_once(" resumed>").filter(|_| rest.starts_with("<... "))
        {
            let Some((head, start)) = begun.remove(thread) else { continue };
            calls.extend(call(&format!("{head}{tail}"), start));
        } else {
            calls.extend(call(rest, time));
        }
    }
    calls.sort_by_key(|call| call.start);
    calls
}

/// A whole call: `name(arguments) = result <seconds>`.
fn call(text: &str, start: u64) -> Option<Call> {
    let (name, _) = text.split_once('(')?;
    let (arguments, result) = text.rsplit_once(" = ")?;
    let (_, took) = result.strip_suffix('>')?.rsplit_once('<')?;
    Some(Call {
        name: name.to_owned(),
        text: arguments.to_owned(),
        start,
        end: start + micros(took)?,
        failed: result.starts_with('-'),
    })
}

fn micros(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.')?;
    let whole: u64 = whole.parse().ok()?;
    (part.len() == 6).then_some(whole * 1_000_000 + part.parse::<u64>().ok()?)
}

/// When a value was on a node's disk: a write to the log held it and was its own sync, or a sync began after that write, and
/// after all others that had begun by then, and has ended.
fn durable(calls: &[Call], value: &str) -> Option<u64> {
    let write = calls.iter().find(|call| call.writes_log() && call.text.contains(value))?;
    if write.writes_log_durably() {
        return Some(write.end);
    }
    let sync = calls.iter().find(|sync| {
        let covers = |other: &Call| other.start >= sync.start || other.end <= sync.start;
        sync.syncs_log()
            && sync.start >= write.end
            && calls.iter().filter(|call| call.writes_log()).all(covers)
    })?;
    Some(sync.end)
}

/// Finds the request that brought the value and the answer that acknowledged it, in one of the nodes' traces,
/// and holds the answer to the disks of `quorum` nodes. How much later it left, in microseconds.
pub(crate) fn judge(nodes: &[Vec<Call>], value: &str, quorum: usize) -> Result<u64, String> {
    let received = |call: &&Call| {
        matches!(call.name.as_str(), "recvfrom" | "read" | "readv")
            && call.connection().is_some()
            && call.text.contains(value)
    };
    let answered = |calls: &[Call]| {
        let request = calls.iter().find(received)?;
        let answer = calls.iter().find(|call| {
            call.start >= request.end
                && call.connection() == request.connection()
                && matches!(call.name.as_str(), "write" | "writev" | "sendto" | "sendmsg")
                && (call.text.contains("\"HTTP/1.1 201") || call.text.contains("\"HTTP/1.1 204"))
        })?;
        Some(answer.start)
    };
    let answer = nodes.iter().find_map(|calls| answered(calls));
    let answer = answer.ok_or_else(|| format!("{value}: no answer in any trace"))?;
    let mut durable: Vec<u64> = nodes.iter().filter_map(|calls| durable(calls, value)).collect();
    durable.sort_unstable();
    let needed = durable.get(quorum - 1);
    let needed = needed.ok_or_else(|| format!("{value}: on {} disks only", durable.len()))?;
    answer.checked_sub(*needed).ok_or_else(|| {
        format!("{value}: acknowledged {} µs before it was on {quorum} disks", needed - answer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
7 10.000100 recvfrom(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"PUT /v1/kv/k HTTP/1.1\\r\\nvalue\", 99, 0, NULL, NULL) = 29 <0.000010>
8 10.000200 pwrite64(13</d/log.wal>, \"..value.. = (1) <x>\", 19, 0 <unfinished ...>
7 10.000210 write(4<anon_inode:[eventfd]>, \"\\1\", 8) = 8 <0.000010>
8 10.000250 <... pwrite64 resumed>) = 19 <0.000050>
8 10.000300 fdatasync(13</d/log.wal>) = 0 <0.000500>
7 10.000900 writev(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base=\"HTTP/1.1 201 Created\\r\\n\", iov_len=22}], 1) = 22 <0.000010>
7 10.001000 +++ exited with 0 +++
";

    fn judged(traces: &[&str], quorum: usize) -> Result<u64, String> {
        let traces: Vec<_> = traces.iter().map(|text| parse(text)).collect();
        judge(&traces, "value", quorum)
    }

    fn changed(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    }

    #[test]
    fn an_answer_after_the_sync_is_good() {
        assert_eq!(judged(&[GOOD], 1), Ok(100));
        assert_eq!(judged(&["", GOOD, GOOD], 2), Ok(100));
    }

    #[test]
    fn answers_without_or_before_the_sync_are_found() {
        for (what, bad) in [
            ("no sync", changed("fdatasync", "recvfrom")),
            (
                "a sync of another file",
                changed("fdatasync(13</d/log.wal>", "fdatasync(13</d/state.redb>"),
            ),
            (
                "a sync that failed",
                changed("= 0 <0.000500>", "= -1 EIO (Input/output error) <0.000500>"),
            ),
            (
                "a sync that began before the write had ended",
                changed("10.000300 fdata", "10.000240 fdata"),
            ),
            ("an answer during the sync", changed("<0.000500>", "<0.000601>")),
            ("a sync that never ended", changed(") = 0 <0.000500>", " <unfinished ...>")),
            ("a write of something else", changed("..value..", ".........")),
            ("another's answer", changed("1->127.0.0.1:2]>, [", "1->127.0.0.1:3]>, [")),
            ("a refusal", changed("201 Created", "503 No")),
        ] {
            assert!(judged(&[&bad], 1).is_err(), "{what}");
        }
    }

    #[test]
    fn a_write_that_is_its_own_sync_needs_no_other() {
        let (write, sync) = ("8 10.000250 <... pwrite64 resumed>) = 19 <0.000050>\n", "fdatasync");
        let own = |flag: &str, result: &str| {
            changed("pwrite64(13</d/log.wal>, \"..value.. = (1) <x>\", 19, 0 <unfinished", &format!(
                "pwritev2(13</d/log.wal>, [{{iov_base=\"..value.. = (1) <x>\", iov_len=19}}], 1, 0, {flag} <unfinished"
            ))
            .replace(write, &format!("8 10.000250 <... pwritev2 resumed>) = {result} <0.000050>\n"))
            .replace(sync, "getpid")
        };
        assert_eq!(judged(&[&own("RWF_DSYNC", "19")], 1), Ok(650));
        assert!(judged(&[&own("RWF_HIPRI", "19")], 1).is_err());
        assert!(judged(&[&own("RWF_DSYNC", "-1 EIO (Input/output error)")], 1).is_err());
    }

    #[test]
    fn one_disk_of_three_is_not_enough() {
        let late = changed("10.000300 fdata", "10.000800 fdata");
        assert!(judged(&[GOOD, "", ""], 2).is_err());
        assert!(judged(&[GOOD, &late, ""], 2).is_err());
        assert!(judged(&[GOOD, &late, GOOD], 2).is_ok());
    }

    #[test]
    fn a_write_beside_the_sync_that_belongs_to_the_same_commit_must_be_covered() {
        let second = "9 10.000310 pwrite64(13</d/log.wal>, \"next\", 4, 0) = 4 <0.000020>\n";
        assert!(
            judged(&[&format!("{GOOD}{second}")], 1).is_ok(),
            "it began later: another commit's"
        );
        let beside = second.replace("10.000310", "10.000290");
        assert!(judged(&[&format!("{GOOD}{beside}")], 1).is_err());
    }
}
