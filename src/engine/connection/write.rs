//! What is written on an open socket, and when.
//!
//! A message of the program's own is taken from its stream at the last moment: when nothing stalls,
//! and in the same breath in which it is handed to the socket. Until then it can be withdrawn.

use std::sync::Arc;
use std::task::{self, Poll};

use super::context::Context;
use super::open::{Ended, Open, Poised, give_way, lost};
use super::outbox::BURST;
use crate::engine::outgoing::Taken;
use crate::engine::request::Answer;
use crate::error::SendError;

/// More than what a frame adds to its payload (RFC 6455 §5.2).
const FRAME: usize = 16;

impl Open {
    /// Writes what the kernel takes. After a burst of nothing but the program's own messages the
    /// others have their turn: programs that send all the time stop no reading.
    pub(super) fn write(&mut self, cx: &mut task::Context<'_>, of: &mut Context) -> Poised {
        let mut sent = false;
        while self.outbox.poll_flush(&mut self.socket, self.now, cx).map_err(lost)? {
            if sent && self.outbox.is_idle(self.now) {
                if of.members.post().poll_waiting(cx).is_ready() {
                    give_way(cx);
                }
                break;
            }
            self.outbox.hand_over(&mut self.socket, self.now).map_err(lost)?;
            sent |= self.send(cx, of)?;
            if !sent && self.outbox.is_idle(self.now) {
                break;
            }
        }
        if self.outbox.is_written() {
            of.members.joins_are_written(self.now + of.tools.config.join_timeout);
        }
        Ok(())
    }

    /// Hands over the program's own messages that fit into the burst. Returns whether there was any.
    fn send(&mut self, cx: &mut task::Context<'_>, of: &mut Context) -> Result<bool, Ended> {
        let mut any = false;
        for _ in 0..BURST {
            let Some(room) = self.outbox.room_for_letter(self.now) else { break };
            let Poll::Ready(Some(letter)) = of.members.post().poll_take(room, cx) else { break };
            any = true;
            if !self.send_one(letter, room, of)? {
                break;
            }
        }
        Ok(any)
    }

    /// Returns whether there was room for it. A letter that is dropped here, for want of room or since
    /// the session gave up, goes back to its place: nothing of it was written.
    fn send_one(&mut self, letter: Taken, room: usize, of: &mut Context) -> Result<bool, Ended> {
        let Some(message) = letter.message().cloned() else { return Ok(true) };
        let max = self.socket.max_send();
        if message.len() > max {
            letter.settle(Err(SendError::TooLarge { max }));
            return Ok(true);
        }
        if letter.answer().is_some() && self.owed.is_full() {
            letter.settle(Err(SendError::Full));
            return Ok(true);
        }
        let aside = self.outbox.set_aside();
        let mut supported = Ok(());
        let spoken = self.speak(of, |session, cx| match letter.answer() {
            Some(answer) => supported = session.request(answer.id, message, cx),
            None => session.send(letter.name(), message, cx),
        });
        let frames = self.outbox.resume(aside);
        spoken?;
        let bytes = frames.iter().map(|frame| FRAME + frame.len()).sum::<usize>();
        let answer = letter.answer().cloned();
        let takes = self.outbox.takes(&frames, self.now);
        if frames.is_empty() || supported.is_err() {
            letter.settle(Err(SendError::Refused));
        } else if takes.is_none() {
            letter.settle(Err(SendError::Refused));
            self.take_back(answer, of)?;
        } else if bytes > max.saturating_add(FRAME) {
            letter.settle(Err(SendError::TooLarge { max }));
            self.take_back(answer, of)?;
        } else if takes == Some(false) || bytes > room.saturating_add(FRAME * frames.len()) {
            self.take_back(answer, of)?;
            return Ok(false);
        } else {
            if let Some(answer) = answer {
                self.owed.add(answer, Arc::clone(letter.outgoing()), &of.link.signal);
            }
            let (socket, now) = (&mut self.socket, self.now);
            self.outbox.hand_over_letter(letter, frames, socket, now).map_err(lost)?;
        }
        Ok(true)
    }

    /// What the session was asked is not written now.
    fn take_back(&mut self, answer: Option<Arc<Answer>>, of: &mut Context) -> Poised {
        match answer {
            Some(answer) => self.speak(of, |session, cx| session.cancel(answer.id, cx)),
            None => Ok(()),
        }
    }
}
