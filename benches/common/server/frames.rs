//! Messages as venues send them, encoded beforehand; with the time at which they were to be sent.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::common::clock::monotonic;

/// Where a message has its time: nanoseconds by [`monotonic`] and `EPOCH`, so that it always has as
/// many digits.
const TIME: Range<usize> = 6..25;
const EPOCH: u64 = 1_000_000_000_000_000_000;

/// Where a message has its symbol.
const SYMBOL: Range<usize> = 31..37;

/// What readers parse from a message.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Trade {
    /// The symbol.
    pub(crate) s: String,
    /// The price.
    #[serde(deserialize_with = "number")]
    pub(crate) p: f64,
    /// The quantity.
    #[serde(deserialize_with = "number")]
    pub(crate) q: f64,
    /// The time of the trade, in milliseconds.
    #[serde(rename = "T")]
    pub(crate) time: u64,
    /// Whether the buyer was there first.
    pub(crate) m: bool,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let text: std::borrow::Cow<'de, str> = Deserialize::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// The time at which the server was to send `message`, by [`monotonic`].
pub(crate) fn sent_at(message: &[u8]) -> Duration {
    let digits = &message[TIME];
    let number = digits.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Duration::from_nanos(number - EPOCH)
}

/// The symbol of `message`.
pub(crate) fn symbol(message: &str) -> &str {
    &message[SYMBOL]
}

/// One frame that is sent again and again, with its time and symbol changed.
pub(super) struct Frame {
    bytes: Vec<u8>,
    header: usize,
}

impl Frame {
    /// An unmasked text frame (RFC 6455 §5.2) with a payload of up to 64 KiB.
    pub(super) fn new(bytes: usize) -> Self {
        let len = u16::try_from(bytes).expect("at most 64 KiB");
        let mut frame = vec![0x81];
        match u8::try_from(len) {
            Ok(len @ ..=125) => frame.push(len),
            _ => {
                frame.push(126);
                frame.extend(len.to_be_bytes());
            }
        }
        let header = frame.len();
        frame.extend(trade(bytes).bytes());
        Self { bytes: frame, header }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn set_time(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).expect("not that long since the start");
        self.write(TIME, nanos + EPOCH);
    }

    pub(super) fn set_symbol(&mut self, symbol: u64) {
        self.write(SYMBOL, symbol);
    }

    fn write(&mut self, range: Range<usize>, mut number: u64) {
        let digits = &mut self.bytes[self.header..][range];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    }
}

/// A trade as JSON of `bytes` bytes, at least 170.
fn trade(bytes: usize) -> String {
    let mut text = format!(
        r#"{{"ts":{EPOCH},"s":"000000","e":"trade","E":1672515782136,"t":4000000001,"p":"67012.01000000","q":"0.00123000","T":1672515782136,"m":true,"x":""#
    );
    let end = "\"}";
    assert!(text.len() + end.len() <= bytes, "at least {} bytes", text.len() + end.len());
    text.extend(std::iter::repeat_n('a', bytes - text.len() - end.len()));
    text + end
}

/// Waits until `due`, awake.
pub(super) fn spin_until(due: Duration) {
    while monotonic() < due {
        std::hint::spin_loop();
    }
}
