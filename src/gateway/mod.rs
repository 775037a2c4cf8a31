//! Streams for everybody else: browsers, other languages, other teams.
//!
//! A [`Gateway`] holds one upstream stream per name, by a [`WsManager`](crate::WsManager), and serves any
//! number of clients from it, by an [`axum::Router`].
//!
//! ```text
//!   WsManager ──▶ Subscription ──▶ Shard: one task per core        ──▶ sockets of its clients
//!   Publisher ──▶   (per name      drains, encodes once per format,
//!                   and shard)     joins, writes each client once
//!             ──▶ Tail: a ring of encoded events per name          ──▶ SSE bodies, snapshots
//!
//!   socket ──▶ one small task per client: frames, words            ──▶ its shard
//!   request ──▶ Doors: who is it, may it come in?  ──▶ Visitor     goes along with the client
//! ```
//!
//! # What always holds
//!
//! - Nothing waits for a client. A client that does not read costs its queue, which is bounded in
//!   bytes, and is cut off in bounded time.
//! - No silent loss. What a client misses is told in its place, as a gap, or its connection is closed.
//!   Upstream's gaps come to it in their place, and close nothing.
//! - A frame is encoded once for all clients of a shard that read it in the same form.
//! - A client names streams, never addresses: what a name leads to is the manager's affair, and
//!   [`GatewayBuilder::names`] may allow fewer or rename them.
//! - A client's rights are asked for when it is sent to, not only when it subscribes. They are read from
//!   memory: see [`Standing`].
//! - Whatever a [`Visitor`] holds is given back when the last of it is dropped, however that comes.
//! - It uses nothing of this crate that a user could not.

pub mod auth;
#[cfg(feature = "requests")]
mod batch;
mod builder;
mod config;
mod control;
mod defect;
mod delayed;
mod doors;
mod entrance;
mod event;
mod feed;
#[cfg(feature = "gateway-http")]
#[cfg_attr(docsrs, doc(cfg(feature = "gateway-http")))]
pub mod fetch;
mod frame;
#[cfg(fuzzing)]
mod fuzzing;
mod handle;
mod hub;
mod io;
pub mod limits;
pub mod listen;
mod news;
mod numbers;
mod ops;
mod own;
mod pages;
mod positions;
mod queue;
mod reader;
mod shard;
mod shared;
mod sse;
mod tail;
pub mod tiers;
mod upgrade;
mod visitor;
mod words;
mod ws;

#[cfg(feature = "requests")]
#[cfg_attr(docsrs, doc(cfg(feature = "requests")))]
pub use batch::BatchRequest;
pub use builder::GatewayBuilder;
pub use config::{GatewayConfig, SlowClient};
pub use doors::{Doors, Open};
pub use entrance::{Entrance, EntranceBuilder};
#[cfg(fuzzing)]
pub use fuzzing::{Said, answer_word, read_frames, read_names, read_place, write_event};
pub use handle::Gateway;
pub use hub::{HubStats, Laggard, NameStats};
pub use ops::Ops;
pub use own::Publisher;
pub use positions::{InvalidPositions, Positions};
pub use visitor::{Denied, Standing, Visitor};
