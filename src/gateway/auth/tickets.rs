//! Tickets: what a browser shows where it can show nothing else.
//!
//! A page cannot set a header on a WebSocket or an `EventSource`, and a token in an URL ends up in
//! histories and in the logs of proxies. So the page exchanges its token for a ticket, by an ordinary
//! request, and shows that: whoever finds it in a log finds one that is used, or has expired.
//!
//! - A ticket is good once, and for a short time.
//! - Its hash is kept, so that the store is no list of tickets.
//! - The store is bounded. What one user takes is bounded too: with one more, the oldest of the same
//!   user gives way, so nobody can take the tickets of all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use super::api_keys::{Hash, hash};
use super::error::AuthError;
use super::identity::Identity;
use crate::config::Secret;
use crate::gateway::defect::{Defect, seeded};

/// How many of one user may be out: one for each tab that reconnects at the same time.
const PER_USER: usize = 16;

pub(super) struct Tickets {
    capacity: usize,
    random: SystemRandom,
    state: Mutex<State>,
    pub(super) ttl: Duration,
}

#[derive(Default)]
struct State {
    by_hash: HashMap<Hash, Out>,
    by_user: HashMap<Arc<str>, Vec<u64>>,
    next: u64,
    /// By number, which is the order in which they expire, as all last equally long.
    order: BTreeMap<u64, Hash>,
}

struct Out {
    identity: Identity,
    number: u64,
    until: Instant,
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new(Duration::from_secs(30), 10_000)
    }
}

impl Tickets {
    pub(super) fn new(ttl: Duration, capacity: usize) -> Self {
        Self { capacity, random: SystemRandom::new(), state: Mutex::default(), ttl }
    }

    /// A fresh ticket for somebody.
    pub(super) fn issue(&self, identity: Identity) -> Result<Secret, AuthError> {
        let mut bytes = [0; 32];
        // A system without randomness has no tickets; nothing weaker takes their place.
        self.random.fill(&mut bytes).map_err(|_| AuthError::TooManyTickets)?;
        let text = BASE64URL_NOPAD.encode(&bytes);
        let now = Instant::now();
        let mut state = self.lock();
        state.forget_old(now);
        if let Some(oldest) = state.oldest_beyond(&identity.user, PER_USER - 1) {
            if !seeded(Defect::UserTakesAll) {
                state.take(&oldest);
            }
        }
        if state.by_hash.len() >= self.capacity && !seeded(Defect::StoreIsBoundless) {
            return Err(AuthError::TooManyTickets);
        }
        state.put(hash(text.as_bytes()), identity, now + self.ttl);
        Ok(Secret::new(text))
    }

    /// Takes those that are out of another store, which has none then: each is good once all the same. Those
    /// beyond the capacity are lost, the newest first.
    pub(super) fn inherit(&self, other: &Self) {
        let mut old = std::mem::take(&mut *other.lock());
        old.forget_old(Instant::now());
        let mut state = self.lock();
        while let Some((_, hash)) = old.order.pop_first() {
            let Some(out) = old.by_hash.remove(&hash) else { continue };
            if state.by_hash.len() < self.capacity {
                state.put(hash, out.identity, out.until);
            }
        }
    }

