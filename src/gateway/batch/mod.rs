//! `POST /batch`: many requests of one client, and their results as events, as they come.
//!
//! ```text
//!   POST ─▶ route: who is it, what is asked (says), may it be asked (desk)
//!             │ a task (run): the pool's Batch ─▶ results in groups ─▶ a summary
//!             ▼                                     │ outbox, counted in bytes
//!           the body of the answer ◀────────────────┘
//! ```
//!
//! What always holds:
//!
//! - A client names what it wants; what is sent for that, and where to, is the owner's to say. No body of a
//!   client's own making reaches the pool unless the owner's code puts it there.
//! - The list of what was asked goes out before anything is asked, so it waits for no backend.
//! - A client that reads slowly keeps no place of the pool: what is in flight is always taken, and only
//!   beginning waits for it. What waits for it is bounded in bytes.
//! - Whoever goes away, expires, or takes nothing for long has the rest cancelled.
//! - Of a failure a client sees a stable code and a text of ours; the backend's words stay inside.

mod desk;
mod outbox;
mod route;
mod run;
mod says;

pub use desk::BatchRequest;
pub(super) use desk::Desk;
pub(super) use route::serve;
