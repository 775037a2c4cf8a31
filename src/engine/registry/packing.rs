//! Names move together where they take more sockets than they have to.
//!
//! Names come and go, and leave holes. Where a lane has two connections more than its names fill, the
//! one that carries least is *retired*: its names go over to where there is room, each by a handover
//! of its own, and it closes with the last of them, as any connection does.
//!
//! Nothing flaps. One connection more than is needed is left as it is, and none is opened while there
//! is room: so to have another one retired, as many names must go as one carries, or nearly. Nor does
//! anything hurry: names that go all at once should not move before. A connection whose names could not
//! go over gets them back, and is tried again later, and later each time.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Crossing, Handle, Moving, Packing, Registry};
use crate::engine::defect::{Defect, seeded};
use crate::observe::ConnectionId;
use crate::protocol::Lane;

/// How long a lane has to have too many connections before one is retired.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// How long it takes until the next one is.
const NEXT: Duration = Duration::from_secs(1);

/// How long a retired connection may take until it is looked at, and how long after one that failed.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

impl Registry {
    /// Whether there are lanes with too many connections of which nobody knows when to look at them.
    pub(crate) fn has_crowded(&self) -> bool {
        !self.crowded.is_empty()
    }

    /// When the next lane is to be looked at.
    pub(super) fn packing_due(&self) -> Option<Instant> {
        self.packs.first().map(|(due, _)| *due)
    }

    /// A topic of `lane` was taken out, or a connection was opened, as it is where those with room are
    /// about to be replaced: there may be too many now.
    pub(super) fn look_for_crowding(&mut self, lane: &Lane) {
        let Some(crossing) = self.lanes.get_mut(lane) else { return };
        if crossing.packing.is_none() && crossing.is_crowded() && !seeded(Defect::NamesNeverMove) {
            crossing.packing = Some(Box::default());
            self.crowded.push((lane.clone(), SETTLED));
        }
    }

    /// Retires a connection, if it is time to. Call again until there is none, and have what it
    /// carries [spread](Self::spread).
    pub(crate) fn retire(&mut self, now: Instant) -> Option<ConnectionId> {
        for (lane, after) in std::mem::take(&mut self.crowded) {
            self.look_again(&lane, now + after);
        }
        while self.packing_due().is_some_and(|due| due <= now) {
            let (_, lane) = self.packs.pop_first()?;
            let retired = self.retire_in(&lane, now);
            if retired.is_some() {
                return retired;
            }
        }
        None
    }

    fn look_again(&mut self, lane: &Lane, at: Instant) {
        let crossing = self.lanes.get_mut(lane);
        let Some(packing) = crossing.and_then(|crossing| crossing.packing.as_mut()) else { return };
        if let Some(before) = packing.due.replace(at) {
            self.packs.remove(&(before, lane.clone()));
        }
        self.packs.insert((at, lane.clone()));
    }

    fn retire_in(&mut self, lane: &Lane, now: Instant) -> Option<ConnectionId> {
        let chosen = self.choose(lane);
        let crossing = self.lanes.get_mut(lane)?;
        let is_crowded = crossing.is_crowded();
        let packing = crossing.packing.as_mut()?;
        packing.due = None;
        let chosen = match packing.retired {
            // It has had its time: it is still at it, or keeps what it has.
            Some(id) => {
                let handle = self.connections.get_mut(&id);
                let has_done = |handle: &&mut Box<Handle>| {
                    handle.moving.as_ref().is_some_and(|m| m.topics == 0)
                };
                let kept = handle.filter(has_done);
                if let Some(handle) = kept {
                    handle.moving = None;
                    packing.retired = None;
                    packing.failed += 1;
                }
                self.look_for_room(id);
                None
            }
            None if !is_crowded => {
                crossing.packing = None;
                return None;
            }
            None => {
                packing.retired = chosen;
                packing.failed += u32::from(chosen.is_none());
                chosen
            }
        };
        let failed = self.lanes.get(lane)?.packing.as_ref()?.failed;
        self.look_again(lane, now + LONGEST.min(PATIENCE * (1 << failed.min(6))));
        let handle = self.connections.get_mut(&chosen?)?;
        handle.moving = Some(Box::new(Moving::default()));
        self.leftovers.signals.push(Arc::clone(&handle.signal));
        self.look_for_room(chosen?);
        chosen
    }

