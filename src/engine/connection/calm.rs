//! Turns in which a socket has nothing to do but to read.
//!
//! On most turns of a busy socket, messages come and go to their streams, and whatever else a turn
//! looks at is as it was: nothing to write, nobody to ask, no clock that is due. Such a turn ends with
//! the messages, so that their readers have theirs at once.
//!
//! # Invariants
//!
//! 1. Whatever can need the rest of a turn ends the calm: a clock (the timer is armed for the first
//!    one), a change of what is wanted (the signal), a message to send (the post), and all that a
//!    session hears or says.
//! 2. While a socket is calm, each of these wakes its task: the post is asked in each turn, and the
//!    wakers of the others are those of the last whole turn, and stay.

use std::task::Context;

use super::context::Context as Of;
use super::open::Open;
use crate::engine::defect::{Defect, seeded};

impl Open {
    /// At the end of a whole turn: whether the next can be a short one.
    pub(super) fn settle(&mut self, of: &Of) {
        self.calm = self.ready
            && self.word.is_none()
            && self.leaves_at.is_none()
            && self.outbox.is_written()
            && !self.renewal.is_asking()
            && !self.has_to_ask(of);
    }

    /// Whether what has been read was all there is to do in this turn.
    pub(super) fn is_calm(&mut self, cx: &mut Context<'_>, of: &Of) -> bool {
        let is_due = self.armed.at() <= self.now || self.timer.is_elapsed();
        self.calm
            && (!is_due || seeded(Defect::CalmForgetsClocks))
            && (seeded(Defect::CalmForgetsPost) || of.members.post().poll_waiting(cx).is_pending())
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::engine::defect::with;
    use crate::protocol::Direct;
    use crate::test_util::memory;
    use crate::{Message, WsManager};

    /// How long a message takes to leave on a socket that has only read for a while; `None` for long.
    fn time_to_send(defect: Option<Defect>) -> Option<Duration> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let run = async {
            let (transport, mut server) = memory::pair();
            let direct = Direct::new("ws://calm/ws").unwrap();
            let manager = WsManager::builder(direct).transport(transport).build().unwrap();
            let mut messages = manager.subscribe::<Message>("name").unwrap();
            let mut peer = server.accept().await;
            messages.ready().await.unwrap();
            for _ in 0..3 {
                peer.send("read");
                messages.recv().await.unwrap().unwrap();
            }
            let asked = Instant::now();
            let sending = manager.send("name", "sent");
            let sent =
                timeout(Duration::from_secs(1), async { tokio::join!(sending, peer.recv()) });
            sent.await.ok().map(|_| asked.elapsed())
        };
        with(defect, || runtime.unwrap().block_on(run))
    }

    #[test]
    fn a_socket_that_only_reads_is_told_of_what_is_to_be_sent() {
        assert_eq!(time_to_send(None), Some(Duration::ZERO));
        assert_eq!(time_to_send(Some(Defect::CalmForgetsPost)), None);
    }
}
