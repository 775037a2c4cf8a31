//! The application's own names, and who publishes on them.
//!
//! A name lives as long as one of its publishers. It is a bounded ring: who reads too slowly is told of
//! a gap, and nobody who publishes waits.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::broadcast;

use crate::message::Message;
use crate::name::StreamName;

/// How many messages of a name are kept for its readers: what
/// [`Config::buffer`](field@crate::Config::buffer) is for relayed names.
const RING: usize = 1024;

/// The names that are the application's.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<HashMap<StreamName, Weak<Topic>>>);

/// Publishes messages on a name; made by [`Gateway::publisher`](super::Gateway::publisher). Cloning is
/// cheap. The name ends for its readers when the last publisher of it is dropped.
#[derive(Clone)]
pub struct Publisher(Arc<Topic>);

pub(super) struct Topic {
    latest: Mutex<Option<Message>>,
    name: StreamName,
    own: Arc<Own>,
    ring: broadcast::Sender<Message>,
}

impl Own {
    pub(super) fn publisher(self: &Arc<Self>, name: StreamName) -> Publisher {
        let mut names = self.lock();
        if let Some(topic) = names.get(&name).and_then(Weak::upgrade) {
            return Publisher(topic);
        }
        let topic = Arc::new(Topic {
            latest: Mutex::new(None),
            name: name.clone(),
            own: Arc::clone(self),
            ring: broadcast::Sender::new(RING),
        });
        names.insert(name, Arc::downgrade(&topic));
        Publisher(topic)
    }

    pub(super) fn has(&self, name: &StreamName) -> bool {
        self.lock().contains_key(name)
    }

    /// What is published on a name from now on, and the last of what was; `None` where the name is not
    /// the application's.
    pub(super) fn read(
        &self,
        name: &StreamName,
    ) -> Option<(broadcast::Receiver<Message>, Option<Message>)> {
        let topic = self.lock().get(name).and_then(Weak::upgrade)?;
        // Under the lock of a publisher, so that the last one is none of those that come.
        let latest = topic.lock();
        Some((topic.ring.subscribe(), latest.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamName, Weak<Topic>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topic {
    fn lock(&self) -> MutexGuard<'_, Option<Message>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let mut names = self.own.lock();
        // Another one may have taken its place.
        if names.get(&self.name).is_some_and(|topic| topic.strong_count() == 0) {
            names.remove(&self.name);
        }
    }
}

impl Publisher {
    /// Publishes a message to whoever reads the name now. Never waits and never fails: where nobody
    /// reads it, it is the latest one for who comes and asks for a snapshot.
    pub fn publish(&self, message: impl Into<Message>) {
        let message = message.into();
        let mut latest = self.0.lock();
        *latest = Some(message.clone());
        let _ = self.0.ring.send(message);
    }

    /// The name that it publishes on.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.0.name
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lives_as_long_as_its_publishers_and_has_one_ring() {
        let own = Arc::new(Own::default());
        let name = StreamName::try_from("news").unwrap();
        assert!(own.read(&name).is_none());
        let (one, two) = (own.publisher(name.clone()), own.publisher(name.clone()));
        one.publish("first");
        let (mut reader, latest) = own.read(&name).unwrap();
        assert_eq!(latest, Some("first".into()));
        drop(one);
        two.publish("second");
        assert_eq!(reader.try_recv(), Ok("second".into()));
        drop(two);
        assert_eq!(reader.try_recv(), Err(broadcast::error::TryRecvError::Closed));
        assert!(own.read(&name).is_none());
        assert!(own.lock().is_empty());
    }
}
