//! Events for `EventSource` and everything else that reads lines (WHATWG HTML, section 9.2), and the
//! latest message for who asks now and then.
//!
//! Each name has a [`Tail`](super::tail::Tail): a ring of its newest events, encoded once. A stream of events is a cursor in
//! it, or one in each of several. So a client that reads slowly costs a cursor, and one that comes back
//! goes on where it was, or is told of a gap where the ring has no more of it.

mod body;
mod cursor;
mod routes;
mod snapshot;

#[cfg(fuzzing)]
pub(super) use routes::names_in;
pub(super) use routes::{many, one};
pub(super) use snapshot::snapshot;
