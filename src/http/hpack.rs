//! Whether a header block of HTTP/2 (RFC 7541) names a target with a `#` in it.
//!
//! As over HTTP/1 the library cuts a target off there before konsen sees it. Blocks depend on those before them, so each is
//! followed; but of the table only what matters is kept: how large an entry is, and whether it is of `:path`.

use std::collections::VecDeque;
use std::sync::LazyLock;

/// The largest table: what the library allows its peers, the default of HTTP/2.
const TABLE_BYTES_MAX: usize = 4096;
/// What an entry takes beside name and value (section 4.1).
const ENTRY_BYTES: usize = 32;
const PATH: &[u8] = b":path";
/// The lengths of the names in the static table (appendix A).
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];
/// The entries of the static table that are of `:path`.
const STATIC_PATHS: std::ops::RangeInclusive<usize> = 4..=5;

/// The lengths of the codes of all bytes, in bits (appendix B). The code is canonical: codes of one length follow each other,
/// and so do the first ones of each length.
const CODE_BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const CODE_BITS_MAX: usize = 30;

/// The code by length: the first code, how many there are, and where their bytes begin.
static CODE: LazyLock<Code> = LazyLock::new(Code::new);

struct Code {
    lengths: [(u32, u32, usize); CODE_BITS_MAX + 1],
    bytes: Vec<u8>,
    /// By the next eight bits: the byte and the bits of its code; none where that is longer.
    short: [(u8, u32); 256],
}

impl Code {
    fn new() -> Code {
        let (mut lengths, mut bytes) = ([(0, 0, 0); CODE_BITS_MAX + 1], Vec::with_capacity(256));
        let mut first = 0_u32;
        for (bits, length) in lengths.iter_mut().enumerate() {
            first <<= 1;
            let begin = bytes.len();
            let of =
                (0..=u8::MAX).filter(|&byte| usize::from(CODE_BITS[usize::from(byte)]) == bits);
            bytes.extend(of);
            // At most 256.
            let count = (bytes.len() - begin) as u32;
            *length = (first, count, begin);
            first += count;
        }
        let mut short = [(0, 0); 256];
        for (bits, &(first, count, begin)) in lengths.iter().enumerate().take(9) {
            let free = 8 - bits;
            for at in 0..count {
                let from = ((first + at) as usize) << free;
                short[from..from + (1 << free)].fill((bytes[begin + at as usize], bits as u32));
            }
        }
        Code { lengths, bytes, short }
    }

    /// Shows the bytes of an encoded string in turn.
    fn decode(&self, encoded: &[u8], mut show: impl FnMut(u8)) -> Result<(), Broken> {
        // The next bits, so many of them.
        let (mut ahead, mut bits) = (0_u64, 0_u32);
        let mut rest = encoded.iter();
        loop {
            while bits <= 48
                && let Some(&byte) = rest.next()
            {
                ahead = ahead << 8 | u64::from(byte);
                bits += 8;
            }
            let next = match bits {
                // What fills the last byte up is the beginning of the code that is all ones.
                0..8 => ahead << (8 - bits) | 0xff >> bits,
                _ => ahead >> (bits - 8),
            };
            let (byte, length) = match self.short[next as usize & 0xff] {
                (_, 0) if bits < 8 => {
                    return if ahead == (1 << bits) - 1 { Ok(()) } else { Err(Broken) };
                }
                (_, 0) => self.long(ahead, bits)?,
                (_, length) if length > bits => return Err(Broken),
                short => short,
            };
            show(byte);
            bits -= length;
            ahead &= (1 << bits) - 1;
        }
    }

    /// The byte whose code of more than eight bits comes next.
    fn long(&self, ahead: u64, bits: u32) -> Result<(u8, u32), Broken> {
        for length in 9..=bits.min(CODE_BITS_MAX as u32) {
            let code = (ahead >> (bits - length)) as u32;
            let (first, count, begin) = self.lengths[length as usize];
            if let Some(at) = code.checked_sub(first).filter(|at| *at < count) {
                return Ok((self.bytes[begin + at as usize], length));
            }
        }
        Err(Broken)
    }
}

