//! How far our clock is from the server's, by the `Date` header of its handshake.

use std::time::{Duration, SystemTime};

/// A header says whole seconds, cut off.
const RESOLUTION: Duration = Duration::from_secs(1);

/// The server's clock compared with ours.
///
/// A `Date` header has a resolution of one second, and some time passes between the server's look at
/// its clock and ours at ours: so the difference is known only up to half of the two. The header may
/// be that of a proxy on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClockSkew {
    /// The server's clock minus ours, in milliseconds: the middle of what is possible.
    pub offset_millis: i64,
    /// The true difference is at most this far from that.
    pub uncertainty: Duration,
}

impl ClockSkew {
    /// The server said `date`, between the moments `before` and `after` of our clock.
    pub(super) fn new(date: SystemTime, before: SystemTime, after: SystemTime) -> Self {
        // Ours may have been set back meanwhile.
        let after = after.max(before);
        let (least, most) = (millis(date, after), millis(date + RESOLUTION, before));
        let width = u64::try_from(most - least).unwrap_or_default();
        Self {
            offset_millis: least + (most - least) / 2,
            uncertainty: Duration::from_millis(width.div_ceil(2)),
        }
    }

    /// Whether the clocks are at least a second apart, whatever could not be measured.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        let uncertainty = self.uncertainty.as_millis();
        u128::from(self.offset_millis.unsigned_abs()) >= uncertainty + RESOLUTION.as_millis()
    }
}

/// `a - b` in milliseconds.
fn millis(a: SystemTime, b: SystemTime) -> i64 {
    let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 4);
    match a.duration_since(b) {
        Ok(ahead) => millis(ahead),
        Err(behind) => -millis(behind.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// What is found where the server's clock is `ahead` of ours by so many milliseconds, and both
    /// ways of the handshake take `way`.
    fn found(ahead: i64, way: u64, now: u64) -> ClockSkew {
        let looked = now + way;
        let servers = i64::try_from(looked).unwrap() + ahead;
        let date = u64::try_from(servers).unwrap() / 1000 * 1000;
        ClockSkew::new(at(date), at(now), at(looked + way))
    }

    #[test]
    fn the_true_difference_is_always_within_the_uncertainty() {
        for ahead in [-90_000, -1700, -500, -1, 0, 1, 999, 1500, 3_600_000] {
            for way in [0, 1, 40, 800] {
                for now in (1_000_000..1_002_000).step_by(97) {
                    let skew = found(ahead, way, now);
                    let off = u128::from((skew.offset_millis - ahead).unsigned_abs());
                    assert!(off <= skew.uncertainty.as_millis(), "{ahead} {way} {now}: {skew:?}");
                    assert_eq!(skew.uncertainty.as_millis(), u128::from(500 + way));
                    assert!(!skew.is_certain() || ahead.abs() >= 1000, "{ahead}: {skew:?}");
                }
            }
        }
        assert!(
            found(3000, 40, 1_000_000).is_certain() && found(-3000, 40, 1_000_000).is_certain()
        );
    }

    #[test]
    fn clocks_that_make_no_sense_are_no_overflow() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(ClockSkew::new(SystemTime::UNIX_EPOCH, far, far).is_certain());
        assert_eq!(ClockSkew::new(at(0), at(9000), at(0)).uncertainty.as_millis(), 500);
    }
}
