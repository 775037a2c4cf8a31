//! Times of day and dates, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

const DAY: u64 = 24 * 3600;

/// When it was by the wall clock at `then`, which has passed.
pub(super) fn wall(then: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(then.elapsed()).unwrap_or(now)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// As `12:34:56.789`.
pub(super) struct Clock(pub(super) SystemTime);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = since_1970(self.0);
        let seconds = since.as_secs() % DAY;
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{h:02}:{m:02}:{s:02}.{:03}", since.subsec_millis())
    }
}

/// As `2026-11-03T12:34:56.789012Z` (RFC 3339).
pub(super) struct Stamp(pub(super) SystemTime);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = since_1970(self.0);
        let (year, month, day) = date(since.as_secs() / DAY);
        let seconds = since.as_secs() % DAY;
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let micros = since.subsec_micros();
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{micros:06}Z")
    }
}

/// Year, month and day, `days` after 1 January 1970. Counted in eras of 400 years that begin in
/// March, so that a leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 1 March of the year 0
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * era + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_has_it() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_793_709_296, 789_012_345);
        assert_eq!(Stamp(time).to_string(), "2026-11-03T12:34:56.789012Z");
        assert_eq!(Clock(time).to_string(), "12:34:56.789");
    }

    #[test]
    fn dates_are_those_of_another_implementation() {
        for day in (0..200_000).step_by(13).chain(11_000..11_800) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(day * DAY);
            let http = httpdate::fmt_http_date(time);
            let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = months.find(&http[8..11]).unwrap() / 3 + 1;
            let expected = format!("{}-{month:02}-{}T00:00:00.000000Z", &http[12..16], &http[5..7]);
            assert_eq!(Stamp(time).to_string(), expected);
        }
    }
}
