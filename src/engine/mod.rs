//! One socket per name, for as long as somebody wants it.
//!
//! The registry decides, connections obey: see [`registry`] for what is open and why, [`connection`]
//! for how it stays open, [`topic`] for how a message reaches its readers, and [`core`] for what
//! they share.

mod bases;
pub(crate) mod connection;
pub(crate) mod core;
pub(crate) mod dedicated;
pub(crate) mod defect;
pub(crate) mod events;
mod flight;
pub(crate) mod limiter;
mod moment;
pub(crate) mod neighbours;
pub(crate) mod outgoing;
mod penalty;
pub(crate) mod registry;
pub(crate) mod request;
pub(crate) mod seat;
mod small;
mod sweeper;
pub(crate) mod sync;
pub(crate) mod tokens;
mod tools;
pub(crate) mod topic;

#[cfg(all(test, wsmux_shuttle))]
mod races;
