//! Every fault that a server has: what the reader sees of it, its bound, and what is left of it.

mod closing;
mod data;
mod frames;
mod handshake;
mod hostile;
mod loss;
mod writing;
