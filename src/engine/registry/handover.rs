//! One connection takes the place of another, stream by stream.
//!
//! The successor carries every stream of its predecessor as its *next* source. A topic goes over by
//! itself, between two messages; the registry hears of it afterwards, and has the predecessor let go
//! of the name. So the predecessor ends when it carries nothing more, as any connection does.
//!
//! A stream that cannot go over stays, and is handed over to the same successor later. As long as
//! its predecessor is there, a successor counts towards no limit.

use std::sync::Arc;

use tokio::time::Instant;

#[cfg(test)]
use super::carriers;
use super::{Link, Registry};
use crate::engine::topic::Topic;
use crate::observe::ConnectionId;

impl Registry {
    /// Has the connection of `topic` look for a successor. Returns whether it has a socket to be
    /// replaced.
    pub(crate) fn ask_to_rotate_of(&mut self, topic: &Arc<Topic>) -> bool {
        let key = self.key(topic);
        key.is_some_and(|key| self.ask_to_rotate(self.topics[key].connection))
    }

    fn ask_to_rotate(&mut self, id: ConnectionId) -> bool {
        let Some(handle) = self.connections.get_mut(&id) else { return false };
        if !handle.is_open || handle.succeeds.is_some() {
            return false;
        }
        if handle.successor.is_none() {
            handle.rotate = true;
            self.leftovers.signals.push(Arc::clone(&handle.signal));
        }
        true
    }

    /// The same for the connections of the next `some` places from `place` on. Returns the place to
    /// go on from.
    pub(crate) fn ask_all_to_rotate(&mut self, place: usize, some: usize) -> Option<usize> {
        let end = (place + some).min(self.topics.capacity());
        for key in place..end {
            if let Some(entry) = self.topics.get(key) {
                self.ask_to_rotate(entry.connection);
            }
        }
        Some(end).filter(|end| *end < self.topics.capacity())
    }

    /// The successor of connection `id`: the one it has, or a new one for the caller to run, which
    /// carries nothing yet: see [`hand_over`](Self::hand_over).
    pub(crate) fn successor(
        &mut self,
        id: ConnectionId,
        now: Instant,
    ) -> Option<(ConnectionId, Option<Link>)> {
        let handle = self.connections.get(&id)?;
        if let Some(successor) = handle.successor {
            return Some((successor, None));
        }
        let is_leaving = handle.capacity == 0 || handle.moving.is_some();
        if self.shut_down || handle.succeeds.is_some() || is_leaving {
            return None;
        }
        let (lane, capacity) = (handle.lane.clone(), handle.capacity);
        let link = self.open_connection(&lane, capacity, now);
        self.succeeding += 1;
        if let Some(successor) = self.connections.get_mut(&link.id) {
            successor.succeeds = Some(id);
        }
        if let Some(handle) = self.connections.get_mut(&id) {
            handle.successor = Some(link.id);
        }
        self.look_for_room(id);
        self.look_for_room(link.id);
        Some((link.id, Some(link)))
    }

    /// Whether connection `id` has its streams go over to another, or to others.
    pub(crate) fn has_successor(&self, id: ConnectionId) -> bool {
        let handle = self.connections.get(&id);
        handle.is_some_and(|handle| handle.successor.is_some() || handle.moving.is_some())
    }

