//! Servers for tests.
pub mod memory;
