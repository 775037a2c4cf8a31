//! What a server may send beyond messages: how many fragments, and how many control frames.
//!
//! What a message has in bytes does not bound how many fragments it has: an endless row of empty
//! ones is, seen from outside, silence that burns a core.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// Fragments that each message may have.
const FRAGMENTS: u64 = 1024;

/// Bytes of a message that pay for one fragment more.
const BYTES_PER_FRAGMENT: u64 = 32;

/// Pings and pongs that may come in [`WINDOW`]: far more than any server needs.
const CONTROLS: u32 = 1000;

const WINDOW: Duration = Duration::from_secs(10);

/// More came than any server has reason to send.
#[derive(Debug)]
pub(super) enum Flood {
    Controls,
    Fragments,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controls => {
                write!(f, "more than {CONTROLS} pings and pongs in {} s", WINDOW.as_secs())
            }
            Self::Fragments => write!(
                f,
                "a message of more than {FRAGMENTS} fragments, and less than {BYTES_PER_FRAGMENT} \
                 bytes for each beyond"
            ),
        }
    }
}

impl StdError for Flood {}

/// What has begun and not ended: equal for as long as it is the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unfinished(u64);

#[cfg(test)]
impl Unfinished {
    pub(super) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
pub(super) struct Floods {
    /// Pings and pongs since `since`.
    controls: u32,
    /// Fragments of the message that is being read.
    fragments: u64,
    /// How many messages and control frames have ended; those within a message are part of it.
    number: u64,
    since: Instant,
}

impl Floods {
    pub(super) fn new() -> Self {
        Self { controls: 0, fragments: 0, number: 0, since: Instant::now() }
    }

    /// What is coming now.
    pub(super) fn current(&self) -> Unfinished {
        Unfinished(self.number)
    }

    /// It has ended.
    pub(super) fn ended(&mut self) {
        self.number += 1;
    }

    /// A fragment comes, the first one of its message or another; with it the message has so many
    /// bytes.
    pub(super) fn fragment(&mut self, is_first: bool, bytes: u64) -> Result<(), Flood> {
        self.fragments = if is_first { 1 } else { self.fragments + 1 };
        if self.fragments > FRAGMENTS + bytes / BYTES_PER_FRAGMENT {
            return Err(Flood::Fragments);
        }
        Ok(())
    }

    /// A control frame comes. Asks for the time only now and then.
    pub(super) fn control(&mut self) -> Result<(), Flood> {
        self.controls += 1;
        if self.controls <= CONTROLS {
            return Ok(());
        }
        let now = Instant::now();
        if now.duration_since(self.since) < WINDOW {
            return Err(Flood::Controls);
        }
        (self.controls, self.since) = (1, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn a_message_may_have_as_many_fragments_as_it_has_bytes_for() {
        let mut floods = Floods::new();
        floods.fragment(true, 0).unwrap();
        (1..100_000).for_each(|n| floods.fragment(false, 64 * n).unwrap());
        floods.fragment(true, 0).unwrap();
        let ones = (1..).position(|n| floods.fragment(false, n).is_err());
        assert!((1024..1100).contains(&ones.unwrap()), "{ones:?}");
        floods.fragment(true, 0).unwrap();
        let empty = (0..).position(|_| floods.fragment(false, 0).is_err());
        assert_eq!(empty, Some(1023), "with the first one, 1024 are fine");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_pings_in_ten_seconds_are_too_many_and_slower_ones_are_not() {
        let mut floods = Floods::new();
        for _ in 0..100 {
            (0..500).for_each(|_| floods.control().unwrap());
            advance(Duration::from_secs(5)).await;
        }
        let passed = (0..3000).take_while(|_| floods.control().is_ok()).count();
        assert!((1000..=2000).contains(&passed), "at most two windows' worth: {passed}");
        let mut floods = Floods::new();
        assert_eq!((0..2000).take_while(|_| floods.control().is_ok()).count(), 1000);
    }
}
