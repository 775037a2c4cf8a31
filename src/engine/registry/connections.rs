//! The life of a connection, as the registry sees it: which is opened, and what it carries, until its
//! task has ended.
//!
//! A connection is made when a name finds no room, dials when it has a slot and no older one of its lane
//! is left, and is taken out with its last name. What it is to do is noted for it, and it is signalled: it
//! comes and [asks](Registry::changes).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Asked, Change, Changes, Ending, Entry, Handle, Link, Registry, carriers};
use crate::engine::defect::{Defect, seeded};
use crate::engine::moment::Moment;
use crate::engine::small::Few;
use crate::engine::sync::Signal;
use crate::error::{CloseReason, SubscribeError};
use crate::name::StreamName;
use crate::observe::ConnectionId;
use crate::protocol::Lane;

impl Registry {
    /// What has changed for connection `id` since it last asked; `None` once it is not wanted.
    pub(crate) fn changes(&mut self, id: ConnectionId, now: Instant) -> Option<Changes> {
        let handle = self.connections.get_mut(&id)?;
        let dirty = std::mem::take(&mut handle.dirty);
        let rotate = std::mem::take(&mut handle.rotate);
        let moving = handle.moving.as_mut();
        let parts = moving.is_some_and(|moving| !std::mem::replace(&mut moving.told, true));
        let change = |name: StreamName| {
            let entry = self.by_name.get(&name).map(|&key| &self.topics[key]);
            let ours = entry.filter(|entry| carriers(entry).any(|carrier| carrier == id));
            let topic = ours.map(|entry| Arc::clone(&entry.topic));
            Change { not_before: self.refusals.until(&name, now), name, topic }
        };
        Some(Changes { names: dirty.into_iter().map(change).collect(), parts, rotate })
    }

    /// Whether connection `id` may have a socket now. It is told when to ask again.
    pub(crate) fn may_dial(&mut self, id: ConnectionId) -> bool {
        let Some(handle) = self.connections.get_mut(&id) else { return false };
        let Some(crossing) = self.lanes.get_mut(&handle.lane) else { return false };
        let older = crossing.closing.first().filter(|older| **older < id);
        if older.is_some() && !seeded(Defect::SocketOverlaps) {
            crossing.blocked.insert(id);
            return false;
        }
        crossing.blocked.remove(&id);
        if handle.may_dial() {
            return true;
        }
        self.slots.queue.insert(id);
        let has_turn = self.slots.queue.first() == Some(&id);
        if !has_turn || self.slots.held >= self.max_connections {
            return false;
        }
        self.slots.queue.remove(&id);
        self.slots.held += 1;
        handle.has_slot = true;
        self.call_next();
        true
    }

    /// Connection `id` has opened or lost its socket.
    pub(crate) fn opened(&mut self, id: ConnectionId, is_open: bool) {
        let Some(handle) = self.connections.get_mut(&id) else { return };
        if handle.is_open != is_open {
            handle.is_open = is_open;
            self.open = if is_open { self.open + 1 } else { self.open - 1 };
        }
    }

    pub(crate) fn lane_of(&self, id: ConnectionId) -> Option<Lane> {
        self.connections.get(&id).map(|handle| handle.lane.clone())
    }

    /// The socket of a connection leads to this base.
    pub(crate) fn leads_to(&mut self, id: ConnectionId, base: u16) {
        self.connections.get_mut(&id).into_iter().for_each(|handle| handle.base = base);
    }

    /// Connection `id` failed for good: its lane has earned a wait.
    pub(crate) fn failed(&mut self, lane: &Lane, was_stable: bool, floor: Duration, now: Instant) {
        self.penalties.strike(lane, was_stable, floor, now);
    }

    /// Takes out up to `some` topics of connection `id`, which has ended by itself, because of
    /// `reason`. Call again while it returns true.
    pub(crate) fn abandon(&mut self, id: ConnectionId, some: usize, reason: &CloseReason) -> bool {
        if let Some(handle) = self.connections.get_mut(&id) {
            handle.capacity = 0; // Nobody is given a seat on it any more.
            self.look_for_room(id);
        }
        for _ in 0..some {
            if seeded(Defect::EndIsKept) {
                return false;
            }
            let Some(handle) = self.connections.get(&id) else { return false };
            let Some(&key) = handle.names.first() else { return false };
            match self.topics[key].next {
                Some(next) if next == id => self.stay(key, id),
                Some(next) => {
                    self.leftovers.left.push((Arc::clone(&self.topics[key].topic), next));
                    self.gone_over(key, next);
                }
                None => self.take_out(key, Some(reason.clone())),
            }
        }
        true
    }

