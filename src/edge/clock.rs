//! The clock of this machine.

use jiff::Timestamp;

/// Now. The one place that asks.
pub fn now() -> Timestamp {
    Timestamp::now()
}
