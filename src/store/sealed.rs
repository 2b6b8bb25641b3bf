//! Every value that is stored ends in a checksum over its bytes and over where it belongs: its table and
//! its key. So a value that was changed is found, and so is a whole one in another's place.

const SUM_BYTES: usize = 4;

/// Ends `bytes` with the checksum of a value that belongs to `key` of `table`.
pub(super) fn seal(table: &str, key: &[u8], bytes: &mut Vec<u8>) {
    let sum = checksum(table, key, bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
}

/// The value without its checksum; none if it is not what was sealed for `key` of `table`.
pub(super) fn unseal<'a>(table: &str, key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
    let right = checksum(table, key, value) == u32::from_le_bytes(*sum);
    right.then_some(value)
}

fn checksum(table: &str, key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.as_bytes());
    // Says where the key ends and the value begins.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_comes_back_only_whole_and_in_its_place() {
        let mut bytes = b"value".to_vec();
        seal("keys", b"k1", &mut bytes);
        assert_eq!(unseal("keys", b"k1", &bytes), Some(&b"value"[..]));
        assert_eq!(unseal("keys", b"k2", &bytes), None, "another key");
        assert_eq!(unseal("revisions", b"k1", &bytes), None, "another table");
        for at in 0..bytes.len() {
            assert_eq!(unseal("keys", b"k1", &bytes[..at]), None, "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(unseal("keys", b"k1", &changed), None, "changed at {at}");
        }
    }

    #[test]
    fn a_key_and_a_value_are_not_taken_for_another_pair_with_the_same_bytes() {
        let mut bytes = b"cd".to_vec();
        seal("keys", b"ab", &mut bytes);
        let mut moved = b"bcd".to_vec();
        moved.extend_from_slice(&bytes[2..]);
        assert_eq!(unseal("keys", b"a", &moved), None);
    }

    #[test]
    fn nothing_but_zeros_is_no_value() {
        for len in 0..64 {
            assert_eq!(unseal("keys", &[0; 8], &vec![0; len]), None);
        }
    }
}
