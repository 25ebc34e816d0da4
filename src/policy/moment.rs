//! Times and durations as they are written in a policy.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use toml::value::Datetime;

/// A TOML date and time with its offset from UTC.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Datetime")]
pub(super) struct Moment(pub(super) Timestamp);

/// A duration: a whole number above 0 and one of `s`, `m`, `h`, `d`, `w`. A day has 24 hours.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Age(pub(super) SignedDuration);

impl TryFrom<Datetime> for Moment {
    type Error = String;

    fn try_from(written: Datetime) -> Result<Self, String> {
        let parsed = written.to_string().parse();
        parsed.map(Self).map_err(|_| {
            format!("`{written}` is not a date and time with an offset, such as 2026-01-31T00:00:00Z")
        })
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unit = match text.bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            _ => 0,
        };
        let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let seconds = number.parse::<i64>().ok().filter(|_| digits).and_then(|n| n.checked_mul(unit));
        match seconds {
            Some(seconds @ 1..) => Ok(Self(SignedDuration::from_secs(seconds))),
            _ => Err(format!("`{text}` is not a duration above 0, such as 12h, 7d or 4w")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        let seconds = |text: &str| Age::try_from(text.to_owned()).map(|age| age.0.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("7d"), Ok(7 * 24 * 3_600));
        assert_eq!(seconds("2w"), Ok(14 * 24 * 3_600));
        let too_many = format!("{}w", i64::MAX);
        for bad in ["", "d", "7", "0d", "-1d", "+1d", "1.5h", "7 d", "7D", "1h30m", "7д", &too_many] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
