//! What a server may send beyond messages: how many fragments, and how many control frames.
//!
//! tungstenite limits what a message has in bytes, and shows neither fragments nor how many there
//! were: an endless row of empty ones is, seen from above it, silence that burns a core.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::heads::{Head, Heads};

/// Fragments that each message may have.
const FRAGMENTS: u64 = 1024;

/// Bytes of a message that pay for one fragment more.
const BYTES_PER_FRAGMENT: u64 = 32;

/// Pings and pongs that may come in [`WINDOW`]: far more than any server needs.
const CONTROLS: u32 = 1000;

const WINDOW: Duration = Duration::from_secs(10);

/// More came than any server has reason to send.
#[derive(Debug)]
pub(in super::super) enum Flood {
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

impl From<Flood> for io::Error {
    fn from(flood: Flood) -> Self {
        Self::other(flood)
    }
}

/// What has begun and not ended: equal for as long as it is the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) struct Unfinished {
    in_head: bool,
    number: u64,
}

#[cfg(test)]
impl Unfinished {
    pub(in super::super) fn numbered(number: u64) -> Self {
        Self { in_head: false, number }
    }
}

#[derive(Debug)]
pub(super) struct Inbound {
    /// Bytes of the message that is being read.
    bytes: u64,
    /// Pings and pongs since `since`.
    controls: u32,
    fragments: u64,
    heads: Heads,
    /// How many messages and control frames have begun; those within a message are part of it.
    number: u64,
    /// Whether more fragments of a message are to come.
    open: bool,
    since: Instant,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            controls: 0,
            fragments: 0,
            heads: Heads::default(),
            number: 0,
            open: false,
            since: Instant::now(),
        }
    }

    /// Looks at what was read. Where it is too much, how many bytes come before that.
    pub(super) fn watch(&mut self, bytes: &[u8]) -> Result<(), (usize, Flood)> {
        let mut at = 0;
        while at < bytes.len() {
            let (passed, head) = self.heads.next(&bytes[at..]);
            at += passed;
            if let Some(head) = head {
                self.judge(head).map_err(|flood| (at.saturating_sub(head.len), flood))?;
            }
        }
        Ok(())
    }

    /// What has begun and not ended.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let unfinished = self.open || !self.heads.is_between();
        // A head that has begun is not yet counted, unless it is within a message.
        let in_head = !self.open && self.heads.is_in_head();
        unfinished.then_some(Unfinished { in_head, number: self.number })
    }

    fn judge(&mut self, head: Head) -> Result<(), Flood> {
        if head.is_control() {
            self.number += u64::from(!self.open);
            return self.count_control();
        }
        if head.opcode() != 0 {
            self.number += 1;
            (self.bytes, self.fragments) = (0, 0);
        }
        self.open = !head.is_final();
        self.bytes = self.bytes.saturating_add(head.payload);
        self.fragments += 1;
        if self.fragments > FRAGMENTS + self.bytes / BYTES_PER_FRAGMENT {
            return Err(Flood::Fragments);
        }
        Ok(())
    }

    /// Asks for the time only now and then.
    fn count_control(&mut self) -> Result<(), Flood> {
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

    const EMPTY_START: [u8; 2] = [0x01, 0];
    const EMPTY_REST: [u8; 2] = [0x00, 0];
    const PING: [u8; 2] = [0x89, 0];
    const TICK: [u8; 3] = [0x81, 1, b'x'];

    #[tokio::test(start_paused = true)]
    async fn empty_fragments_are_a_flood_and_what_comes_before_them_passes() {
        let bytes = [&TICK[..], &EMPTY_START, &EMPTY_REST.repeat(2000)].concat();
        let fine = TICK.len() + 2 * 1024;
        for piece in [1, 7, 4096, bytes.len()] {
            let (mut inbound, mut passed) = (Inbound::new(), 0);
            let flooded = bytes.chunks(piece).find_map(|piece| match inbound.watch(piece) {
                Ok(()) => {
                    passed += piece.len();
                    None
                }
                Err((before, flood)) => {
                    passed += before;
                    Some(flood)
                }
            });
            assert!(matches!(flooded, Some(Flood::Fragments)));
            // A head that was cut has passed in part.
            assert!((fine..=fine + 1).contains(&passed), "{passed} in pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_may_have_as_many_fragments_as_it_has_bytes_for() {
        let rest = |len: u8| [&[0x00, len][..], &vec![0; usize::from(len)]].concat();
        let mut inbound = Inbound::new();
        inbound.watch(&EMPTY_START).unwrap();
        for _ in 0..100_000 {
            inbound.watch(&rest(64)).unwrap();
        }
        inbound.watch(&[0x80, 0]).unwrap();
        assert_eq!(inbound.unfinished(), None);
        inbound.watch(&EMPTY_START).unwrap();
        let ones = (0..).position(|_| inbound.watch(&rest(1)).is_err());
        assert!((1024..1100).contains(&ones.unwrap()), "{ones:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_pings_in_ten_seconds_are_too_many_and_slower_ones_are_not() {
        let mut inbound = Inbound::new();
        for _ in 0..100 {
            inbound.watch(&PING.repeat(500)).unwrap();
            advance(Duration::from_secs(5)).await;
        }
        let more = PING.repeat(3000);
        let Err((passed, Flood::Controls)) = inbound.watch(&more) else { panic!() };
        assert!((2000..=4000).contains(&passed), "at most two windows' worth: {passed}");
        let pongs = [0x8a, 0].repeat(1001);
        assert!(matches!(Inbound::new().watch(&pongs), Err((2000, Flood::Controls))));
        assert!(Inbound::new().watch(&[0x88, 0]).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unfinished_is_the_same_until_it_ends() {
        let mut inbound = Inbound::new();
        let mut after = |bytes: &[u8]| {
            inbound.watch(bytes).unwrap();
            inbound.unfinished()
        };
        assert_eq!(after(&TICK), None);
        assert_eq!(after(&PING), None);
        let head = after(&[0x01]);
        assert!(head.is_some());
        let message = after(&[5, b'h']);
        assert!(message.is_some() && message != head);
        assert_eq!(after(b"ello"), message, "more fragments are to come");
        assert_eq!(after(&PING), message, "a ping within it is part of it");
        assert_eq!(after(&[0x00]), message);
        assert_eq!(after(&[0]), message);
        assert_eq!(after(&[0x80, 2, b'!']), message);
        let next = after(&[b'!', 0x81]);
        assert!(next.is_some() && next != message && next != head, "it ended, and another began");
        assert_eq!(after(&[0]), None);
    }
}
