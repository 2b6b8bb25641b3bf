//! Writes records into files: where a start goes on, when another file begins, which ones go.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{self, LinesOf, Piece, about};
use super::line::{self, Head, Lines, Note, Owner};
use super::record::Record;

/// How much is written at once.
const WRITE_BYTES: usize = 256 << 10;

/// Where records go.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory.
    pub dir: PathBuf,
    /// How large a file becomes, in bytes.
    pub file_bytes: u64,
    /// How many files are kept, the one that is written included; at least 2.
    pub keep: usize,
    /// Whose records they are.
    pub owner: Owner,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A request.
    Request(Record),
    /// What the node says of itself.
    Note(SystemTime, Note),
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The last record.
    pub head: Head,
    /// How many bytes a crash had left of the next one.
    pub cut_bytes: u64,
    /// The file and the line from which on something is damaged, if it is.
    pub damaged: Option<(PathBuf, u64)>,
    /// The first record that is anchored and not there.
    pub missing: Option<u64>,
}

/// Writes the records of a node, one chain through all files.
#[derive(Debug)]
pub(super) struct Writer {
    place: Place,
    lines: Lines,
    file: File,
    number: u64,
    /// Bytes of the file that hold whole records.
    length: u64,
    /// Whether some of them are not durable yet.
    unsynced: bool,
    /// Whether nobody knows what is in the file: what comes next belongs behind another look at it.
    broken: bool,
    buffer: Vec<u8>,
}

/// What is in the last file.
struct Tail {
    head: Head,
    /// Bytes of whole records.
    length: u64,
    cut_bytes: u64,
    damaged_line: Option<u64>,
}

impl Writer {
    /// Goes on where the last start ended, in a file of its own if that is damaged, or if `anchored` comes after all that is
    /// there. What was found is recorded.
    pub(super) fn open(place: Place, anchored: Option<Head>) -> io::Result<(Writer, Found)> {
        files::make_dir(&place.dir)?;
        let mut numbers = files::list(&place.dir)?;
        let mut tail = None;
        while let Some(&last) = numbers.last() {
            let path = files::path_of(&place.dir, last);
            match look(&path)? {
                // A crash came between its making and its first record.
                Tail { head, length: 0, damaged_line: None, .. } if head.sequence == 0 => {
                    fs::remove_file(&path).map_err(|error| about(&path, "remove", error))?;
                    numbers.pop();
                }
                found => {
                    tail = Some((last, path, found));
                    break;
                }
            }
        }
        let anchored = anchored.unwrap_or_default();
        let (mut writer, mut found) = match tail {
            None => (Writer::anew(place, 0, anchored)?, Found::default()),
            Some((last, path, tail)) => {
                let Tail { head, length, cut_bytes, damaged_line } = tail;
                let missing = anchored.sequence > head.sequence;
                let found = Found {
                    head,
                    cut_bytes,
                    damaged: damaged_line.map(|line| (path.clone(), line)),
                    missing: None,
                };
                let writer = match missing || damaged_line.is_some() {
                    true => Writer::anew(place, last, if missing { anchored } else { head })?,
                    false => Writer::going_on(place, last, &path, head, length)?,
                };
                (writer, found)
            }
        };
        if anchored.sequence > found.head.sequence {
            found.missing = Some(found.head.sequence + 1);
        }
        let Found { head, cut_bytes, missing, .. } = found;
        let start = Note::Start { found: head, cut_bytes, missing };
        writer.append(&mut VecDeque::from([Entry::Note(SystemTime::now(), start)]))?;
        writer.sync()?;
        Ok((writer, found))
    }

    /// Begins another file than those up to `last`, after the record `head`.
    fn anew(place: Place, last: u64, head: Head) -> io::Result<Writer> {
        let lines = Lines::after(place.owner.clone(), head);
        let (number, file, length, lines) = begin(&place, last, lines)?;
        let buffer = Vec::with_capacity(WRITE_BYTES);
        Ok(Writer { place, lines, file, number, length, unsynced: false, broken: false, buffer })
    }

    fn going_on(
        place: Place,
        number: u64,
        path: &Path,
        head: Head,
        length: u64,
    ) -> io::Result<Writer> {
        let file = files::open_end(path, length)?;
        // It may have been lost with a copy of the directory; where there is none, what is there is used.
        if files::keep_room(&file, place.file_bytes).is_err() {
            tracing::debug!(path = %path.display(), "there is no room to keep for the audit");
        }
        let lines = Lines::after(place.owner.clone(), head);
        let buffer = Vec::with_capacity(WRITE_BYTES);
        Ok(Writer { place, lines, file, number, length, unsynced: true, broken: false, buffer })
    }

    /// The last record.
    pub(super) fn head(&self) -> Head {
        self.lines.head()
    }