    /// Has each connection look for news.
    pub(crate) fn call_all(&mut self) {
        let signals = self.connections.values().map(|handle| Arc::clone(&handle.signal));
        self.leftovers.signals.extend(signals);
    }

    /// The task of connection `id` runs, and can be cut off by `handle`.
    pub(crate) fn running(&mut self, id: ConnectionId, handle: AbortHandle) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.task = Some(handle);
        } else if let Some(ending) = self.ending.get_mut(&id) {
            ending.task = Some(handle);
        }
    }

    /// The task of connection `id` has ended.
    pub(crate) fn finished(&mut self, id: ConnectionId, lane: &Lane) {
        let ending = self.ending.remove(&id).or_else(|| {
            let handle = self.connections.get_mut(&id)?;
            let has_slot = std::mem::take(&mut handle.has_slot);
            Some(Ending { has_slot, task: handle.task.take() })
        });
        if let Some(Ending { has_slot, task }) = ending {
            self.running -= 1;
            self.slots.held -= usize::from(has_slot);
            self.leftovers.handles.extend(task);
        }
        if let Some(crossing) = self.lanes.get_mut(lane) {
            crossing.closing.remove(&id);
            for blocked in std::mem::take(&mut crossing.blocked).into_iter() {
                let handle = self.connections.get(&blocked);
                self.leftovers.signals.extend(handle.map(|handle| Arc::clone(&handle.signal)));
            }
            if crossing.live == 0 && crossing.closing.is_empty() {
                let packing = self.lanes.remove(lane).and_then(|crossing| crossing.packing);
                self.forget_packing(lane, packing);
            }
        }
        self.call_next();
    }

    /// The tasks that still run.
    pub(crate) fn tasks(&mut self) -> Vec<AbortHandle> {
        let living = self.connections.values().filter_map(|handle| handle.task.as_ref());
        let ending = self.ending.values().filter_map(|ending| ending.task.as_ref());
        living.chain(ending).cloned().collect()
    }

    /// A connection with room for another name, or a new one.
    pub(super) fn room(
        &mut self,
        asked: &Asked<'_>,
    ) -> Result<(ConnectionId, Option<Link>), SubscribeError> {
        let roomy = self.lanes.get(asked.lane).and_then(|crossing| crossing.roomy.first());
        if let Some(&id) = roomy {
            return Ok((id, None));
        }
        if !asked.can_open {
            return Err(SubscribeError::NoRuntime);
        }
        if self.counted() >= self.max_connections {
            self.give_up_longest_idle();
            if self.counted() >= self.max_connections {
                return Err(SubscribeError::ConnectionLimit { max: self.max_connections });
            }
        }
        let link = self.open_connection(asked.lane, asked.capacity, asked.now);
        Ok((link.id, Some(link)))
    }

    /// Connections that count towards the limit.
    pub(super) fn counted(&self) -> usize {
        self.connections.len() - self.succeeding
    }

    pub(super) fn open_connection(&mut self, lane: &Lane, capacity: usize, now: Instant) -> Link {
        let id = ConnectionId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        let lane = lane.clone();
        let signal = Arc::new(Signal::default());
        let handle = Handle {
            base: 0,
            capacity: capacity.max(1),
            dirty: Few::None,
            has_slot: false,
            idle: 0,
            idle_rank: None,
            is_open: false,
            lane: lane.clone(),
            moving: None,
            names: Few::None,
            pending: 0,
            rotate: false,
            signal: Arc::clone(&signal),
            successor: None,
            succeeds: None,
            task: None,
        };
        self.connections.insert(id, Box::new(handle));
        self.running += 1;
        let crossing = self.lanes.entry(lane.clone()).or_default();
        crossing.capacity = capacity.max(1);
        crossing.live += 1;
        crossing.roomy.insert(id);
        self.look_for_crowding(&lane);
        let not_before = self.penalties.until(&lane, now).map(Moment::from);
        Link { id, lane, not_before, signal }
    }

    /// Gives up the connection that was left first among those that nobody needs now.
    fn give_up_longest_idle(&mut self) {
        // One that has yet to take another's place makes no room.
        let counts =
            |id: &&ConnectionId| self.connections.get(id).is_some_and(|h| h.succeeds.is_none());
        let Some(id) = self.spare.values().find(counts).copied() else { return };
        while let Some(&key) = self.connections.get(&id).and_then(|handle| handle.names.first()) {
            self.take_out(key, Some(CloseReason::Unused));
        }
    }

    /// Counts how many topics of connection `id` are idle, and lists it while all are.
    pub(super) fn count_idle(&mut self, id: ConnectionId, count: impl FnOnce(u32) -> u32) {
        let Some(handle) = self.connections.get_mut(&id) else { return };
        handle.idle = count(handle.idle);
        let is_spare = handle.idle as usize == handle.names.len();
        match handle.idle_rank {
            Some(rank) if !is_spare => {
                handle.idle_rank = None;
                self.spare.remove(&rank);
            }
            None if is_spare => {
                handle.idle_rank = Some(self.next_rank);
                self.spare.insert(self.next_rank, id);
                self.next_rank = self.next_rank.saturating_add(1);
            }
            _ => {}
        }
    }

    /// Connection `id` is to carry `name`.
    pub(super) fn carry(&mut self, id: ConnectionId, key: usize, name: &StreamName) {
        let Some(handle) = self.connections.get_mut(&id) else { return };
        handle.names.insert(key);
        handle.dirty.insert(name.clone());
        self.leftovers.signals.push(Arc::clone(&handle.signal));
        self.look_for_room(id);
        self.count_idle(id, |idle| idle);
    }

    /// Lists connection `id` with those that have room, or not.
    pub(super) fn look_for_room(&mut self, id: ConnectionId) {
        let Some(handle) = self.connections.get(&id) else { return };
        let Some(crossing) = self.lanes.get_mut(&handle.lane) else { return };
        // What the predecessor still carries alone has its place here.
        let predecessor = handle.succeeds.and_then(|id| self.connections.get(&id));
        let reserved = predecessor.map_or(0, |p| p.names.len() - handle.pending as usize);
        let has_room = handle.names.len() + reserved < handle.capacity;
        // Who comes now is better off with a successor, or with one that stays.
        if has_room && handle.successor.is_none() && handle.moving.is_none() {
            crossing.roomy.insert(id);
        } else {
            crossing.roomy.remove(&id);
        }
    }

    /// Connection `id` is not to carry `name` any more, and to close if that was its last.
    pub(super) fn drop_name(&mut self, id: ConnectionId, key: usize, name: &StreamName) {
        let Some(handle) = self.connections.get_mut(&id) else { return };
        handle.names.remove(&key);
        handle.dirty.insert(name.clone());
        self.leftovers.signals.push(Arc::clone(&handle.signal));
        if handle.names.is_empty() {
            return self.close_connection(id);
        }
        let successor = handle.successor;
        self.look_for_room(id);
        successor.into_iter().for_each(|id| self.look_for_room(id));
    }

    /// Takes out connection `id`, which carries nothing.
    pub(super) fn close_connection(&mut self, id: ConnectionId) {
        self.part(id);
        let Some(mut handle) = self.connections.remove(&id) else { return };
        let (has_slot, task) = (handle.has_slot, handle.task.take());
        self.ending.insert(id, Ending { has_slot, task });
        if let Some(rank) = handle.idle_rank {
            self.spare.remove(&rank);
        }
        self.slots.queue.remove(&id);
        self.open -= usize::from(handle.is_open);
        if let Some(crossing) = self.lanes.get_mut(&handle.lane) {
            crossing.live -= 1;
            crossing.roomy.remove(&id);
            crossing.blocked.remove(&id);
            crossing.closing.insert(id);
        }
        if handle.moving.is_some() {
            self.retired_is_gone(id, &handle.lane);
        }
        self.call_next();
    }

    /// Connection `id` is not to carry a topic any more that was taken out.
    pub(super) fn let_go_of(&mut self, id: ConnectionId, key: usize, entry: &Entry) {
        let (is_idle, is_pending) = (entry.idle.is_some(), entry.next == Some(id));
        if let Some(handle) = self.connections.get_mut(&id) {
            handle.pending -= u32::from(is_pending);
        }
        self.drop_name(id, key, &entry.topic.name);
        self.count_idle(id, |idle| idle - u32::from(is_idle));
    }

    /// Tells the first in the queue for a slot that it may be its turn.
    fn call_next(&mut self) {
        if self.slots.held < self.max_connections {
            let first = self.slots.queue.first().and_then(|id| self.connections.get(id));
            self.leftovers.signals.extend(first.map(|handle| Arc::clone(&handle.signal)));
        }
    }
}
