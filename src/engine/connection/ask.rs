//! What the server is asked for on an open socket, and told to stop.
//!
//! The session is told at the last moment, when there is room for what it says: so what waits for
//! room is neither late nor in the way, and names that come and go while it waits cost nothing.
//! Leaves come first. A name that is left and wanted again is left before it is joined.

use std::task;

use super::context::Context;
use super::open::{Ended, Open, Poised};
use crate::name::StreamName;
use crate::observe::{HandoverReason, Status};

impl Open {
    /// Compares what is carried with what is wanted.
    pub(super) fn reconcile(&mut self, of: &mut Context) -> Poised {
        let Some(changes) = of.changes() else { return self.depart(of) };
        of.members.apply(changes.names, &Status::Joining);
        if changes.rotate {
            self.replace(HandoverReason::Asked, of);
        }
        if changes.parts {
            self.prove(of);
        }
        Ok(())
    }

    /// The session is ready: what the URL asked for is joined, or not wanted any more.
    pub(super) fn joined_by_url(&mut self, of: &mut Context) {
        let joins = std::mem::take(&mut self.joins);
        let (wanted, unwanted): (Vec<StreamName>, Vec<_>) =
            joins.into_vec().into_iter().partition(|name| of.members.carries(name));
        for name in &wanted {
            self.said.joined_at.get_or_insert(self.now.into());
            of.members.joined(name.as_str(), self.attempt, self.now);
        }
        unwanted.into_iter().for_each(|name| of.members.leave(name));
    }

    /// Whether there is something to ask for, and room for it.
    pub(super) fn has_to_ask(&self, of: &Context) -> bool {
        let wants = of.members.wants_leaves() || of.members.wants_joins(self.now);
        self.ready && wants && self.outbox.takes_joins(self.now)
    }

    /// Tells the server what to stop, and asks it for what is wanted, as far as it takes that now.
    pub(super) fn ask(&mut self, of: &mut Context, cx: &mut task::Context<'_>) -> Poised {
        let yields = self.ask_all(of, cx)?;
        self.outbox.set_yielding(yields);
        Ok(())
    }

    /// Returns whether a message of the program's own has the next place.
    fn ask_all(&mut self, of: &mut Context, cx: &mut task::Context<'_>) -> Result<bool, Ended> {
        while self.has_to_ask(of) {
            if self.outbox.owes_letter(self.now) && of.members.post().poll_waiting(cx).is_ready() {
                return Ok(true);
            }
            let left = of.members.start_leaving(of.batch());
            self.outbox.set_asking(true);
            let spoken = if left.is_empty() {
                let names = of.members.start_joining(of.batch(), self.now);
                self.speak(of, |session, cx| session.join(&names, cx))
            } else {
                self.speak(of, |session, cx| session.leave(&left, cx))
            };
            self.outbox.set_asking(false);
            spoken?;
        }
        Ok(false)
    }

    /// The socket carries nothing any more. It stays for the replies to what was asked on streams that
    /// have gone over to another.
    fn depart(&mut self, of: &Context) -> Poised {
        self.owed.give_up(|outgoing| outgoing.is_closed());
        if self.owed.is_empty() {
            return Err(Ended::Unwanted);
        }
        self.leaves_at.get_or_insert((self.now + of.tools.config.reply_timeout).into());
        Ok(())
    }
}
