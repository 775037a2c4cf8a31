//! What a visitor who was let in may do, and the places it has taken.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::gateway::limits::{Network, Pace, Place};
use crate::gateway::tiers::Member;
use crate::gateway::visitor::{Denied, Standing};
use crate::name::StreamName;

/// Words per second of a client that has not said who it is.
const UNKNOWN: u32 = 5;

/// A connection's seat. Nobody is on it until somebody has said who it is.
#[derive(Debug)]
pub(super) struct Seat {
    _address: Place<Network>,
    _everybody: Place<()>,
    member: OnceLock<Arc<Member>>,
    pace: Pace,
    user: Mutex<Option<Place<Arc<str>>>>,
}

impl Seat {
    pub(super) fn new(everybody: Place<()>, address: Place<Network>) -> Self {
        Self {
            _address: address,
            _everybody: everybody,
            member: OnceLock::new(),
            pace: Pace::default(),
            user: Mutex::default(),
        }
    }

    /// Puts somebody on the seat, once: who comes later is not let on it, and gives its place back.
    pub(super) fn sit(&self, member: Arc<Member>, place: Option<Place<Arc<str>>>) {
        if self.member.set(member).is_ok() {
            *self.user.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }
    }

    /// Who is on it.
    pub(super) fn user(&self) -> Option<&Arc<str>> {
        self.member.get().map(|member| member.user())
    }
}

impl Standing for Seat {
    fn version(&self) -> u64 {
        self.member.get().map_or(0, |member| member.version())
    }

    fn may_read(&self, name: &StreamName) -> Result<(), Denied> {
        let member = self.member.get().ok_or(Denied::Proof)?;
        if member.tier().allows(name.as_str()) { Ok(()) } else { Err(Denied::Name) }
    }

    fn max_names(&self) -> usize {
        self.member.get().map_or(0, |member| member.tier().names)
    }

    fn may_say(&self) -> bool {
        let rate = self.member.get().map_or(UNKNOWN, |member| member.tier().messages_per_second);
        self.pace.take(rate)
    }

    fn delay(&self) -> Duration {
        self.member.get().map_or(Duration::ZERO, |member| member.tier().delay)
    }

    fn tier(&self) -> Arc<str> {
        self.member.get().map_or_else(|| "unknown".into(), |member| Arc::clone(&member.tier().name))
    }
}
