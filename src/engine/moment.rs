//! A moment in eight bytes, also where there is none.
//!
//! An [`Instant`] takes sixteen, and a connection that is idle consists of little else. Here it is
//! nanoseconds before or after an origin: 146 years each way, and exact.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

use crate::observe::nanos;

/// What stands for the origin itself, which is when it was first asked for, by whatever clock: a paused
/// one is ahead of others, which are before the origin then.
const MIDDLE: u64 = 1 << 62;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// An [`Instant`] that is kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Moment(NonZeroU64);

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let origin = *ORIGIN;
        let nanos = match at.checked_duration_since(origin) {
            Some(after) => MIDDLE.saturating_add(nanos(after)),
            None => MIDDLE.saturating_sub(nanos(origin.duration_since(at))),
        };
        Self(NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN))
    }
}

impl From<Moment> for Instant {
    fn from(Moment(nanos): Moment) -> Self {
        match nanos.get().checked_sub(MIDDLE) {
            Some(after) => *ORIGIN + Duration::from_nanos(after),
            None => *ORIGIN - Duration::from_nanos(MIDDLE - nanos.get()),
        }
    }
}

impl Moment {
    pub(crate) fn at(self) -> Instant {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_instant_again_and_in_the_same_order() {
        let origin = *ORIGIN;
        let mut moments = Vec::new();
        for secs in [-3600, -1, 0, 1, 60 * 60 * 24 * 3650_i64] {
            for nanos in [0, 1, 999_999_999] {
                let by = Duration::new(secs.unsigned_abs(), nanos);
                let at = if secs < 0 { origin - by } else { origin + by };
                assert_eq!(Moment::from(at).at(), at);
                moments.push(at);
            }
        }
        moments.sort();
        assert!(moments.iter().map(|at| Moment::from(*at)).is_sorted());
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }

    #[test]
    fn what_is_too_far_away_is_as_far_as_can_be_told() {
        let origin = *ORIGIN;
        let far = origin + Duration::from_secs(60 * 60 * 24 * 365 * 200);
        assert!(Moment::from(far) > Moment::from(origin + Duration::from_secs(60 * 60 * 24 * 365)));
        assert!(Moment::from(far).at() <= far);
    }
}