    /// The connection of `lane` that carries least, if the others have room for it.
    fn choose(&self, lane: &Lane) -> Option<ConnectionId> {
        let roomy = self.lanes.get(lane)?.roomy.iter();
        let settled = roomy.filter_map(|id| Some((*id, self.settled(*id)?)));
        let loads = settled.clone().map(|(id, handle)| (handle.names.len(), Reverse(id)));
        let (least, Reverse(chosen)) = loads.min()?;
        let others = settled.filter(|(id, _)| *id != chosen);
        let room = others.map(|(_, handle)| handle.capacity - handle.names.len());
        (room.fold(0, usize::saturating_add) >= least).then_some(chosen)
    }

    /// Connection `id`, if it has a socket and nothing to do with another connection.
    fn settled(&self, id: ConnectionId) -> Option<&Handle> {
        let handle = self.connections.get(&id)?;
        let is_alone = handle.successor.is_none() && handle.succeeds.is_none();
        (is_alone && handle.is_open && !handle.rotate && handle.moving.is_none()).then_some(handle)
    }

    /// Has up to `some` streams of connection `id`, which is retired, go over to others, from key
    /// `from` on. Returns the key to go on from.
    pub(crate) fn spread(
        &mut self,
        id: ConnectionId,
        from: usize,
        some: usize,
        now: Instant,
    ) -> Option<usize> {
        let handle = self.connections.get(&id).filter(|handle| handle.moving.is_some())?;
        let lane = handle.lane.clone();
        let keys: Vec<_> = handle.names.iter_from(Some(&from)).take(some).copied().collect();
        for &key in &keys {
            let entry = &self.topics[key];
            if entry.connection != id || entry.next.is_some() {
                continue;
            }
            let to = self.lanes.get(&lane)?.roomy.iter().find(|to| self.settled(**to).is_some());
            let to = *to?;
            self.hand_to(key, to, now);
            if let Some(moving) = self.connections.get_mut(&id).and_then(|h| h.moving.as_mut()) {
                moving.topics += 1;
            }
        }
        keys.last().map(|key| key + 1).filter(|_| keys.len() == some)
    }

    /// A stream of connection `id` that was on its way elsewhere has got there, or stays, or is over.
    pub(super) fn moved(&mut self, id: ConnectionId) {
        if let Some(moving) = self.connections.get_mut(&id).and_then(|h| h.moving.as_mut()) {
            moving.topics = moving.topics.saturating_sub(1);
        }
    }

    /// Connection `id` of `lane` was taken out. If it was retired, it has been done with.
    pub(super) fn retired_is_gone(&mut self, id: ConnectionId, lane: &Lane) {
        let packing = self.lanes.get_mut(lane).and_then(|crossing| crossing.packing.as_mut());
        if let Some(packing) = packing.filter(|packing| packing.retired == Some(id)) {
            (packing.failed, packing.retired) = (0, None);
            self.crowded.push((lane.clone(), NEXT));
        }
    }

    /// The lane is gone.
    pub(super) fn forget_packing(&mut self, lane: &Lane, packing: Option<Box<Packing>>) {
        let due = packing.and_then(|packing| packing.due);
        if let Some(due) = due {
            self.packs.remove(&(due, lane.clone()));
        }
    }
}

impl Crossing {
    /// Whether it has two connections more than its names fill.
    pub(super) fn is_crowded(&self) -> bool {
        self.live >= self.names.div_ceil(self.capacity.max(1)).max(1) + 2
    }
}
