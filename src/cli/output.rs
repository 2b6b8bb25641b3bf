//! Standard output and standard error, which others may close, fill or stop reading.
//!
//! What a process says beside its data goes through [`Lines`]: a queue with a bound and a thread that writes.
//! Nobody else waits for a reader, and no error ends anything: what cannot be written is dropped and counted,
//! and the count is written once something can be. Data goes to standard output with [`print`], which waits for
//! its reader as every command does.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::at_start;
use super::error::{CliError, Exit};

/// The most bytes that wait to be written; as many again may be on their way.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// How long the end of the process, and data that follow, wait for what was said before.
const SETTLE_TIME_MAX: Duration = Duration::from_millis(500);

/// Lines on their way to a file, a pipe or a terminal. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<u8>,
    /// Lines that found no room, and are to be told of.
    lost: u64,
    writing: bool,
    /// Nothing can be written at all.
    closed: bool,
    /// Somebody has waited in vain since something was written last.
    stalled: bool,
    /// Each line is an object of JSON.
    json: bool,
}

impl Lines {
    /// Starts the thread, which lives as long as the process.
    pub(crate) fn start(to: impl Write + AsFd + Send + 'static) -> Lines {
        let lines = Lines { shared: Arc::default() };
        let shared = lines.shared.clone();
        let thread = thread::Builder::new().name("output".to_owned());
        if thread.spawn(move || shared.write_to(to)).is_err() {
            lines.shared.queue.lock().closed = true;
        }
        lines
    }

    /// Drops everything, as if a reader had gone.
    fn closed() -> Lines {
        Lines {
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue { closed: true, ..Queue::default() }),
                ..Shared::default()
            }),
        }
    }

    /// Queues a text of whole lines, or drops it where too much waits. Never blocks.
    pub(crate) fn push(&self, text: &[u8]) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return;
        }
        if queue.waiting.len() + text.len() > WAITING_BYTES_MAX {
            queue.lost += lines_in(text);
            return;
        }
        if queue.lost > 0 {
            let note = note(std::mem::take(&mut queue.lost), queue.json);
            queue.waiting.extend_from_slice(note.as_bytes());
        }
        queue.waiting.extend_from_slice(text);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// What is said from now on is one object of JSON a line.
    pub(crate) fn in_json(&self) {
        self.shared.queue.lock().json = true;
    }

    /// Waits until everything is written, for a short time at most.
    pub(crate) fn settle(&self) {
        let until = Instant::now() + SETTLE_TIME_MAX;
        let mut queue = self.shared.queue.lock();
        while (queue.writing || !queue.waiting.is_empty()) && !queue.stalled {
            // Whoever comes after waits no more, until the reader goes on.
            queue.stalled = self.shared.emptied.wait_until(&mut queue, until).timed_out();
        }
    }
}

impl Shared {
    fn write_to(&self, mut to: impl Write + AsFd) {
        let mut text = Vec::new();
        // Lines that could not be written, and whether the last that could was cut short.
        let (mut failed, mut cut) = (0, false);
        let mut json;
        loop {
            {
                let mut queue = self.queue.lock();
                queue.writing = false;
                queue.stalled = false;
                while queue.waiting.is_empty() {
                    self.emptied.notify_all();
                    self.filled.wait(&mut queue);
                }
                std::mem::swap(&mut queue.waiting, &mut text);
                queue.writing = true;
                json = queue.json;
            }
            if failed > 0 {
                let note = format!("{}{}", if cut { "\n" } else { "" }, note(failed, json));
                if write_all(&mut to, note.as_bytes()).is_ok() {
                    (failed, cut) = (0, false);
                }
            }
            // Where not even that could be written, the rest would only cut more lines short.
            let written = if failed > 0 { Err(0) } else { write_all(&mut to, &text) };
            if let Err(written) = written {
                let (done, rest) = text.split_at(written);
                cut |= done.last().is_some_and(|last| *last != b'\n');
                failed += lines_in(rest);
            }
            text.clear();
            // What was lost last is told even if nothing more is said.
            let mut queue = self.queue.lock();
            if queue.waiting.is_empty() && queue.lost > 0 {
                queue.waiting = note(std::mem::take(&mut queue.lost), queue.json).into_bytes();
            }
        }
    }
}

fn lines_in(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    ends + u64::from(text.last().is_some_and(|last| *last != b'\n'))
}

fn note(lost: u64, json: bool) -> String {
    let lines = if lost == 1 { "line is" } else { "lines are" };
    let text = format!("konsen: {lost} {lines} lost here that could not be written in time");
    match json {
        true => format!("{{\"level\":\"WARN\",\"message\":\"{text}\"}}\n"),
        false => text + "\n",
    }
}

/// Writes all, waiting where the other end takes nothing now; how much was written if not all.
fn write_all(to: &mut (impl Write + AsFd), text: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while written < text.len() {
        match to.write(&text[written..]) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares the other end made it so that nobody waits there.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if poll(&mut [PollFd::new(to, PollFlags::OUT)], None).is_err() {
                    return Err(written);
                }
            }
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// A descriptor of its own: the lock of the standard library's would be held by a write that waits.
fn copy_of(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

fn start_for(stream: &impl AsFd) -> Lines {
    match copy_of(stream) {
        Ok(file) => Lines::start(file),
        Err(_) => Lines::closed(),
    }
}

static STDERR: OnceLock<Lines> = OnceLock::new();
static STDOUT: OnceLock<Lines> = OnceLock::new();

/// Standard error.
pub(crate) fn stderr() -> &'static Lines {
    STDERR.get_or_init(|| start_for(&io::stderr()))
}

/// Standard output of a process that goes on without its reader, as `konsen dev` does.
pub(crate) fn stdout() -> &'static Lines {
    STDOUT.get_or_init(|| start_for(&io::stdout()))
}

