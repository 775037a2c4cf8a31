//! How the names that a connection carries go over to another, or come from one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Member, Members, Stage, note};
use crate::engine::moment::Moment;
use crate::engine::topic::{Reviewed, Role};

/// The shortest time between two looks at a handover.
const REVIEW: Duration = Duration::from_millis(1);

impl Members {
    /// Tells a topic that it is joined, and learns what the connection is to it.
    pub(super) fn tell_joined(&mut self, key: usize, attempt: u32, now: Instant) {
        let topic = &self.members[key].topic;
        match topic.joined(self.connection, now, attempt) {
            Role::Next => self.review_at(key, Some(now)),
            Role::Source(moved) => {
                topic.outgoing.serve(&self.post);
                note(&mut self.moved, topic, moved);
            }
            Role::Stranger => {}
        }
    }

    /// Looks at handovers that are due to be looked at.
    pub(in crate::engine::connection) fn review(&mut self, now: Instant) {
        while let Some(&(_, key)) = self.review_due.first().filter(|(due, _)| *due <= now.into()) {
            let topic = Arc::clone(&self.members[key].topic);
            let mut again = None;
            match topic.review(self.connection, now, self.tools.config.handover_timeout) {
                Reviewed::Again(at) => again = Some(at.max(now + REVIEW)),
                Reviewed::Moved(moved) => self.moved.push((topic, Some(moved))),
                Reviewed::Mute => self.moved.push((topic, None)),
                Reviewed::Over if topic.is_source(self.connection) => {
                    topic.outgoing.serve(&self.post); // Its source went, and left it to us.
                }
                Reviewed::Over => {}
            }
            self.review_at(key, again);
        }
    }

    /// Whether a stream waits for a word of the peer's before it goes over.
    pub(in crate::engine::connection) fn want_word(&self) -> bool {
        self.members.iter().any(|(_, member)| member.topic.wants_word(self.connection))
    }

    /// The peer has answered a ping that was made at `asked_at`. What came before is published.
    pub(in crate::engine::connection) fn answered(&mut self, asked_at: Instant, now: Instant) {
        for (_, Member { stage, topic, .. }) in &self.members {
            if matches!(stage, Stage::Joined { .. }) {
                let timeout = self.tools.config.handover_timeout;
                let moved = topic.answered(self.connection, asked_at, now, timeout);
                note(&mut self.moved, topic, moved);
            }
        }
    }

    pub(super) fn review_at(&mut self, key: usize, due: Option<Instant>) {
        let due = due.map(Moment::from);
        let before = std::mem::replace(&mut self.members[key].review_due, due);
        before.into_iter().for_each(|before| self.review_due.remove(&(before, key)));
        due.into_iter().for_each(|due| self.review_due.insert((due, key)));
    }
}
