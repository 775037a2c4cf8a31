//! Streams written into a file, and a file read as streams.
//!
//! - [`Recorder`] writes what a [`Subscription`](crate::Subscription) yields: messages as they came,
//!   with the time of their arrival, gaps in their places, the end, and where the recorder itself was
//!   too slow.
//! - [`Recording`] is such a file, and [`Records`] reads it, one record after the other.
//! - [`Replay`] is a file in the place of a server: a [`Transport`](crate::transport::Transport) and
//!   the [`Protocol`](crate::protocol::Protocol) for it, under the code that runs live.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use wsmux::record::{Recorder, RecorderOptions, Replay};
//! use wsmux::{Text, WsManager};
//!
//! let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
//! let recorder = Recorder::create("monday.rec", RecorderOptions::default()).await?;
//! recorder.record(manager.subscribe::<Text>("btcusdt@trade")?)?;
//! // … a day later:
//! println!("{}", recorder.finish().await?);
//!
//! let replay = Replay::open("monday.rec")?.speed(10.0);
//! let manager = WsManager::builder(replay.protocol()).transport(replay).build()?;
//! let trades = manager.subscribe::<Text>("btcusdt@trade")?; // and the rest of the bot, as it is
//! # Ok(())
//! # }
//! ```
//!
//! # The file
//!
//! A file is a sequence of *records*, in the framing of TensorFlow's `TFRecord` files: it has been the
//! same since 2015, has readers in every language, and keeps a checksum of the length apart from that
//! of the data, so that a length that is wrong is known before it is believed.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | length of the data, little endian |
//! | 4 | masked CRC-32C of these eight bytes, little endian |
//! | length | the data |
//! | 4 | masked CRC-32C of the data, little endian |
//!
//! *Masked* means `((crc >> 15) | (crc << 17)) + 0xa282ead8`, modulo 2³². The data is one
//! [MessagePack](https://github.com/msgpack/msgpack/blob/master/spec.md) array, whose first element
//! says what it is:
//!
//! | array | means |
//! |---|---|
//! | `[0, 1, wall, program]` | a run begins: the version of this table; nanoseconds since 1970 by the wall clock; who writes |
//! | `[1, id, name]` | from here on in this run, `id` (0, 1, 2, …) stands for the stream `name` |
//! | `[2, dt, id, payload]` | a message: a string if it was text, else bytes |
//! | `[3, dt, id, missed]` | the recorder was too slow, and lost so many messages here |
//! | `[4, dt, id, down, reason, number, words]` | the stream was lost for `down` nanoseconds, and is back; `reason` is [`DisconnectReason::label`](crate::DisconnectReason::label), the next two are its details or nil |
//! | `[5, dt, id, missed]` | the feed itself skipped messages: how many, or nil |
//! | `[6, dt, id, reason, words]` | the stream ended: [`CloseReason::label`](crate::CloseReason::label) and its text |
//! | `[7, dt]` | the recorder was finished |
//!
//! `dt` is the time since the record before in this run, in nanoseconds by the monotonic clock, and
//! since the run's begin for the first one. It is negative where streams were written in another order
//! than their messages came. A reader passes over arrays that begin with a number above 7, and over
//! elements that it does not know at the end of an array.
//!
//! A message costs 20 to 30 bytes beside its payload, 16 of them for the framing. Files compress well;
//! that is left to tools such as `zstd`, which need not be trusted to find a torn end.
//!
//! # After a crash
//!
//! Records are appended, and never changed. A process that dies leaves whole records and perhaps a part
//! of one; a machine that dies may also leave zeros. [`Records`] reads all that is whole, and then says
//! [`ReadError::Torn`]. [`Recorder::append`] cuts such an end off, and begins a new run, which is a gap
//! for every stream that goes on in it. Damage in the middle of a file is something else: it is
//! [`ReadError::Corrupt`], and nothing is cut off.

mod entry;
mod frame;
mod output;
mod reading;
mod reason;
mod recorder;
mod recording;
mod records;
mod replay;
mod taking;
#[cfg(test)]
mod tests;
mod writing;

pub use reading::ReadError;
pub use recorder::{RecordError, Recorded, Recorder, RecorderOptions};
pub use recording::{End, Recording};
pub use records::{Item, Record, Records};
pub use replay::{Replay, ReplayProtocol, ReplaySocket};
