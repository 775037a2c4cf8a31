//! A shard: the task that writes to its share of the clients.
//!
//! It works in rounds. A round takes what is there: clients that come, go and ask, and what has come on
//! the names that they read. Each run of messages is encoded once per form, into one buffer that all
//! readers of the name share. At the end of the round, each client for whom there is something is written
//! to once. So at low rates a message costs one write per client, which is all that it costs, and at
//! high rates many share one.
//!
//! - A name is read once per shard, however many of its clients read it, and left with the last of them.
//! - Nothing in here waits for a client: see `client.rs`.
//! - Between two hundreds of clients it gives way to other tasks.

mod client;
mod feed;
mod seats;
mod state;
mod task;

pub(super) use state::Shard;
