//! The hash that chains records, and how it is written.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};

/// The bytes of a hash.
pub(super) const HASH_BYTES: usize = 32;

/// SHA-256 over the hash before and a record's bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// What the first record of a chain has before it.
    pub const NONE: Hash = Hash([0; HASH_BYTES]);

    /// The hash of a record that follows this one.
    #[must_use]
    pub fn then(self, record: &[u8]) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        context.update(record);
        let mut hash = [0; HASH_BYTES];
        // The lengths are the same: both are those of SHA-256.
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Hash(hash)
    }

    /// As 64 hexadecimal digits, in small letters.
    pub fn digits(self) -> [u8; 2 * HASH_BYTES] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 2 * HASH_BYTES];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().iter().try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 hexadecimal digits")]
pub struct NoHash;

impl FromStr for Hash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Hash, NoHash> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let bytes = text.as_bytes();
        if bytes.len() != 2 * HASH_BYTES {
            return Err(NoHash);
        }
        let mut hash = [0; HASH_BYTES];
        for (to, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or(NoHash)?;
            *to = high << 4 | low;
        }
        Ok(Hash(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_sha_256_over_the_one_before_and_the_record() {
        // (head -c 32 /dev/zero; printf abc) | sha256sum
        let hash = Hash::NONE.then(b"abc");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_ne!(hash, hash.then(b"abc"));
        assert_ne!(hash, Hash::NONE.then(b"abd"));
        assert_eq!(
            hash.to_string(),
            "365aa7d8f7f9402c4b9434502b4cc89ddb09fe50d7cd95b493b834c62d5a5370"
        );
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(text.parse::<Hash>(), Err(NoHash), "{text}");
        }
        assert_eq!("0".repeat(64).parse(), Ok(Hash::NONE));
    }
}
