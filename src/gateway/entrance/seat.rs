//! What a visitor who was let in may do, and the places it has taken.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::gateway::limits::{Account, Network, Pace, Place};
use crate::gateway::tiers::Member;
use crate::gateway::visitor::{Denied, Standing};
use crate::name::StreamName;

/// Words per second of a client that has not said who it is.
const UNKNOWN: u32 = 5;

/// A connection's seat. Nobody is on it until somebody has said who it is.
#[derive(Debug)]
pub(super) struct Seat {
    account: OnceLock<Arc<Account>>,
    _address: Place<Network>,
    _everybody: Place<()>,
    member: OnceLock<Arc<Member>>,
    pace: Pace,
    user: Mutex<Option<Place<Arc<str>>>>,
}

impl Seat {
    pub(super) fn new(everybody: Place<()>, address: Place<Network>) -> Self {
        Self {
            account: OnceLock::new(),
            _address: address,
            _everybody: everybody,
            member: OnceLock::new(),
            pace: Pace::default(),
            user: Mutex::default(),
        }
    }

    /// Puts somebody on the seat, once: who comes later is not let on it, and gives its place back.
    pub(super) fn sit(
        &self,
        member: Arc<Member>,
        account: Arc<Account>,
        place: Option<Place<Arc<str>>>,
    ) {
        if self.member.set(member).is_ok() {
            let _ = self.account.set(account);
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

    /// By what its user has asked on all connections, as each request may come by one of its own.
    fn may_ask(&self) -> Result<(), Duration> {
        let (Some(member), Some(account)) = (self.member.get(), self.account.get()) else {
            return if self.may_say() { Ok(()) } else { Err(Duration::from_secs(1)) };
        };
        account.ask(member.tier().messages_per_second)
    }

    fn hold(&self, name: &StreamName) -> Result<Box<dyn Any + Send + Sync>, Denied> {
        let (Some(member), Some(account)) = (self.member.get(), self.account.get()) else {
            return Err(Denied::Proof);
        };
        let holding = account.hold(name, member.tier().names_per_user);
        Ok(Box::new(holding.ok_or(Denied::TooMany)?))
    }

    fn delay(&self) -> Duration {
        self.member.get().map_or(Duration::ZERO, |member| member.tier().delay)
    }

    fn tier(&self) -> Arc<str> {
        self.member.get().map_or_else(|| "unknown".into(), |member| Arc::clone(&member.tier().name))
    }
}
