//! The Date of answers: by the clock as it is, also after it was put back. The library below keeps what it made until
//! the clock gets beyond it.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::{DATE, HeaderMap, HeaderValue};

/// The last second that the header's form can state.
const LAST_SECOND: u64 = 253_402_300_799;

thread_local! {
    /// The second, and its header.
    static MADE: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// States the time of an answer.
pub(super) fn set(headers: &mut HeaderMap) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if let Some(date) = MADE.with(|made| date(&mut made.borrow_mut(), now)) {
        headers.insert(DATE, date);
    }
}

fn date(made: &mut Option<(u64, HeaderValue)>, now: u64) -> Option<HeaderValue> {
    if let Some((second, date)) = made
        && *second == now
    {
        return Some(date.clone());
    }
    let time = UNIX_EPOCH + Duration::from_secs(now.min(LAST_SECOND));
    let date = HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok()?;
    *made = Some((now, date.clone()));
    Some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_clock_that_is_put_back() {
        let mut made = None;
        assert_eq!(date(&mut made, 784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(&mut made, 784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(&mut made, 784_108_177).unwrap(), "Sun, 06 Nov 1994 07:49:37 GMT");
        assert_eq!(date(&mut made, u64::MAX).unwrap(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
