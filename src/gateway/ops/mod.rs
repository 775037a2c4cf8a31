//! What operators see and do.
//!
//! Two sets of routes, for two listeners:
//!
//! | [`Ops::public`] | |
//! |---|---|
//! | `GET /livez` | 200 while the process answers. Not tied to upstream: a restart mends no venue |
//! | `GET /readyz` | 200 while clients may be sent here, 503 before that and while draining |
//! | `GET /health` | 200 or 503, `application/health+json`: the status, and nothing of what is inside |
//!
//! | [`Ops::admin`] adds | |
//! |---|---|
//! | `GET /health` | with all findings, names of streams included |
//! | `GET /metrics` | for Prometheus: the library's, those of a pool that answers batches, and the gateway's |
//! | `GET /stats` | for people: JSON; `?format=prometheus` is `/metrics` |
//! | `POST /admin/sweep` | closes the streams that nobody reads |
//! | `POST /admin/reconnect/{name}` | has another socket take a stream over |
//! | `POST /admin/rotate` | gets fresh credentials for upstream |
//!
//! - What changes something wants the token, and there is none by default: then nobody may.
//! - With a token, what tells names or figures wants it too. Only the health of the process is for
//!   everybody, without names, addresses or reasons.
//! - Labels of metrics are few and fixed; names and users are in `/stats` only, a hundred at most.

mod admin;
mod handle;
mod health;
mod metrics;
mod routes;
mod stats;
#[cfg(test)]
mod tests;

pub use self::handle::Ops;