/// A block that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What the blocks of a connection have left for those to come.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name_bytes: usize,
    is_path: bool,
    bytes: usize,
}

/// A name: how long it is, and whether it is that of a target.
#[derive(Clone, Copy)]
struct Name {
    bytes: usize,
    is_path: bool,
}

impl Table {
    pub(super) fn new() -> Table {
        Table { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES_MAX }
    }

    /// Follows a whole block; whether a target in it has a `#`.
    pub(super) fn has_fragment(&mut self, block: &[u8]) -> Result<bool, Broken> {
        let mut rest = block;
        let mut found = false;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                self.name(index)?;
            } else if first & 0xe0 == 0x20 {
                let bytes_max = integer(&mut rest, 5)?;
                if bytes_max > TABLE_BYTES_MAX {
                    return Err(Broken);
                }
                self.bytes_max = bytes_max;
                self.evict(0);
            } else {
                let is_kept = first & 0x40 != 0;
                let name = match integer(&mut rest, if is_kept { 6 } else { 4 })? {
                    0 => {
                        let mut at = 0;
                        let mut is_path = true;
                        let bytes = string(&mut rest, |byte| {
                            is_path &= PATH.get(at) == Some(&byte);
                            at += 1;
                        })?;
                        Name { bytes, is_path: is_path && bytes == PATH.len() }
                    }
                    index => self.name(index)?,
                };
                if is_kept || name.is_path {
                    let bytes = string(&mut rest, |byte| found |= name.is_path && byte == b'#')?;
                    if is_kept {
                        self.add(name, bytes);
                    }
                } else {
                    // Nobody asks what it is.
                    let length = integer(&mut rest, 7)?;
                    rest = rest.get(length..).ok_or(Broken)?;
                }
            }
        }
        Ok(found)
    }

    fn name(&self, index: usize) -> Result<Name, Broken> {
        let at = index.checked_sub(1).ok_or(Broken)?;
        match STATIC_NAMES.get(at) {
            Some(&bytes) => {
                Ok(Name { bytes: bytes.into(), is_path: STATIC_PATHS.contains(&index) })
            }
            None => {
                let entry = self.entries.get(at - STATIC_NAMES.len()).ok_or(Broken)?;
                Ok(Name { bytes: entry.name_bytes, is_path: entry.is_path })
            }
        }
    }

    fn add(&mut self, name: Name, value_bytes: usize) {
        let bytes = name.bytes + value_bytes + ENTRY_BYTES;
        self.evict(bytes);
        // One that is larger than the table empties it, and is not kept.
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(Entry { name_bytes: name.bytes, is_path: name.is_path, bytes });
        }
    }

    /// Lets go of the oldest until so many bytes more fit.
    fn evict(&mut self, more: usize) {
        while self.bytes + more > self.bytes_max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

/// A number whose first bits share a byte with others (section 5.1).
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Broken> {
    let (&first, mut after) = rest.split_first().ok_or(Broken)?;
    let most = (1_u32 << prefix_bits) - 1;
    let mut number = u64::from(u32::from(first) & most);
    if number == u64::from(most) {
        let mut shift = 0;
        loop {
            let (&byte, more) = after.split_first().ok_or(Broken)?;
            after = more;
            number += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            // What is longer is no length of anything here.
            if shift > 28 {
                return Err(Broken);
            }
        }
    }
    *rest = after;
    usize::try_from(number).map_err(|_| Broken)
}

/// A string (section 5.2), whose bytes are shown; how many they are.
fn string(rest: &mut &[u8], mut show: impl FnMut(u8)) -> Result<usize, Broken> {
    let is_encoded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = after;
    if !is_encoded {
        text.iter().copied().for_each(show);
        return Ok(length);
    }
    let mut bytes = 0;
    CODE.decode(text, |byte| {
        bytes += 1;
        show(byte);
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    /// Sizes of the entries, the newest first.
    fn sizes(table: &Table) -> Vec<usize> {
        table.entries.iter().map(|entry| entry.bytes).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_leave_the_tables_that_they_say() {
        // Appendix C.3 and C.4: three requests, without and with Huffman coding.
        for blocks in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let mut table = Table::new();
            let after: Vec<Vec<usize>> = blocks
                .iter()
                .map(|block| {
                    assert_eq!(table.has_fragment(&bytes(block)), Ok(false));
                    sizes(&table)
                })
                .collect();
            assert_eq!(after, [vec![57], vec![53, 57], vec![54, 53, 57]]);
        }
        // Appendix C.2.2 and C.2.3: a path that is not kept, a name that is never kept.
        let mut table = Table::new();
        assert_eq!(table.has_fragment(&bytes("040c 2f73 616d 706c 652f 7061 7468")), Ok(false));
        assert_eq!(
            table.has_fragment(&bytes("1008 7061 7373 776f 7264 0673 6563 7265 74")),
            Ok(false)
        );
        assert!(table.entries.is_empty());
    }

    #[test]
    fn a_fragment_is_found_in_every_form_of_a_target_and_nowhere_else() {
        let plain = b"/a#b";
        let text = [&[plain.len() as u8][..], plain].concat();
        for name in [&b"\x04"[..], b"\x44", b"\x14", b"\x05", b"\x00\x05:path", b"\x40\x05:path"] {
            let block = [name, &text].concat();
            assert_eq!(Table::new().has_fragment(&block), Ok(true), "{name:?}");
        }
        // `/`, `#` and `1` by their codes, 011000, 111111111010 and 00001, and ones to fill up.
        let encoded = [4, 0x83, 0b0110_0011, 0b1111_1110, 0b1000_0011];
        assert_eq!(Table::new().has_fragment(&encoded), Ok(true));
        let other = [&b"\x00\x07referer"[..], &text].concat();
        assert_eq!(Table::new().has_fragment(&other), Ok(false));
        // By the name of an entry that was kept.
        let mut table = Table::new();
        assert_eq!(table.has_fragment(b"\x40\x05:path\x01/"), Ok(false));
        assert_eq!(table.has_fragment(&[&b"\x0f\x2f"[..], &text].concat()), Ok(true));
    }

    #[test]
    fn every_byte_is_decoded() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        // By the code itself: all codes one after the other, and ones.
        let (mut encoded, mut ahead, mut bits) = (Vec::new(), 0_u64, 0_u32);
        for &byte in &all {
            let length = u32::from(CODE_BITS[usize::from(byte)]);
            let (first, _, begin) = CODE.lengths[length as usize];
            let at = CODE.bytes[begin..].iter().position(|&one| one == byte).unwrap() as u32;
            ahead = ahead << length | u64::from(first + at);
            bits += length;
            while bits >= 8 {
                bits -= 8;
                encoded.push((ahead >> bits) as u8);
                ahead &= (1 << bits) - 1;
            }
        }
        if bits > 0 {
            encoded.push((ahead << (8 - bits)) as u8 | 0xff >> bits);
        }
        let mut decoded = Vec::new();
        CODE.decode(&encoded, |byte| decoded.push(byte)).unwrap();
        assert_eq!(decoded, all);
        assert!(CODE.decode(&[0xff, 0xff, 0xff, 0xff], |_| {}).is_err());
        assert!(CODE.decode(&[0xff], |_| {}).is_err());
        assert!(CODE.decode(&[], |_| {}).is_ok());
    }

    #[test]
    fn what_cannot_be_followed_is_broken() {
        for block in [
            "80",
            "be",
            "3fe21f",
            "04",
            "0405 2f",
            "7fffffffffff0f",
            "00 81 00 00",
            "04 84 ff ff ff ff",
            "04 81 60",
        ] {
            assert_eq!(Table::new().has_fragment(&bytes(block)), Err(Broken), "{block}");
        }
        // A smaller table holds less.
        let mut table = Table::new();
        table.has_fragment(&bytes("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")).unwrap();
        assert_eq!(table.has_fragment(&bytes("20")), Ok(false));
        assert!(table.entries.is_empty() && table.bytes == 0);
    }
}
