//! The files of an audit: `00000001.log` and so on, in a directory of their own, each for its owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::line::LINE_BYTES_MAX;

/// What holds records is for its owner alone.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// The digits of a file's number.
const DIGITS: usize = 8;
/// The highest number that a file can have.
pub(super) const NUMBER_MAX: u64 = 99_999_999;

/// An error with the file that it is about.
pub(super) fn about(path: &Path, what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

/// The path of a file.
pub fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0width$}.log", width = DIGITS))
}

/// The number of a file of that name; none if it is no audit's.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let all = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten().filter(|number| *number > 0)
}

/// The numbers of the files in a directory, in order.
pub fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| about(dir, "read", error))? {
        let entry = entry.map_err(|error| about(dir, "read", error))?;
        numbers.extend(entry.file_name().to_str().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the directory, if it is not there.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    let mut make = DirBuilder::new();
    make.recursive(true).mode(DIR_MODE);
    make.create(dir).map_err(|error| about(dir, "make", error))
}

/// Makes what was made or removed in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| about(dir, "sync", error))
}

/// Makes a file, with room for so many bytes, so that a disk that others fill takes no record from it. Where the file system
/// cannot keep room, it goes without.
pub(super) fn make(path: &Path, room_bytes: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    let file = options.open(path).map_err(|error| about(path, "make", error))?;
    keep_room(&file, room_bytes).map_err(|error| about(path, "keep room for", error))?;
    Ok(file)
}

/// Keeps room for so many bytes of a file, whatever it has now.
pub(super) fn keep_room(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file to go on at its end, with what it has.
pub(super) fn open_end(path: &Path, length: u64) -> io::Result<File> {
    let opened = OpenOptions::new().write(true).open(path).and_then(|mut file| {
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(file)
    });
    opened.map_err(|error| about(path, "open", error))
}

/// The lines of a file, each bounded.
#[derive(Debug)]
pub struct LinesOf<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

/// One line, or what there is of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// What follows the last line, if anything does.
    CutShort(&'a [u8]),
    /// More than a line can have.
    TooLong,
}

impl<R: Read> LinesOf<R> {
    /// Those of a reader.
    pub fn of(reader: R) -> LinesOf<R> {
        LinesOf { reader: BufReader::with_capacity(1 << 18, reader), line: Vec::new() }
    }

    /// The next one; none at the end.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.line.clear();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        let is_whole = self.line.last() == Some(&b'\n');
        if !is_whole && self.line.len() > LINE_BYTES_MAX {
            self.skip_line()?;
            return Ok(Some(Piece::TooLong));
        }
        Ok(Some(match self.line.strip_suffix(b"\n") {
            Some(line) => Piece::Whole(line),
            None => Piece::CutShort(&self.line),
        }))
    }

    /// Goes to the next line.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let there = self.reader.fill_buf()?;
            let end = there.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(there.len(), |end| end + 1);
            if end.is_some() || used == 0 {
                self.reader.consume(used);
                return Ok(());
            }
            self.reader.consume(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        let dir = Path::new("d");
        assert_eq!(path_of(dir, 7), Path::new("d/00000007.log"));
        for (name, number) in [
            ("00000007.log", Some(7)),
            ("99999999.log", Some(NUMBER_MAX)),
            ("00000000.log", None),
            ("7.log", None),
            ("+0000007.log", None),
            ("00000007.log.gz", None),
            ("000000007.log", None),
        ] {
            assert_eq!(number_of(name), number, "{name}");
        }
    }

    #[test]
    fn lines_are_bounded_and_what_has_no_end_is_told_apart() {
        let long = "x".repeat(LINE_BYTES_MAX + 300_000);
        let text = format!("one\n\n{long}\ntwo\nthree");
        let mut lines = LinesOf::of(text.as_bytes());
        assert_eq!(lines.next_piece().unwrap(), Some(Piece::Whole(b"one")));
        assert_eq!(lines.next_piece().unwrap(), Some(Piece::Whole(b"")));
        assert_eq!(lines.next_piece().unwrap(), Some(Piece::TooLong));
        assert_eq!(lines.next_piece().unwrap(), Some(Piece::Whole(b"two")));
        assert_eq!(lines.next_piece().unwrap(), Some(Piece::CutShort(b"three")));
        assert_eq!(lines.next_piece().unwrap(), None);
    }
}
