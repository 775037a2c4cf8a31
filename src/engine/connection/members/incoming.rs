//! What comes for the names that a connection carries.
//!
//! Messages are collected per name and published together, once per read. Whatever else a reader is
//! told of comes after them, so that order is kept by construction.

use tokio::time::Instant;

use super::{BATCH, Member, Members, Stage, note};
use crate::engine::moment::Moment;
use crate::engine::topic::Woken;
use crate::error::Gap;
use crate::message::{Message, Pack};
use crate::protocol::{Mark, To};

impl Members {
    /// Takes messages for all names that are joined, for later [`publish`](Self::publish).
    pub(in crate::engine::connection) fn relay(&mut self, texts: Pack) {
        let joined =
            |(_, member): &(usize, &mut Member)| matches!(member.stage, Stage::Joined { .. });
        let count = texts.len() as u64;
        let mut carriers = self.members.iter_mut().filter(joined);
        let Some((key, member)) = carriers.next() else {
            return self.tools.metrics.unroutable(count);
        };
        for (key, member) in carriers {
            member.parcel(key, &mut self.touched).messages.append(texts.clone());
        }
        member.parcel(key, &mut self.touched).messages.append(texts);
    }

    /// Takes a message for later [`publish`](Self::publish), if it is for anybody.
    pub(in crate::engine::connection) fn data(&mut self, to: To<'_>, payload: Message, mark: Mark) {
        let known = match to {
            To::Name(name) => self.by_name.get(name),
            To::All if self.members.len() == 1 => self.members.iter().next().map(|(key, _)| key),
            To::All => return self.data_for_all(&payload, mark),
        };
        if !known.is_some_and(|key| self.hand_to(key, payload, mark)) && !self.is_farewell(to) {
            self.tools.metrics.unroutable(1);
        }
    }

    /// Whether what comes for nobody is of a name that the server has yet to be told to stop. It
    /// does what it was asked to.
    fn is_farewell(&self, to: To<'_>) -> bool {
        matches!(to, To::Name(name) if self.leaving.contains(name))
    }

    fn data_for_all(&mut self, payload: &Message, mark: Mark) {
        let keys: Vec<_> = self.members.iter().map(|(key, _)| key).collect();
        let mut anybody = false;
        for key in keys {
            anybody |= self.hand_to(key, payload.clone(), mark);
        }
        if !anybody {
            self.tools.metrics.unroutable(1);
        }
    }

    fn hand_to(&mut self, key: usize, payload: Message, mark: Mark) -> bool {
        let member = &mut self.members[key];
        if !matches!(member.stage, Stage::Joined { .. }) {
            return false;
        }
        member.parcel(key, &mut self.touched).push(payload, mark);
        true
    }

    /// Publishes what came. Everything that tells readers of something else comes after it.
    pub(in crate::engine::connection) fn publish(&mut self, now: Instant) {
        if self.touched.is_empty() {
            return;
        }
        let (mut touched, at) = (std::mem::take(&mut self.touched), Moment::from(now));
        let mut woken = Woken::new();
        for key in touched.drain(..) {
            let member = &mut self.members[key];
            member.heard_at = at;
            let Some(parcel) = member.pending.take() else { continue };
            let moved = member.topic.publish(self.connection, *parcel, now, &mut woken);
            note(&mut self.moved, &member.topic, moved);
        }
        self.touched = touched;
    }

    /// The feed itself tells that messages are missing.
    pub(in crate::engine::connection) fn missing(&mut self, to: To<'_>, gap: &Gap, now: Instant) {
        self.publish(now);
        let skip = |member: &Member| {
            if matches!(member.stage, Stage::Joined { .. }) {
                member.topic.missing(self.connection, gap.clone(), now);
            }
        };
        match to {
            To::All => self.members.iter().for_each(|(_, member)| skip(member)),
            To::Name(name) => {
                let member = self.by_name.get(name).map(|key| &self.members[key]);
                member.into_iter().for_each(skip);
            }
        }
    }

    /// Whether one more message of `len` bytes makes no reader of `name` lose one.
    pub(in crate::engine::connection) fn has_room(
        &mut self,
        name: &str,
        len: usize,
        now: Instant,
    ) -> bool {
        let Some(key) = self.by_name.get(name) else { return true };
        if self.members[key].waiting().0 >= BATCH as usize {
            self.publish(now); // Counting what waits must not take longer and longer.
        }
        let member = &self.members[key];
        let (messages, bytes) = member.waiting();
        member.topic.has_room(messages + 1, bytes + len)
    }
}