/// Says something on standard error, beside the data.
pub(crate) fn say(text: &str) {
    stderr().push(text.as_bytes());
}

/// Waits a moment for what was said, as the end of the process does.
pub(crate) fn settle() {
    for lines in [STDERR.get(), STDOUT.get()].into_iter().flatten() {
        lines.settle();
    }
}

/// The logging library's way to standard error. It writes whole events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        stderr().push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets a panic be told as everything else is, in one line, and never wait for a reader.
pub(crate) fn tell_of_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let why = payload.downcast_ref::<&str>().copied();
        let why = why.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let why = why.unwrap_or("for no reason that can be shown");
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        if tracing::dispatcher::has_been_set() {
            tracing::error!("the thread {name} panicked at {place}: {why}{trace}");
        } else {
            say(&format!("error: the thread {name} panicked at {place}: {why}{trace}\n"));
        }
    }));
}

/// Writes data to standard output at once. A reader that went away is an error without a word: the process ends
/// with the code of one that SIGPIPE ended.
pub(crate) fn print(bytes: &[u8]) -> Result<(), CliError> {
    // In the order in which it was said, where both go to the same place.
    settle();
    writable()?;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) => Err(unwritten(&error)),
    }
}

/// An error where the process was started without a standard output: there is /dev/null in its place.
pub(crate) fn writable() -> Result<(), CliError> {
    match at_start::stdout_closed() {
        true => Err(unwritten(&io::Error::from(Errno::BADF))),
        false => Ok(()),
    }
}

/// Why standard output could not be written.
pub(crate) fn unwritten(error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CliError::new(Exit::ReaderGone, "whoever read standard output has gone");
    }
    CliError::failed(format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};

    use super::*;

    fn lines_of(reader: PipeReader) -> impl Iterator<Item = String> {
        BufReader::new(reader).lines().map(Result::unwrap)
    }

    #[test]
    fn what_is_said_arrives_in_order() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer);
        for number in 0..1000 {
            lines.push(format!("{number}\n").as_bytes());
        }
        let read: Vec<String> = lines_of(reader).take(1000).collect();
        assert!(read.iter().enumerate().all(|(at, line)| *line == at.to_string()));
        lines.settle();
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stalls_and_what_was_lost_is_counted() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer);
        let line = format!("{}\n", "x".repeat(99));
        let began = Instant::now();
        for _ in 0..20_000 {
            lines.push(line.as_bytes());
        }
        assert!(began.elapsed() < Duration::from_secs(5), "a writer waited for its reader");
        assert!(lines.shared.queue.lock().waiting.len() <= WAITING_BYTES_MAX);
        let (mut whole, mut lost) = (0, 0);
        for line in lines_of(reader) {
            match line.strip_prefix("konsen: ") {
                Some(note) => {
                    lost += note.split(' ').next().unwrap().parse::<u64>().unwrap();
                }
                None => {
                    assert_eq!(line.len(), 99);
                    whole += 1;
                }
            }
            if whole + lost == 20_000 {
                break;
            }
        }
        assert!(whole > 0 && lost > 0, "{whole} {lost}");
    }

    #[test]
    fn a_reader_that_stalls_is_waited_for_once() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer);
        lines.push(&[b'\n'; WAITING_BYTES_MAX]);
        let began = Instant::now();
        for _ in 0..100 {
            lines.settle();
        }
        let waited = began.elapsed();
        assert!(waited >= SETTLE_TIME_MAX && waited < 20 * SETTLE_TIME_MAX, "{waited:?}");
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_ends_nothing() {
        let (reader, writer) = pipe().unwrap();
        let lines = Lines::start(writer);
        drop(reader);
        for _ in 0..100 {
            lines.push(b"nobody reads this\n");
            lines.settle();
        }
        assert!(lines.shared.queue.lock().waiting.is_empty());
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_so_when_it_has_room() {
        // A file that takes five bytes, then nothing, then everything.
        #[derive(Debug)]
        struct Full(File, Arc<Mutex<usize>>);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let mut room = self.1.lock();
                let count = bytes.len().min(*room);
                *room -= count;
                if count == 0 {
                    Err(io::ErrorKind::StorageFull.into())
                } else {
                    self.0.write(&bytes[..count])
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl AsFd for Full {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let room = Arc::new(Mutex::new(5));
        let lines = Lines::start(Full(file.reopen().unwrap(), room.clone()));
        lines.push(b"one\ntwo\n");
        lines.settle();
        lines.push(b"three\n");
        lines.settle();
        *room.lock() = usize::MAX;
        lines.push(b"four\n");
        lines.settle();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(
            text,
            "one\nt\nkonsen: 2 lines are lost here that could not be written in time\nfour\n"
        );
    }

    #[test]
    fn notes_among_objects_are_objects() {
        let value: serde_json::Value = serde_json::from_str(&note(2, true)).unwrap();
        assert_eq!(value["message"], note(2, false).trim_end());
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!([&b""[..], b"a", b"a\n", b"a\nb"].map(lines_in), [0, 1, 1, 2]);
    }
}