    pub(crate) fn succeeds(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|handle| handle.succeeds.is_some())
    }

    /// Hands up to `some` streams of connection `id`, from key `from` on, over to its successor `to`.
    /// Returns the key to go on from.
    pub(crate) fn hand_over(
        &mut self,
        id: ConnectionId,
        to: ConnectionId,
        from: usize,
        some: usize,
        now: Instant,
    ) -> Option<usize> {
        let handle = self.connections.get(&id).filter(|handle| handle.successor == Some(to))?;
        let keys: Vec<_> = handle.names.iter_from(Some(&from)).take(some).copied().collect();
        for &key in &keys {
            let entry = &self.topics[key];
            if entry.connection == id && entry.next.is_none() {
                self.hand_to(key, to, now);
            }
        }
        keys.last().map(|key| key + 1).filter(|_| keys.len() == some)
    }

    /// Connection `to` is to be the next source of a stream.
    pub(super) fn hand_to(&mut self, key: usize, to: ConnectionId, now: Instant) {
        let entry = &mut self.topics[key];
        entry.next = Some(to);
        entry.topic.hand_over(to, now);
        let (name, is_idle) = (entry.topic.name.clone(), entry.idle.is_some());
        if let Some(successor) = self.connections.get_mut(&to) {
            successor.pending += 1;
        }
        self.carry(to, key, &name);
        self.count_idle(to, |idle| idle + u32::from(is_idle));
    }

    /// A successor that was given nothing to carry is let go.
    pub(crate) fn handed_over(&mut self, to: ConnectionId) {
        if self.connections.get(&to).is_some_and(|successor| successor.names.is_empty()) {
            self.close_connection(to);
        }
    }

    /// `topic` has gone over to its next source.
    pub(crate) fn took_over(&mut self, topic: &Arc<Topic>) {
        let Some(key) = self.key(topic) else { return };
        if let Some(to) = self.topics[key].next.filter(|next| topic.is_source(*next)) {
            self.gone_over(key, to);
        }
    }

    /// `topic` does not go over to connection `to`, unless it has.
    pub(crate) fn stays(&mut self, topic: &Arc<Topic>, to: ConnectionId) {
        if let Some(key) = self.key(topic).filter(|key| self.topics[*key].next == Some(to)) {
            self.stay(key, to);
        }
    }

    /// Connection `id` has failed. If it succeeds another and is the source of nothing yet, it is
    /// taken out: the streams stay where they are. Looks at up to `some` streams; call again while it returns true.
    pub(crate) fn give_up_succeeding(&mut self, id: ConnectionId, some: usize) -> bool {
        for _ in 0..some {
            let Some(handle) = self.connections.get(&id) else { return false };
            let is_needed =
                handle.names.len() > handle.pending as usize || handle.succeeds.is_none();
            let Some(&key) = handle.names.first().filter(|_| !is_needed) else { return false };
            self.stay(key, id);
        }
        true
    }

    pub(super) fn gone_over(&mut self, key: usize, to: ConnectionId) {
        let entry = &mut self.topics[key];
        let (from, is_idle) = (std::mem::replace(&mut entry.connection, to), entry.idle.is_some());
        entry.next = None;
        let name = entry.topic.name.clone();
        if let Some(successor) = self.connections.get_mut(&to) {
            successor.pending -= 1;
            successor.dirty.insert(name.clone()); // From here on it writes for the stream too.
            self.leftovers.signals.push(Arc::clone(&successor.signal));
        }
        self.moved(from);
        self.drop_name(from, key, &name);
        self.count_idle(from, |idle| idle - u32::from(is_idle));
    }

    pub(super) fn stay(&mut self, key: usize, to: ConnectionId) {
        let entry = &mut self.topics[key];
        if !entry.topic.stay(to) {
            return self.gone_over(key, to); // It has, and nobody has told us yet.
        }
        entry.next = None;
        let from = entry.connection;
        let (name, is_idle) = (entry.topic.name.clone(), entry.idle.is_some());
        if let Some(successor) = self.connections.get_mut(&to) {
            successor.pending -= 1;
        }
        self.moved(from);
        self.drop_name(to, key, &name);
        self.count_idle(to, |idle| idle - u32::from(is_idle));
    }

    /// Connection `id` is about to be taken out: its successor has its place, and its predecessor
    /// has no successor.
    pub(super) fn part(&mut self, id: ConnectionId) {
        let Some(handle) = self.connections.get_mut(&id) else { return };
        let (predecessor, successor) = (handle.succeeds.take(), handle.successor.take());
        self.succeeding -= usize::from(predecessor.is_some());
        if let Some(id) = predecessor {
            let handle = self.connections.get_mut(&id);
            handle.into_iter().for_each(|handle| handle.successor = None);
            self.look_for_room(id);
        }
        let Some(id) = successor else { return };
        if let Some(successor) = self.connections.get_mut(&id) {
            (successor.succeeds, successor.has_slot) = (None, true);
            self.succeeding -= 1;
            self.slots.held += 1;
            self.look_for_room(id);
        }
    }

    /// Whether `key` is carried by whom it says, and each of them knows: for tests.
    #[cfg(test)]
    pub(super) fn is_carried(&self, key: usize) -> bool {
        carriers(&self.topics[key])
            .all(|id| self.connections.get(&id).is_some_and(|handle| handle.names.contains(&key)))
    }
}
