//! Servers for tests.
pub mod memory;
mod server;
pub use server::{Answer, Certificate, Garbage, MockServer, MockServerBuilder, Peer};
