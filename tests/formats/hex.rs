//! Files as text that can be kept in a repository. As `hexdump` does it, `*` stands for rows that are as the one
//! before: most of a database is that.

use std::fmt::Write;

const ROW_BYTES: usize = 16;

/// The text of a file. The last row is always there, so that the text tells the length.
pub(crate) fn write(bytes: &[u8]) -> String {
    let mut text = String::new();
    let rows: Vec<&[u8]> = bytes.chunks(ROW_BYTES).collect();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 && at + 1 < rows.len() && rows[at - 1] == *row {
            if !text.ends_with("*\n") {
                text += "*\n";
            }
            continue;
        }
        write!(text, "{:08x}:", at * ROW_BYTES).unwrap();
        for pair in row.chunks(2) {
            text.push(' ');
            pair.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        }
        text.push('\n');
    }
    text
}

/// The file of a text.
pub(crate) fn read(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for line in text.lines().filter(|line| *line != "*") {
        let (at, row) = line.split_once(':').unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        while bytes.len() < at {
            bytes.extend_from_within(bytes.len() - ROW_BYTES..);
        }
        let digits: String = row.split_whitespace().collect();
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        bytes.extend((0..digits.len()).step_by(2).map(byte));
    }
    bytes
}

#[test]
fn what_is_read_is_what_was_written() {
    let mut bytes = vec![0; 1000];
    bytes[17] = 1;
    bytes[900..].fill(0xfe);
    for length in [0, 1, 16, 17, 18, 33, 64, 500, 512, 1000] {
        assert_eq!(read(&write(&bytes[..length])), bytes[..length]);
    }
    let zeros = "0000 0000 0000 0000 0000 0000 0000 0000";
    let text = format!("00000000: {zeros}\n*\n00000040: 0000 00\n");
    assert_eq!(write(&[0; 67]), text);
}
