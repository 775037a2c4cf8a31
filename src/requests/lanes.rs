//! Which connection carries a request.
//!
//! # Invariants
//!
//! 1. A place is taken before it is used and given back on drop, whoever drops it: a slot's load is
//!    the number of its places that are out.
//! 2. No slot has more than `in_flight` places out, and all of them together no more than there are
//!    permits: who has a permit finds a place.
//! 3. A place holds a lease of its slot. So a slot that carries something is open or opening, and one
//!    that carries nothing lingers, and is closed by the manager's sweeper.
//! 4. Nothing is awaited and no protocol's code runs under the lock.
//! 5. Who waits for a place on a certain connection hears of each that is taken or given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::SelectAll;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::config::PoolConfig;
use super::defect::{Defect, seeded};
use crate::error::SubscribeError;
use crate::manager::WsManager;
use crate::name::StreamName;
use crate::observe::Status;
use crate::stream::{Lease, StatusStream};

pub(super) struct Lanes {
    changed: Notify,
    fill: usize,
    in_flight: usize,
    loads: Mutex<Vec<usize>>,
    pub(super) manager: WsManager,
    names: Vec<StreamName>,
    permits: Arc<Semaphore>,
}

/// A request's place on a connection.
pub(super) struct Place {
    pub(super) lease: Lease,
    /// Opens a further connection, for those who come after.
    _ahead: Option<Lease>,
    counted: Counted,
    _permit: OwnedSemaphorePermit,
}

/// A place for a request that has one elsewhere.
pub(super) struct Berth {
    counted: Counted,
    lease: Lease,
}

/// A request that its slot's load counts.
struct Counted {
    lanes: Arc<Lanes>,
    slot: usize,
}

/// How far the connection of a slot is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    Open,
    Opening,
    /// It failed, and waits before it tries again.
    Failing,
    Closed,
}

impl Stage {
    fn of(status: Option<&Status>) -> Self {
        match status {
            None | Some(Status::Closed(_)) => Self::Closed,
            Some(Status::BackingOff { .. }) => Self::Failing,
            Some(Status::Open) => Self::Open,
            Some(_) => Self::Opening,
        }
    }
}

impl Lanes {
    pub(super) fn new(
        manager: WsManager,
        names: Vec<StreamName>,
        config: &PoolConfig,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(names.len() * config.in_flight));
        Arc::new(Self {
            changed: Notify::new(),
            fill: config.fill,
            in_flight: config.in_flight,
            loads: Mutex::new(vec![0; names.len()]),
            manager,
            names,
            permits,
        })
    }

    /// Waits for a place, first come, first served, on one of the first `width` connections where that
    /// can be.
    ///
    /// Cancel safe: who is dropped has neither place nor turn any more.
    pub(super) async fn place(self: &Arc<Self>, width: usize) -> Result<Place, SubscribeError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| SubscribeError::Shutdown)?; // Nobody closes it.
        let (slot, ahead) = self.choose(width);
        let counted = Counted { lanes: Arc::clone(self), slot };
        let lease = self.manager.keep_warm(&self.names[slot])?;
        // That it cannot be opened now is no concern of this request.
        let ahead = ahead.and_then(|slot| self.manager.keep_warm(&self.names[slot]).ok());
        self.changed.notify_waiters();
        Ok(Place { lease, _ahead: ahead, counted, _permit: permit })
    }

    /// A place on a connection that is open and has room; on another than that of `place`, if any.
    pub(super) fn berth(self: &Arc<Self>, place: Option<&Place>) -> Option<Berth> {
        let stages: Vec<_> = self.names.iter().map(|name| self.stage(name)).collect();
        let slot = {
            let mut loads = self.loads();
            let has_room = |slot: &usize| {
                let is_other = place.is_none_or(|place| *slot != place.counted.slot);
                is_other && stages[*slot] == Stage::Open && loads[*slot] < self.in_flight
            };
            let slot = (0..loads.len()).filter(has_room).min_by_key(|slot| loads[*slot])?;
            loads[slot] += 1;
            slot
        };
        let counted = Counted { lanes: Arc::clone(self), slot };
        let lease = self.manager.keep_warm(&self.names[slot]).ok()?;
        Some(Berth { counted, lease })
    }

    /// The states of all connections that there are, but that of `place`.
    pub(super) fn watch(&self, place: Option<&Place>) -> SelectAll<StatusStream> {
        let is_other = |name: &&StreamName| place.is_none_or(|place| *name != place.name());
        let others = self.names.iter().filter(is_other);
        others.filter_map(|name| self.manager.watch_status(name.as_str())).collect()
    }

    /// Resolves once a place was taken or given back, from when it is enabled on.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Opens the first `count` connections, and keeps them open.
    pub(super) fn keep_warm(&self, count: usize) -> Result<Vec<Lease>, SubscribeError> {
        self.names.iter().take(count).map(|name| self.manager.keep_warm(name)).collect()
    }

    /// Requests that have a place.
    pub(super) fn load(&self) -> usize {
        self.loads().iter().sum()
    }

    /// How many connections are open, and how many are on their way there.
    pub(super) fn stages(&self) -> (usize, usize) {
        let stages: Vec<_> = self.names.iter().map(|name| self.stage(name)).collect();
        let open = stages.iter().filter(|stage| **stage == Stage::Open).count();
        let closed = stages.iter().filter(|stage| **stage == Stage::Closed).count();
        (open, stages.len() - open - closed)
    }

    /// Counts a request on the slot that is best for it, and names another one to be opened for those
    /// who come after.
    fn choose(&self, width: usize) -> (usize, Option<usize>) {
        let stages: Vec<_> = self.names.iter().map(|name| self.stage(name)).collect();
        let mut loads = self.loads();
        let chosen = choose(&loads, &stages, width, self.in_flight, self.fill);
        loads[chosen.0] += 1;
        chosen
    }

    fn stage(&self, name: &StreamName) -> Stage {
        Stage::of(self.manager.stream_status(name.as_str()).as_ref())
    }

    fn loads(&self) -> MutexGuard<'_, Vec<usize>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot for one more request, and one to be opened ahead.
