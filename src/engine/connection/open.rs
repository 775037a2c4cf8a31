//! One open socket, from handshake to loss.
//!
//! Reading, writing and the clocks are polled side by side: a write that stalls stops nothing but
//! writes. What was read is published at once, and after a full budget the task gives way, so that
//! readers have their turn before the next batch.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{self, Instant, Sleep};

use super::context::Context;
use super::desk::{Desk, Said, Upshot};
use super::handover::{self, Replacement};
use super::home::Home;
use super::mask::Mask;
use super::members::GivenUp;
use super::outbox::Outbox;
use super::pulse::{Beat, Pulse};
use super::renewal::Renewal;
use super::vigil::Doubt;
use super::word::Word;
use crate::engine::defect::{Defect, seeded};
use crate::engine::moment::Moment;
use crate::engine::outgoing::Outgoing;
use crate::engine::registry::Link;
use crate::engine::request::Owed;
use crate::engine::tokens::{Issued, Tokens};
use crate::message::{Pack, message_of};
use crate::name::StreamName;
use crate::observe::{HandoverReason, Metrics};
use crate::protocol::{Cx, DisconnectReason, Request, Rotation, Session, Verdict};
use crate::transport::{BoxSocket, Control, Frame, Frames, Part, TransportError};

pub(super) struct Open {
    /// Deadline of the armed `timer`.
    pub(super) armed: Moment,
    pub(super) attempt: u32,
    /// Whether nothing was left to do but to read.
    pub(super) calm: bool,
    /// Whether the session knows that the socket is open.
    greeted: bool,
    /// Where there are several bases.
    home: Option<Box<Home>>,
    /// Names that the URL joins, until the session is ready.
    pub(super) joins: Box<[StreamName]>,
    /// How long replies are waited for, once the socket carries nothing any more.
    pub(super) leaves_at: Option<Moment>,
    /// The time, as of this turn or of what was read in it.
    pub(super) now: Instant,
    opened_at: Moment,
    pub(super) outbox: Outbox,
    /// Requests that this socket was handed and that have no reply yet.
    pub(super) owed: Owed<Arc<Outgoing>>,
    /// Hides what was sent to the server in what it says.
    mask: Mask,
    pulse: Pulse,
    pub(super) ready: bool,
    pub(super) renewal: Renewal,
    replacement: Replacement,
    pub(super) said: Said,
    pub(super) session: Box<dyn Session>,
    pub(super) socket: BoxSocket,
    pub(super) timer: Pin<Box<Sleep>>,
    /// Once another socket is to take over.
    pub(super) word: Option<Box<Word>>,
    _counted: OpenSocket,
}

/// Why a socket is not used any more.
pub(super) enum Ended {
    Lost {
        error: TransportError,
        /// Whether a close handshake makes sense.
        close: bool,
    },
    Unwanted,
}

pub(super) type Poised = Result<(), Ended>;

/// The shortest time between two ticks of a session.
const TICK: Duration = Duration::from_millis(1);

impl Open {
    pub(super) fn new(
        socket: BoxSocket,
        session: Box<dyn Session>,
        request: &Request,
        (attempt, base): (u32, u16),
        used: Option<(Tokens, Issued)>,
        of: &mut Context,
    ) -> Self {
        let now = Instant::now();
        let mask = Mask::of(request, used.as_ref().map(|(_, issued)| issued.secret()));
        Self {
            armed: now.into(),
            owed: Owed::default(),
            attempt,
            calm: false,
            greeted: false,
            home: Home::of(base, of, now),
            joins: request.joins().into(),
            leaves_at: None,
            now,
            opened_at: now.into(),
            outbox: Outbox::new(of.limits().messages),
            mask,
            pulse: Pulse::new(now, (of.tools.wall)(), Arc::clone(&of.tools.sleeps)),
            ready: false,
            renewal: Renewal::new(used, &mut of.random),
            replacement: Replacement::new(of, now),
            said: Said::default(),
            session,
            socket,
            timer: Box::pin(time::sleep_until(now)),
            word: None,
            _counted: OpenSocket(Arc::clone(&of.tools.metrics)),
        }
    }

    /// Serves the socket until it is lost or no longer wanted.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>, of: &mut Context) -> Poll<Ended> {
        let advanced = self.advance(cx, of);
        handover::tell_moved(of);
        match advanced {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.opened_at.at().elapsed()
    }

    /// How long the socket was of use: a server that accepts and never confirms is not stable.
    pub(super) fn joined_for(&self) -> Duration {
        self.said.joined_at.map(|at| at.at().elapsed()).unwrap_or_default()
    }

