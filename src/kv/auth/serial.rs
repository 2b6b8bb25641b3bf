//! Serial numbers of certificates, by which they are revoked.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest serial number, in bytes (RFC 5280, 4.1.2.2).
const SERIAL_BYTES: usize = 20;

/// The serial number of a certificate. In text it is hexadecimal, without zeros before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial([u8; SERIAL_BYTES]);

/// What is no [`Serial`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number has 1 to 20 bytes in hexadecimal, as `konsen cert show` prints it")]
pub struct SerialError;

impl Serial {
    /// That of these bytes, as a certificate has them.
    ///
    /// # Errors
    /// [`SerialError`] if there are too many or none but zeros.
    pub fn new(bytes: &[u8]) -> Result<Serial, SerialError> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let number = &bytes[zeros..];
        let mut serial = [0; SERIAL_BYTES];
        match SERIAL_BYTES.checked_sub(number.len()) {
            Some(before) if !number.is_empty() => serial[before..].copy_from_slice(number),
            _ => return Err(SerialError),
        }
        Ok(Serial(serial))
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// With colons between the bytes, too.
    fn from_str(text: &str) -> Result<Serial, SerialError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() > 2 * (SERIAL_BYTES + 1) || !digits.len().is_multiple_of(2) {
            return Err(SerialError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(SerialError);
        let byte = |two: &[u8]| Ok((digit(two[0])? << 4 | digit(two[1])?) as u8);
        Serial::new(&digits.chunks_exact(2).map(byte).collect::<Result<Vec<u8>, _>>()?)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * SERIAL_BYTES);
        let number = self.0.iter().skip_while(|byte| **byte == 0);
        number.into_iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_written_in_one_way_and_read_in_several() {
        let read = |text: &str| text.parse::<Serial>().map(|serial| serial.to_string());
        assert_eq!(read("4a0b").unwrap(), "4a0b");
        assert_eq!(read("00:4A:0b").unwrap(), "4a0b");
        assert_eq!(read(&"7f".repeat(20)).unwrap(), "7f".repeat(20));
        assert_eq!(read(&format!("00{}", "ff".repeat(20))).unwrap(), "ff".repeat(20));
        for wrong in ["", "0", "00", "4a0", "4g", "+1", "café", &"ff".repeat(21), &"00".repeat(99)]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let serial: Serial = "4a0b".parse().unwrap();
        let bytes = postcard::to_stdvec(&serial).unwrap();
        assert_eq!(postcard::from_bytes::<Serial>(&bytes).unwrap(), serial);
    }
}