///
/// An open connection with room goes before one that has yet to open, and then the one with the least
/// load. There are to be as many connections as it takes to have no more than `fill` requests on each.
fn choose(
    loads: &[usize],
    stages: &[Stage],
    width: usize,
    in_flight: usize,
    fill: usize,
) -> (usize, Option<usize>) {
    if seeded(Defect::LoadIsIgnored) {
        return (0, None);
    }
    let slots = || (0..loads.len()).filter(|slot| loads[*slot] < in_flight);
    let inside = || slots().filter(|slot| *slot < width);
    let is_there = |slot: &usize| stages[*slot] != Stage::Closed || loads[*slot] > 0;
    let best = |slots: &mut dyn Iterator<Item = usize>| {
        slots.min_by_key(|slot| (stages[*slot].min(Stage::Failing), loads[*slot], *slot))
    };

    let there = (0..loads.len()).filter(is_there).count();
    let wanted = (loads.iter().sum::<usize>() + 1).div_ceil(fill);
    let further = inside().find(|slot| !is_there(slot)).filter(|_| there < wanted);
    let existing = best(&mut inside().filter(is_there));
    match (existing, further) {
        (Some(slot), Some(further)) if stages[slot] != Stage::Open => (further, None),
        (Some(slot), further) => (slot, further),
        (None, Some(further)) => (further, None),
        // The rest of the pool is better than nothing, and has room: see the invariants.
        (None, None) => (best(&mut inside()).or_else(|| best(&mut slots())).unwrap_or(0), None),
    }
}

impl Place {
    pub(super) fn name(&self) -> &StreamName {
        self.lease.name()
    }

    /// Gives up this place for the other one.
    pub(super) fn go_to(&mut self, Berth { counted, lease }: Berth) {
        self.lease = lease;
        if seeded(Defect::MoveIsNotCounted) {
            return; // And the new place is given back.
        }
        self.counted = counted;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if seeded(Defect::PlaceIsKept) {
            return;
        }
        self.lanes.loads()[self.slot] -= 1;
        self.lanes.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Stage::{Closed, Failing, Open, Opening};
    use super::*;

    #[test]
    fn an_open_connection_with_the_least_load_goes_first() {
        assert_eq!(choose(&[2, 1, 0], &[Open, Open, Opening], 3, 10, 1), (1, None));
        assert_eq!(choose(&[0, 0, 0], &[Failing, Opening, Closed], 3, 10, 1), (1, None));
        assert_eq!(choose(&[1, 0, 0], &[Failing, Failing, Failing], 3, 10, 1), (1, None));
    }

    #[test]
    fn another_is_opened_ahead_where_all_have_more_than_they_should() {
        assert_eq!(choose(&[1, 0, 0], &[Open, Closed, Closed], 3, 10, 1), (0, Some(1)));
        assert_eq!(choose(&[2, 0, 0], &[Open, Opening, Closed], 3, 10, 1), (0, Some(2)));
        assert_eq!(choose(&[1, 0, 0], &[Open, Opening, Closed], 3, 10, 1), (0, None));
        assert_eq!(choose(&[1, 0], &[Open, Closed], 2, 10, 2), (0, None), "there is room on it");
        assert_eq!(choose(&[2, 0], &[Open, Closed], 2, 10, 2), (0, Some(1)));
    }

    #[test]
    fn where_none_is_open_each_request_opens_its_own() {
        assert_eq!(choose(&[0, 0], &[Closed, Closed], 2, 10, 1), (0, None));
        assert_eq!(choose(&[1, 0], &[Opening, Closed], 2, 10, 1), (1, None));
        assert_eq!(choose(&[1, 1], &[Opening, Opening], 2, 10, 1), (0, None));
        assert_eq!(
            choose(&[1, 0], &[Opening, Closed], 2, 10, 10),
            (0, None),
            "unless one is enough"
        );
    }

    #[test]
    fn a_full_connection_gets_no_more_and_a_narrow_width_is_left_only_where_it_is_full() {
        assert_eq!(choose(&[2, 0], &[Open, Closed], 2, 2, 1), (1, None));
        assert_eq!(choose(&[1, 0], &[Open, Open], 1, 2, 1), (0, None));
        assert_eq!(choose(&[2, 0], &[Open, Open], 1, 2, 1), (1, None));
    }
}
