//! What the registry tells of its streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Registry;
use crate::config::StreamConfig;
use crate::engine::moment::Moment;
use crate::engine::topic::{Seen, Topic};
use crate::observe::{ConnectionId, Overall, StreamInfo};
use crate::protocol::Lane;

/// One stream, as the registry knows it.
#[derive(Debug)]
pub(crate) struct Listed {
    base: u16,
    connection: ConnectionId,
    lane: Option<Lane>,
    leases: usize,
    readers: usize,
    pub(super) topic: Arc<Topic>,
    unattended_since: Instant,
}

/// What [`StreamInfo::lost_lately`] looks back.
const LATELY: Duration = Duration::from_secs(300);

impl Listed {
    pub(crate) fn info(self, now: Instant) -> StreamInfo {
        let Seen { down_since, facts, lag, last_message, unread_since } = self.topic.look();
        let silent_since = facts.joined_at.map(Moment::at);
        let silent_since = silent_since.map(|at| last_message.map_or(at, |m| m.max(at)));
        let ago = |since| now.saturating_duration_since(since);
        let silent_for = silent_since.map(ago);
        let lost_lately = facts.losses().filter(|at| ago(*at) < LATELY).count();
        let is_unattended = self.leases > 0 && self.readers == 0;
        StreamInfo {
            attempt: facts.attempt,
            base: usize::from(self.base),
            bytes: facts.bytes,
            config: StreamConfig::clone(&self.topic.settings),
            connection: self.connection,
            down_for: down_since.map(ago),
            gaps: facts.gaps,
            lag,
            lagged: facts.lagged,
            last_error: facts.last_error,
            last_message,
            lane: self.lane.unwrap_or_else(|| Lane::new(self.topic.name.as_str())),
            latency: self.topic.latency(now),
            leases: self.leases,
            lost_lately,
            messages: facts.messages,
            name: self.topic.name.clone(),
            quiet: silent_for.is_some_and(|silent| silent >= self.topic.settings.quiet_after),
            readers: self.readers,
            silent_for,
            status: self.topic.status().get(),
            unattended_for: is_unattended.then(|| ago(self.unattended_since)),
            unread_for: unread_since.map(ago),
            uptime: facts.joined_at.map(|at| ago(at.at())),
        }
    }
}

impl Registry {
    pub(crate) fn stream_count(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn running_tasks(&self) -> usize {
        self.running
    }

    pub(crate) fn overall(&self) -> Overall {
        match (self.open, self.connections.len()) {
            (1.., _) => Overall::Connected,
            (0, 1..) => Overall::Connecting,
            (0, 0) => Overall::Disconnected,
        }
    }

    /// Up to `some` streams from `key` on, and the key to go on with: who lists streams does so
    /// piece by piece, and holds the lock for one piece at a time.
    pub(crate) fn page(&self, key: usize, some: usize) -> (Vec<Listed>, Option<usize>) {
        let end = (key + some).min(self.topics.capacity());
        let listed = (key..end).filter_map(|key| self.topics.get(key)).map(|entry| Listed {
            base: self.connections.get(&entry.connection).map_or(0, |handle| handle.base),
            connection: entry.connection,
            lane: self.connections.get(&entry.connection).map(|handle| handle.lane.clone()),
            leases: entry.leases as usize,
            readers: entry.readers as usize,
            topic: Arc::clone(&entry.topic),
            unattended_since: entry.unattended_since.at(),
        });
        (listed.collect(), Some(end).filter(|end| *end < self.topics.capacity()))
    }

    pub(crate) fn listed(&self, topic: &Arc<Topic>) -> Option<Listed> {
        let key = self.key(topic)?;
        self.page(key, 1).0.pop()
    }
}
