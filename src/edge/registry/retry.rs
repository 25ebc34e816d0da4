//! How long to wait before asking again.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Retries after the first attempt.
const RETRIES: usize = 3;

/// The waits between attempts: growing, with jitter so that many clients do not come back as one.
pub(super) fn delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(150))
        .with_max_delay(Duration::from_secs(5))
        .with_factor(2.5)
        .with_max_times(RETRIES)
        .with_jitter()
        .build()
}

/// Whether the same request may have another answer later. 501 says that it never will.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3); anything else says nothing.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number of seconds still mean "not in this run"; no clock counts so far.
        return Some(Duration::from_secs(text.parse().unwrap_or(u32::MAX).into()));
    }
    let date: Timestamp = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        retry_after(&headers, now).map(|d| d.as_secs())
    }

    #[test]
    fn both_forms_are_read_and_garbage_is_not() {
        assert_eq!(after("1"), Some(1));
        assert_eq!(after("9999"), Some(9999));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(10));
        assert_eq!(after("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        for many in ["18446744073709551615", "99999999999999999999999"] {
            assert_eq!(after(many), Some(u64::from(u32::MAX)), "{many}");
        }
        for garbage in ["", "soon", "-1", "1.5", "Wed, 99 Oct 2015"] {
            assert_eq!(after(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn few_and_growing() {
        let delays: Vec<_> = delays().collect();
        assert_eq!(delays.len(), RETRIES);
        assert!(delays.iter().sum::<Duration>() < Duration::from_secs(6));
    }
}