    pub(super) fn was_joined(&self) -> bool {
        self.said.joined_at.is_some()
    }

    /// Whether its base has been told that it was stable.
    pub(super) fn has_vouched(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.has_vouched())
    }

    /// The token that the socket last used.
    pub(super) fn issued(&self) -> Option<Issued> {
        self.renewal.issued().cloned()
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.pulse.heard_at()
    }

    pub(super) fn into_socket(self) -> Option<BoxSocket> {
        // A stalled write would stall the close frame as well.
        self.outbox.stalled_since().is_none().then_some(self.socket)
    }

    /// Does all that can be done now. Changes come first, since they are rare and must not wait
    /// behind a busy socket. Clocks come after what they would blame on the peer: if nobody had the
    /// time to read or write, that is ours.
    fn advance(&mut self, cx: &mut task::Context<'_>, of: &mut Context) -> Poised {
        self.now = Instant::now();
        if !std::mem::replace(&mut self.greeted, true) {
            self.speak(of, |session, cx| session.open(cx))?;
        }
        if of.link.signal.poll_take(cx).is_ready() {
            self.calm = false;
            self.cancel_forsaken(of)?;
            self.reconcile(of)?;
            self.renewal.look();
            cx.waker().wake_by_ref(); // The next news are for the next turn.
        }
        let reads =
            self.outbox.stalled_since().is_none() || !seeded(Defect::StalledWriteStopsReading);
        if reads && self.read(cx, of)? {
            give_way(cx); // There may be more; readers go first.
        }
        if self.is_calm(cx, of) {
            return Ok(());
        }
        self.check_clocks(of)?;
        self.renew(of, cx)?;
        self.ask(of, cx)?; // What was read may have made the session ready.
        of.members.publish(self.now);
        self.write(cx, of)?;
        if self.has_to_ask(of) {
            give_way(cx); // There is room again.
        }
        let write_due = self.outbox.stalled_since().map(|at| at + of.tools.config.write_timeout);
        if self.outbox.is_overfull() || write_due.is_some_and(|due| due <= self.now) {
            return Err(dead(DisconnectReason::WriteTimeout));
        }
        if self.leaves_at.is_some_and(|at| self.owed.is_empty() || at.at() <= self.now) {
            return Err(Ended::Unwanted);
        }
        self.arm(of, cx);
        self.settle(of);
        Ok(())
    }

    /// Tells the session of the requests that nobody waits for any more.
    fn cancel_forsaken(&mut self, of: &mut Context) -> Poised {
        for id in self.owed.take_forsaken() {
            self.speak(of, |session, cx| session.cancel(id, cx))?;
        }
        Ok(())
    }

    /// Reads what is there, up to the budget, and publishes it. Returns whether there may be more.
    fn read(&mut self, cx: &mut task::Context<'_>, of: &mut Context) -> Result<bool, Ended> {
        let (messages, bytes) = of.members.budget();
        let mut frames = Frames::with_budget(messages, bytes);
        let mut before = 0;
        let polled = loop {
            match self.socket.poll_read(cx, &mut frames) {
                // Only a socket that is pending wakes us: one that has read may have more to say.
                Poll::Ready(Ok(())) if frames.is_drained() => break Poll::Pending,
                Poll::Ready(Ok(())) if !frames.is_full() && frames.len() > before => {
                    before = frames.len();
                }
                polled => break polled,
            }
        };
        let may_be_more = polled.is_ready();
        let handled = self.handle(&mut frames, of);
        of.members.publish(self.now);
        if let Some(asked_at) = self.word.as_mut().and_then(|word| word.take()) {
            of.members.answered(asked_at, self.now); // Behind all that came before it.
        }
        handled?;
        match polled {
            Poll::Ready(Err(error)) => Err(lost(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(may_be_more),
        }
    }

    fn handle(&mut self, frames: &mut Frames, of: &mut Context) -> Poised {
        if frames.is_empty() {
            return Ok(());
        }
        self.now = Instant::now();
        self.pulse.heard(self.now);
        let relays = self.ready && self.session.relays();
        for part in frames.drain_parts() {
            match part {
                Part::Messages(messages) if messages.is_empty() => {}
                Part::Messages(mut messages) => {
                    messages.fit();
                    if relays {
                        of.members.relay(messages);
                    } else {
                        self.calm = false;
                        self.receive(messages, of)?;
                    }
                }
                Part::Control(control) => {
                    self.calm = false;
                    self.hear(control)?;
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, control: Control) -> Poised {
        match control {
            Control::Close(close) => {
                let (code, reason) = close.map_or((None, "".into()), |(c, r)| (Some(c), r));
                let reason = self.mask.apply_to(DisconnectReason::closed(code, &reason));
                return Err(Ended::Lost { error: TransportError::new(reason), close: true });
            }
            // The socket has answered it; the answer is to leave the house in time.
            Control::Ping(_) => self.outbox.ponged(self.now),
            Control::Pong(payload) => self.word.iter_mut().for_each(|word| word.pong(&payload)),
        }
        Ok(())
    }

    fn receive(&mut self, messages: Pack, of: &mut Context) -> Poised {
        let count = messages.len();
        let messages = Arc::new(messages);
        (0..count).try_for_each(|index| {
            let message = message_of(&messages, index);
            self.speak(of, |session, cx| session.receive(&message, cx))
        })
    }

    /// Lets the session speak, and acts upon what it said.
    pub(super) fn speak(
        &mut self,
        of: &mut Context,
        speak: impl FnOnce(&mut dyn Session, &mut Cx<'_>),
    ) -> Poised {
        let mut desk = Desk {
            owed: &mut self.owed,
            attempt: self.attempt,
            mask: &self.mask,
            members: &mut of.members,
            metrics: &of.tools.metrics,
            now: self.now,
            outbox: &mut self.outbox,
            said: &mut self.said,
        };
        let mut cx =
            Cx::new(self.now, of.tools.wall, &mut of.random, self.renewal.token(), &mut desk);
        speak(&mut *self.session, &mut cx);
        if self.said.ready && !self.ready {
            self.ready = true;
            self.joined_by_url(of);
        }
        match self.said.upshot.take() {
            Some(upshot) => self.act(*upshot, of),
            None => Ok(()),
        }
    }

    /// Acts upon what is rarely said.
    fn act(&mut self, upshot: Upshot, of: &mut Context) -> Poised {
        let Upshot { failed, over, overrun, reconnect_within } = upshot;
        self.end_streams(over, of);
        if let Some(within) = reconnect_within {
            self.replacement.hurry(within, of, self.now);
        }
        for id in overrun {
            self.speak(of, |session, cx| session.cancel(id, cx))?;
        }
        match failed {
            Some(failed) => Err(self.given_up(failed, of)),
            None => Ok(()),
        }
    }

    /// Streams are over on this socket. One that is another's until this one takes over stays there.
    fn end_streams(&self, over: impl IntoIterator<Item = GivenUp>, of: &Context) {
        let (core, id) = (of.core.upgrade(), of.link.id);
        for (topic, reason) in over {
            let Some(core) = &core else { continue };
            if topic.is_next(id) {
                core.stays(&topic, id);
            } else {
                core.end_topic(&topic, reason);
            }
        }
    }

    fn given_up(&self, (verdict, why): (Verdict, String), of: &mut Context) -> Ended {
        of.overruled = Some(Box::new(verdict));
        let error = TransportError::new(DisconnectReason::Protocol).with_source(why);
        Ended::Lost { error, close: true }
    }

    /// Goes on with a fresh token once the old one is due.
    fn renew(&mut self, of: &mut Context, cx: &mut task::Context<'_>) -> Poised {
        let Poll::Ready(renewed) = self.renewal.poll(self.now, &mut of.random, cx) else {
            return Ok(());
        };
        let Link { id, lane, .. } = &of.link;
        if let Err(e) = renewed {
            tracing::warn!(connection = %id, ?lane, "the token stays, as no other could be had: {e}");
            return Ok(());
        }
        tracing::debug!(connection = %id, ?lane, "a fresh token has come");
        if let Some(token) = self.renewal.token() {
            self.mask.add_token(token);
        }
        let mut rotation = Rotation::Reconnect;
        self.speak(of, |session, cx| rotation = session.rotate(cx))?;
        if rotation == Rotation::Reconnect {
            self.replace(HandoverReason::Token, of);
        }
        Ok(())
    }

    /// Has another socket take over.
    pub(super) fn replace(&mut self, reason: HandoverReason, of: &mut Context) {
        self.replacement.begin(reason, of, self.now);
        self.prove(of);
    }

    /// Its streams go over to other sockets: its peer proves what it has brought.
    pub(super) fn prove(&mut self, of: &Context) {
        let word = self.word.get_or_insert_with(|| Box::new(Word::new(self.opened_at.at())));
        word.begin(of, self.now);
    }

    fn check_clocks(&mut self, of: &mut Context) -> Poised {
        let now = self.now;
        self.check_pulse(of)?;
        if !self.ready && self.opened_at.at() + of.tools.config.join_timeout <= now {
            return Err(silent(DisconnectReason::JoinTimeout));
        }
        if self.session.deadline().is_some_and(|deadline| deadline <= now) {
            self.speak(of, |session, cx| session.tick(cx))?;
        }
        if self.replacement.due().is_some_and(|due| due <= now) {
            self.replace(self.replacement.reason(), of);
        }
        if self.home.is_some() && self.is_to_go_home(of) {
            self.prove(of);
        }
        if let Some(ping) = self.word.as_mut().and_then(|word| word.look(of, now)) {
            self.outbox.push_first(ping);
        }
        of.members.review(now);
        self.check_members(of)
    }

    fn is_to_go_home(&mut self, of: &mut Context) -> bool {
        let (joined_for, now) = (self.joined_for(), self.now);
        self.home.as_mut().is_some_and(|home| home.look(joined_for, of, now))
    }

    /// What fails one name of several is that name's affair; else it is the socket's.
    fn check_members(&mut self, of: &mut Context) -> Poised {
        while let Some((key, reason)) = of.members.overdue(self.now) {
            if !of.members.has_others(key) {
                return Err(silent(reason));
            }
            self.end_streams(of.members.fail_and_leave(key, &reason, self.now), of);
        }
        Ok(())
    }

    fn check_pulse(&mut self, of: &Context) -> Poised {
        match self.pulse.check(self.now, of.tools.wall, self.armed.at(), &of.tools.config.heartbeat)
        {
            Beat::Dead => return Err(dead(DisconnectReason::HeartbeatTimeout)),
            Beat::Nothing => return Ok(()),
            Beat::Ping => {}
            Beat::Probe(doubt) => {
                let Link { id, lane, .. } = &of.link;
                tracing::info!(connection = %id, ?lane, "is the peer still there? {doubt}");
                if doubt == Doubt::Slept {
                    of.core.upgrade().iter().for_each(|core| core.rouse());
                }
            }
        }
        self.outbox.push_first(Frame::Ping(Bytes::new()));
        Ok(())
    }

    /// Arms the timer for the next deadline. It is not moved to a later one: most deadlines move on
    /// with each message, and a timer that fires early costs less than one that is moved each time.
    fn arm(&mut self, of: &Context, cx: &mut task::Context<'_>) {
        let ready_due = (!self.ready).then(|| self.opened_at.at() + of.tools.config.join_timeout);
        let write_due = self.outbox.stalled_since().map(|at| at + of.tools.config.write_timeout);
        // A session that never moves its deadline must not keep a core busy.
        let tick_due = self.session.deadline().map(|due| due.max(self.now + TICK));
        let home_due = self.home.as_ref().and_then(|home| home.due());
        let replace_due = self.replacement.due().into_iter().chain(home_due).min();
        let renewal_due = self.renewal.next_due();
        let (members_due, word_due) = (
            of.members.next_due(self.ready && self.outbox.takes_joins(self.now)),
            self.word.as_ref().and_then(|word| word.due()),
        );
        let room_due = self.outbox.room_due(self.now);
        let own = [ready_due, write_due, tick_due, self.leaves_at.map(Moment::at), room_due];
        let others = own.into_iter().chain([members_due, renewal_due, replace_due, word_due]);
        let pulse_due = self.pulse.next_check(self.now, &of.tools.config.heartbeat);
        let due = others.flatten().fold(pulse_due, Instant::min);
        let armed = self.armed.at();
        if armed <= self.now || due < armed {
            self.armed = due.into();
            self.timer.as_mut().reset(due);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

/// Has this task polled again once all others that are ready have had their turn. A mere wake-up
/// is no such thing: a current-thread runtime polls its main task only every so many others, and so
/// a reader there would lag behind a busy socket.
pub(super) fn give_way(cx: &mut task::Context<'_>) {
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
}

/// The socket itself reports its loss.
pub(super) fn lost(error: TransportError) -> Ended {
    Ended::Lost { error, close: false }
}

/// Nothing can be said to a peer that does not answer.
fn dead(reason: DisconnectReason) -> Ended {
    lost(TransportError::new(reason))
}

/// The peer lives, but the socket is of no use.
fn silent(reason: DisconnectReason) -> Ended {
    Ended::Lost { error: TransportError::new(reason), close: true }
}

/// Counts one open socket for as long as it is one.
struct OpenSocket(Arc<Metrics>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}
