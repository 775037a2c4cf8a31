//! Whether a socket that is being replaced has brought all that it had to bring: asks its peer.
//!
//! A socket that is half-dead looks like one whose feed is silent: what its server has written lies
//! lost, and nothing says so. Before silence is taken for an answer, the peer is pinged. The pong
//! proves that nothing is missing between the two sockets if these three hold:
//!
//! 1. It has the payload of that very ping, which is written here only. A pong to an earlier ping,
//!    one that nobody asked for and a message prove that the peer lived when it wrote them, not what
//!    it wrote later.
//! 2. The ping was made after the next socket had joined, and after the last message of either. So
//!    what the server writes after the pong, the next socket brings too.
//! 3. A socket brings what its peer writes in the order of writing. So what it wrote on this socket
//!    before the pong has come.
//!
//! What answers pings in the server's place, as some gateways do, proves itself only. A peer that
//! answers none proves nothing: its streams go over with a gap.
//!
//! It costs nothing on a socket that is not being replaced, and no ping where messages align.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::context::Context;
use crate::config::Config;
use crate::transport::Frame;

/// How often to look whether a stream waits for a word.
const LOOK: Duration = Duration::from_millis(500);

const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// Pings that may be under way. The oldest is given up for another.
const MAX_ASKED: usize = 32;

#[derive(Debug)]
pub(super) struct Word {
    /// When pings were made that are not answered.
    asked: VecDeque<Instant>,
    /// When the latest was made of those that are.
    answered: Option<Instant>,
    look_due: Option<Instant>,
    /// When the socket opened.
    since: Instant,
}

impl Word {
    pub(super) fn new(now: Instant) -> Self {
        Self { asked: VecDeque::new(), answered: None, look_due: None, since: now }
    }

    /// The socket's streams are being handed over.
    pub(super) fn begin(&mut self, of: &Context, now: Instant) {
        self.look_due.get_or_insert(now + look(of));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.look_due
    }

    /// A ping, where a stream waits for a word. Looks again later for as long as there is a socket to
    /// go over to.
    pub(super) fn look(&mut self, of: &Context, now: Instant) -> Option<Frame> {
        self.look_due.take_if(|due| *due <= now)?;
        if !of.core.upgrade()?.has_successor(of.link.id) {
            self.asked.clear();
            return None;
        }
        self.look_due = Some(now + look(of));
        of.members.want_word().then(|| self.ask(now))
    }

    fn ask(&mut self, now: Instant) -> Frame {
        if self.asked.len() == MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back(now);
        Frame::Ping(self.payload(now))
    }

    /// No two pings of a socket are made at one time.
    fn payload(&self, at: Instant) -> Bytes {
        let since = at.saturating_duration_since(self.since).as_nanos();
        Bytes::copy_from_slice(&since.to_be_bytes())
    }

    /// A pong has come. It answers the pings before its own, too: a peer may leave those out.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        let is_its = |at: &Instant| self.payload(*at) == payload;
        if let Some(place) = self.asked.iter().position(is_its) {
            self.answered = self.asked.drain(..=place).next_back();
        }
    }

    /// When the ping was made that has been answered since the last call.
    pub(super) fn take(&mut self) -> Option<Instant> {
        self.answered.take()
    }
}

fn look(of: &Context) -> Duration {
    let Config { handover_timeout, heartbeat, .. } = &*of.tools.config;
    LOOK.min(heartbeat.interval).min(*handover_timeout / 8).max(SHORTEST_LOOK)
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use super::*;

    fn asks(word: &mut Word, at: Instant) -> Bytes {
        match word.ask(at) {
            Frame::Ping(payload) => payload,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pong_answers_the_ping_of_its_payload_and_those_before_it() {
        let start = Instant::now();
        let mut word = Word::new(start);
        let times = [1, 2, 3].map(|n| start + n * LOOK);
        let pings = times.map(|at| asks(&mut word, at));
        for other in [&b""[..], b"hello", &[0; 16], &[0; 8]] {
            word.pong(other);
            assert_eq!(word.take(), None, "{other:?} answers nothing");
        }
        word.pong(&pings[1]);
        assert_eq!(word.take(), Some(times[1]));
        assert_eq!(word.take(), None);
        word.pong(&pings[0]);
        word.pong(&pings[1]);
        assert_eq!(word.take(), None, "they are answered");
        word.pong(&pings[2]);
        assert_eq!(word.take(), Some(times[2]));
    }

    #[test]
    fn pings_that_nobody_answers_are_forgotten_in_time() {
        let start = Instant::now();
        let mut word = Word::new(start);
        let first = asks(&mut word, start);
        for n in 1..1000 {
            asks(&mut word, start + n * LOOK);
        }
        word.pong(&first);
        assert_eq!((word.take(), word.asked.len()), (None, MAX_ASKED));
    }
}
