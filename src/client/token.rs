//! A bearer token from its file. Secrets are not given on the command line, where everybody on the machine sees them.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::error::Error;

/// The largest file that is taken for a token's.
const FILE_BYTES_MAX: u64 = 4096;

/// The value of `Authorization` for the token in a file, without the space around it. A file that others can read is
/// refused.
pub(crate) fn authorization(file: &Path) -> Result<HeaderValue, Error> {
    // What was given is not repeated: it may be the token itself, by mistake.
    let unreadable = |error: std::io::Error| {
        Error::Usage(format!(
            "--token (KONSEN_TOKEN) names a file that holds the token, and the one that was named cannot be read: {error}"
        ))
    };
    let mut opened = File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { file: file.to_path_buf(), mode });
    }
    let mut text = String::new();
    opened.by_ref().take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    let is_token = !token.is_empty()
        && text.len() as u64 <= FILE_BYTES_MAX
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = is_token.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let mut value = value.ok_or_else(|| {
        Error::Usage(format!("{}: holds no token, which is one word in one line", file.display()))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Refuses to send a token where others can read it on its way.
pub(crate) fn check_endpoint(endpoint: &Url) -> Result<(), Error> {
    let host = endpoint.host_str().unwrap_or_default();
    let is_here = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    if endpoint.scheme() == "https" || is_here {
        return Ok(());
    }
    let endpoint = endpoint.as_str().trim_end_matches('/');
    let right = endpoint.replacen("http://", "https://", 1);
    Err(Error::NotAllowed(format!(
        "{endpoint}: a token is not sent in plain text, since everybody on the way could use it; write {right}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, mode: u32) -> Result<HeaderValue, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        authorization(&path)
    }

    #[test]
    fn a_token_is_one_word_in_a_file_that_only_its_owner_reads() {
        let value = token("  abc.DEF-1\n", 0o600).unwrap();
        assert!(value == "Bearer abc.DEF-1" && value.is_sensitive());
        assert!(token("abc", 0o400).is_ok());
        for mode in [0o640, 0o604, 0o620] {
            assert!(
                matches!(token("abc", mode), Err(Error::Exposed { mode: is, .. }) if is == mode)
            );
        }
        for wrong in ["", " \n", "a b", "a\nb", "ä", &"a".repeat(5000)] {
            assert!(matches!(token(wrong, 0o600), Err(Error::Usage(_))), "{wrong}");
        }
        let secret = "k0nsen-secret";
        let error = authorization(Path::new(secret)).unwrap_err().to_string();
        assert!(error.contains("No such file") && !error.contains(secret), "{error}");
    }

    #[test]
    fn a_token_goes_over_tls_or_stays_on_this_machine() {
        let allowed = |url: &str| check_endpoint(&url.parse().unwrap()).is_ok();
        for url in ["https://h:1/", "http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/"]
        {
            assert!(allowed(url), "{url}");
        }
        for url in
            ["http://h:1/", "http://10.0.0.1:1/", "http://[2001:db8::1]:1/", "http://localhost.h/"]
        {
            assert!(!allowed(url), "{url}");
        }
    }
}