    /// Whose ticket this is. It is used up by that.
    pub(super) fn redeem(&self, ticket: &str) -> Result<Identity, AuthError> {
        let now = Instant::now();
        let mut state = self.lock();
        let hash = hash(ticket.as_bytes());
        let out = state.take(&hash).ok_or(AuthError::Invalid)?;
        if seeded(Defect::TicketIsKept) {
            state.put(hash, out.identity.clone(), out.until);
        }
        let expired = out.until <= now || out.identity.expires_at.is_some_and(|at| at <= now);
        if expired && !seeded(Defect::TicketStaysGood) {
            Err(AuthError::Expired)
        } else {
            Ok(out.identity)
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, hash: Hash, identity: Identity, until: Instant) {
        let number = self.next;
        self.next += 1;
        self.order.insert(number, hash);
        self.by_user.entry(Arc::clone(&identity.user)).or_default().push(number);
        self.by_hash.insert(hash, Out { identity, number, until });
    }

    /// Those that were given out first, as far as they have expired.
    fn forget_old(&mut self, now: Instant) {
        while let Some((_, hash)) = self.order.first_key_value() {
            let hash = *hash;
            if self.by_hash.get(&hash).is_some_and(|out| out.until > now) {
                break;
            }
            self.take(&hash);
        }
    }

    /// The oldest ticket of a user who has more than `most`.
    fn oldest_beyond(&self, user: &str, most: usize) -> Option<Hash> {
        let numbers = self.by_user.get(user).filter(|numbers| numbers.len() > most)?;
        self.order.get(numbers.first()?).copied()
    }

    fn take(&mut self, hash: &Hash) -> Option<Out> {
        let out = self.by_hash.remove(hash)?;
        self.order.remove(&out.number);
        if let Some(numbers) = self.by_user.get_mut(&out.identity.user) {
            numbers.retain(|number| *number != out.number);
            if numbers.is_empty() {
                self.by_user.remove(&out.identity.user);
            }
        }
        Some(out)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tickets({})", self.lock().by_hash.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::defect::are_found;

    const TTL: Duration = Duration::from_secs(30);

    fn ann() -> Identity {
        Identity::new("ann").unwrap()
    }

    fn left(tickets: &Tickets) -> (usize, usize, usize) {
        let state = tickets.lock();
        (state.by_hash.len(), state.by_user.len(), state.order.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once() {
        let tickets = Tickets::new(TTL, 10);
        let ticket = tickets.issue(ann()).unwrap();
        assert_eq!(tickets.redeem(ticket.expose()), Ok(ann()));
        assert_eq!(tickets.redeem(ticket.expose()), Err(AuthError::Invalid));
        assert_eq!(tickets.redeem(""), Err(AuthError::Invalid));
        assert_eq!(left(&tickets), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_for_a_short_time_and_no_longer_than_what_it_was_given_for() {
        let tickets = Tickets::new(TTL, 10);
        let (early, late) = (tickets.issue(ann()).unwrap(), tickets.issue(ann()).unwrap());
        tokio::time::advance(TTL - Duration::from_millis(1)).await;
        assert!(tickets.redeem(early.expose()).is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tickets.redeem(late.expose()), Err(AuthError::Expired));
        let soon = Instant::now() + Duration::from_secs(1);
        let ticket = tickets.issue(ann().until(Some(soon))).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tickets.redeem(ticket.expose()), Err(AuthError::Expired));
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_that_nobody_shows_are_forgotten_and_the_store_has_a_bound() {
        let tickets = Tickets::new(TTL, 3);
        let user = |n: usize| Identity::new(&n.to_string()).unwrap();
        for n in 0..3 {
            tickets.issue(user(n)).unwrap();
        }
        assert!(matches!(tickets.issue(user(3)), Err(AuthError::TooManyTickets)));
        tokio::time::advance(TTL).await;
        tickets.issue(user(4)).unwrap();
        assert_eq!(left(&tickets), (1, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_that_are_out_go_over_to_another_store_and_are_good_once() {
        let (old, new) = (Tickets::new(TTL, 10), Tickets::new(2 * TTL, 3));
        let mut out: Vec<_> = (0..5).map(|_| old.issue(ann()).unwrap()).collect();
        tokio::time::advance(TTL / 2).await;
        new.inherit(&old);
        assert_eq!((left(&old), left(&new)), ((0, 0, 0), (3, 1, 3)));
        assert_eq!(old.redeem(out[0].expose()), Err(AuthError::Invalid), "it is good in one place");
        assert_eq!(new.redeem(out[0].expose()), Ok(ann()));
        assert_eq!(new.redeem(out[0].expose()), Err(AuthError::Invalid));
        assert_eq!(new.redeem(out.pop().unwrap().expose()), Err(AuthError::Invalid), "no room");
        tokio::time::advance(TTL / 2).await;
        assert_eq!(new.redeem(out[1].expose()), Err(AuthError::Expired), "no longer than it was");
        new.issue(ann()).unwrap();
        assert_eq!(left(&new), (1, 1, 1), "and nothing of the others is left");
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_cannot_take_the_tickets_of_all() {
        let tickets = Tickets::new(TTL, 100);
        let first = tickets.issue(ann()).unwrap();
        let last = (0..200).map(|_| tickets.issue(ann()).unwrap()).last().unwrap();
        assert_eq!(left(&tickets), (PER_USER, 1, PER_USER));
        assert_eq!(tickets.redeem(first.expose()), Err(AuthError::Invalid));
        assert!(tickets.redeem(last.expose()).is_ok());
    }

    #[test]
    fn a_store_that_keeps_what_was_shown_has_expired_or_is_too_much_is_found_out() {
        are_found(&[
            (Defect::TicketIsKept, a_ticket_is_good_once),
            (
                Defect::TicketStaysGood,
                a_ticket_is_good_for_a_short_time_and_no_longer_than_what_it_was_given_for,
            ),
            (Defect::UserTakesAll, one_user_cannot_take_the_tickets_of_all),
            (
                Defect::StoreIsBoundless,
                tickets_that_nobody_shows_are_forgotten_and_the_store_has_a_bound,
            ),
        ]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_cannot_be_guessed_and_is_not_printed() {
        let tickets = Tickets::default();
        let (one, other) = (tickets.issue(ann()).unwrap(), tickets.issue(ann()).unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), 43, "256 bits");
        assert_eq!(format!("{tickets:?}{one:?}"), "Tickets(2)***");
    }
}
