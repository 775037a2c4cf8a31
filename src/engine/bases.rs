//! The bases of a manager's protocol: which of them works, and which is dialled next.
//!
//! Plain data and arithmetic under one short lock; a protocol of one base never takes it.
//!
//! # Invariants
//!
//! 1. The first base that is not passed over is dialled. So the primary is, whenever it may.
//! 2. One that failed is passed over for a while, which doubles as long as it fails, and which the server
//!    may lengthen. Dials that fail while it is passed over are one failure. Then *one* dial tries it, and until that has told, for [`PROBE`] at most, the others go
//!    elsewhere.
//! 3. Where all are passed over, the one is dialled whose while is over first: there is always one.
//! 4. A base has worked, and its count of failures is forgotten, once a socket to it was stable. One that
//!    accepts and then closes is no base that works.
//! 5. Who has a socket at a later base may [go home](Bases::homeward) once it may dial there. As long as
//!    nobody knows that the base works, one goes, for [`PROBE`] at most, and the others wait for what comes
//!    of it: what accepts and dies again costs one stream its way, not all.
//! 6. A base that fails again soon after it has worked is come home to later each time, by who has a socket;
//!    who has none dials it as ever.

use std::time::Duration;

use tokio::time::Instant;

use super::sync::Mutex;

/// How long a base that failed is passed over, at first.
const SHORTEST: Duration = Duration::from_secs(30);
/// How long at most, unless the server says more.
const LONGEST: Duration = Duration::from_secs(300);
/// How long one dial may try a base that failed, before another does.
const PROBE: Duration = Duration::from_secs(30);
/// A base that worked for less than this before it failed has relapsed.
const RELAPSE: Duration = LONGEST;

#[derive(Debug)]
pub(crate) struct Bases {
    count: usize,
    table: Mutex<Box<[Base]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Base {
    /// In a row.
    failures: u32,
    /// Nobody who has a socket elsewhere goes home before.
    home_from: Option<Instant>,
    /// How often in a row it has failed soon after it had worked.
    relapses: u32,
    /// One has gone home, and the others wait for so long.
    trial_until: Option<Instant>,
    /// One dial tries it, for so long.
    tried_until: Option<Instant>,
    /// It is passed over until then.
    until: Option<Instant>,
    /// Since when its sockets have been stable, as far as anybody knows.
    works_since: Option<Instant>,
}

impl Base {
    fn may_be_dialled(&self, now: Instant) -> bool {
        !self.is_passed_over(now) && self.tried_until.is_none_or(|until| until <= now)
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Until when nobody goes home to it, if anything is known against it now.
    fn is_no_home_until(&self, now: Instant) -> Option<Instant> {
        let known = [self.until, self.tried_until, self.trial_until, self.home_from];
        known.into_iter().flatten().filter(|until| *until > now).max()
    }

    /// How much longer who has a socket elsewhere stays away.
    fn distrust(&self) -> Duration {
        SHORTEST.saturating_mul((1 << self.relapses.min(8)) - 1).min(LONGEST)
    }
}

impl Bases {
    /// So many of them, at least one.
    pub(crate) fn new(count: usize) -> Self {
        let count = count.clamp(1, usize::from(u16::MAX));
        Self { count, table: Mutex::new(vec![Base::default(); count].into_boxed_slice()) }
    }

    pub(crate) fn are_several(&self) -> bool {
        self.count > 1
    }

    /// Does something with a base, where there are several.
    fn with<R: Default>(&self, base: u16, change: impl FnOnce(&mut Base) -> R) -> R {
        if !self.are_several() {
            return R::default();
        }
        self.table.lock().get_mut(usize::from(base)).map(change).unwrap_or_default()
    }

    /// The base for the next dial.
    pub(crate) fn choose(&self, now: Instant) -> u16 {
        if !self.are_several() {
            return 0;
        }
        let mut bases = self.table.lock();
        let open = bases.iter().position(|base| base.may_be_dialled(now));
        let soonest = || {
            let places = 0..bases.len();
            places.min_by_key(|place| bases[*place].until)
        };
        let chosen = open.or_else(soonest).unwrap_or(0);
        let base = &mut bases[chosen];
        if base.failures > 0 {
            base.tried_until = Some(now + PROBE);
        }
        u16::try_from(chosen).unwrap_or(0)
    }

    /// Claims a base before `from` for one who has a socket at `from`: that one is to dial it, and nothing
    /// else. If there is none to be had now, when to look again; never, where none is before it.
    pub(crate) fn homeward(&self, from: u16, now: Instant) -> Result<u16, Option<Instant>> {
        if !self.are_several() {
            return Err(None);
        }
        let mut bases = self.table.lock();
        let earlier = bases.iter_mut().take(usize::from(from)).zip(0..);
        let mut look_at: Option<Instant> = None;
        for (base, place) in earlier {
            let Some(until) = base.is_no_home_until(now) else {
                if base.failures > 0 {
                    (base.tried_until, base.trial_until) = (Some(now + PROBE), Some(now + PROBE));
                }
                return Ok(place);
            };
            look_at = Some(look_at.map_or(until, |at| at.min(until)));
        }
        Err(look_at)
    }

    /// What was [claimed](Self::homeward) is not dialled after all.
    pub(crate) fn withdraw(&self, base: u16) {
        self.with(base, |base| (base.tried_until, base.trial_until) = (None, None));
    }

    /// A dial to `base` has failed, or what it brought was of no use. It is passed over for `at_least`.
    pub(crate) fn failed(&self, base: u16, at_least: Duration, now: Instant) {
        self.with(base, |base| {
            if base.failures == 0 {
                let worked_for = base.works_since.take().map(|since| now - since);
                let relapsed = worked_for.is_some_and(|worked_for| worked_for < RELAPSE);
                base.relapses = if relapsed { base.relapses.saturating_add(1) } else { 0 };
            }
            // Many that fail together have one reason.
            base.failures += u32::from(!base.is_passed_over(now));
            let doubled = SHORTEST.saturating_mul(1 << (base.failures - 1).min(8));
            (base.tried_until, base.trial_until) = (None, None);
            let until = now + doubled.min(LONGEST).max(at_least);
            (base.until, base.home_from) = (Some(until), Some(until + base.distrust()));
        });
    }

    /// A socket to `base` is open: the others may come, if they have none.
    pub(crate) fn opened(&self, base: u16) {
        self.with(base, |base| (base.tried_until, base.until) = (None, None));
    }

    /// A socket to `base` was stable.
    pub(crate) fn works(&self, base: u16, now: Instant) {
        self.with(base, |base| {
            let Base { home_from, relapses, works_since, .. } = *base;
            let home_from = home_from.filter(|_| relapses > 0);
            let works_since = works_since.or(Some(now));
            *base = Base { home_from, relapses, works_since, ..Base::default() };
        });
    }

    /// Whether a base has failed since it was chosen: who waits for its turn there waits for nothing.
    pub(crate) fn is_passed_over(&self, base: u16, now: Instant) -> bool {
        self.with(base, |base| base.is_passed_over(now))
    }

    /// Whether there is another that may be dialled now.
    pub(crate) fn has_another(&self, than: u16, now: Instant) -> bool {
        let bases = self.table.lock();
        let mut others = bases.iter().enumerate().filter(|(place, _)| *place != usize::from(than));
        others.any(|(_, base)| base.may_be_dialled(now))
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod homing;
#[cfg(all(test, not(wsmux_shuttle)))]
mod tests;
