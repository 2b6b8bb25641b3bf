//! Standard input, as commands read what they are given there.

use std::io::Read;

use bytes::Bytes;
use rustix::fs::{FileType, fstat, stat};

use super::{CliError, Exit, at_start};

/// All of it, at most so many bytes; `what` names what it is.
pub(super) fn read(what: &str, bytes_max: u64) -> Result<Bytes, CliError> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| {
        CliError::new(Exit::Failed, format!("could not read {what} from stdin: {error}"))
    })?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("{what} on stdin is larger than {bytes_max} bytes");
        return Err(CliError::new(Exit::Failed, message));
    }
    Ok(bytes.into())
}

/// Whether it was closed. Who names it not, `asked` says whether they did, gets /dev/null from many who start commands,
/// and means nothing empty either.
pub(super) fn is_nothing(asked: bool) -> bool {
    let stdin = std::io::stdin();
    let is_null = match (fstat(&stdin), stat("/dev/null")) {
        (Ok(stdin), Ok(null)) => {
            stdin.st_rdev == null.st_rdev
                && FileType::from_raw_mode(stdin.st_mode) == FileType::CharacterDevice
        }
        _ => false,
    };
    at_start::stdin_closed() || (is_null && !asked)
}