    /// Whether records are written that are not durable yet.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Whether it has to be opened again before anything else is written.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes entries, and takes those that are written from the queue.
    ///
    /// # Errors
    /// The disk's. What is left in the queue is not written.
    pub(super) fn append(&mut self, entries: &mut VecDeque<Entry>) -> io::Result<()> {
        while !entries.is_empty() {
            self.buffer.clear();
            let before = self.lines.head();
            let (mut count, mut last, mut fits) = (0, before, 0);
            for entry in entries.iter() {
                match entry {
                    Entry::Request(record) => self.lines.request(&mut self.buffer, record),
                    Entry::Note(time, note) => self.lines.note(&mut self.buffer, *time, *note),
                }
                let whole = self.length + self.buffer.len() as u64 <= self.place.file_bytes;
                // A file that has only its first record takes one more, however large.
                if !whole && (count > 0 || self.has_records()) {
                    break;
                }
                (count, last, fits) = (count + 1, self.lines.head(), self.buffer.len());
                if fits >= WRITE_BYTES {
                    break;
                }
            }
            if count == 0 {
                self.lines.back_to(before);
                self.rotate()?;
                continue;
            }
            self.buffer.truncate(fits);
            self.lines.back_to(last);
            if let Err(error) = self.file.write_all(&self.buffer) {
                self.lines.back_to(before);
                return Err(self.undo(error));
            }
            self.length += fits as u64;
            self.unsynced = true;
            entries.drain(..count);
        }
        Ok(())
    }

    /// Whether the file has more than what stands in each: its own first record and that of a start.
    fn has_records(&self) -> bool {
        /// The longest that a first record can be.
        const FIRST_BYTES: u64 = 1024;
        self.length > FIRST_BYTES
    }

    /// Takes back what a write that failed has left of itself.
    fn undo(&mut self, error: io::Error) -> io::Error {
        let path = files::path_of(&self.place.dir, self.number);
        match files::open_end(&path, self.length) {
            Ok(file) => self.file = file,
            Err(error) => {
                tracing::debug!(%error, "a record that was cut short stays");
                self.broken = true;
            }
        }
        about(&path, "write", error)
    }

    /// Makes what is written durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            if let Err(error) = self.file.sync_data() {
                // What the system has given up it does not try again.
                self.broken = true;
                return Err(about(&files::path_of(&self.place.dir, self.number), "sync", error));
            }
            self.unsynced = false;
        }
        Ok(())
    }

    /// Begins the next file; the oldest go first, so that there is room for it.
    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let numbers = files::list(&self.place.dir)?;
        let spare = (numbers.len() + 1).saturating_sub(self.place.keep);
        for number in numbers.into_iter().take(spare).filter(|number| *number < self.number) {
            let path = files::path_of(&self.place.dir, number);
            fs::remove_file(&path).map_err(|error| about(&path, "remove", error))?;
        }
        let (number, file, length, lines) = begin(&self.place, self.number, self.lines.clone())?;
        // The room that was kept and is not needed.
        let _ = self.file.set_len(self.length);
        (self.number, self.file, self.length, self.lines) = (number, file, length, lines);
        Ok(())
    }
}

/// Begins the file after `last`, durably: its number, itself, what is in it, and the chain from there on.
fn begin(place: &Place, last: u64, mut lines: Lines) -> io::Result<(u64, File, u64, Lines)> {
    let number = last + 1;
    if number > files::NUMBER_MAX {
        return Err(io::Error::other("the numbers of the audit's files are used up"));
    }
    let path = files::path_of(&place.dir, number);
    let make = |lines: &mut Lines| {
        let mut file = files::make(&path, place.file_bytes)?;
        let mut first = Vec::new();
        lines.note(&mut first, SystemTime::now(), Note::File(number));
        let written = file.write_all(&first).and_then(|()| file.sync_data());
        written.map_err(|error| about(&path, "write", error))?;
        files::sync_dir(&place.dir)?;
        Ok((file, first.len() as u64))
    };
    match make(&mut lines) {
        Ok((file, length)) => Ok((number, file, length, lines)),
        Err(error) => {
            // It is made again, with what comes then; a start removes it, too.
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Looks through the last file.
fn look(path: &Path) -> io::Result<Tail> {
    let failed = |error| about(path, "read", error);
    let mut lines = LinesOf::of(File::open(path).map_err(failed)?);
    let mut tail = Tail { head: Head::default(), length: 0, cut_bytes: 0, damaged_line: None };
    let mut number = 0;
    loop {
        number += 1;
        let whole = match lines.next_piece().map_err(failed)? {
            None => return Ok(tail),
            Some(Piece::CutShort(rest)) => {
                tail.cut_bytes = rest.len() as u64;
                return Ok(tail);
            }
            Some(Piece::TooLong) => None,
            Some(Piece::Whole(line)) => {
                follow(&tail, line).map(|head| (head, line.len() as u64 + 1))
            }
        };
        let Some((head, bytes)) = whole else {
            tail.damaged_line = Some(number);
            return Ok(tail);
        };
        tail.head = head;
        tail.length += bytes;
    }
}

/// The record of a line, if it follows those before it in the file.
fn follow(tail: &Tail, line: &[u8]) -> Option<Head> {
    let line = line::parse(line)?;
    let before = match tail.length {
        0 => {
            let before = line.place.before.as_ref()?.parse().ok()?;
            line.begins_a_file().then_some(before)?
        }
        _ if line.place.seq != tail.head.sequence + 1 => return None,
        _ => tail.head.hash,
    };
    let hash = before.then(line.record);
    (hash == line.hash).then_some(Head { sequence: line.place.seq, hash })
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
