//! One connection: one task, and one socket at a time.
//!
//! ```text
//!             slot            ok                 lost
//! Waiting ──────▶ Connecting ────▶ Open ───────────────────┐
//!                   ▲  │ failed                            ▼
//!                   │  └───────────────────────────▶ BackingOff ──▶ (gives up)
//!                   └──────────────── waited ──────────────┘
//! ```
//!
//! Each state owns what exists only in that state: there is no socket but in `Open`, and one that
//! is being closed in `BackingOff`. The task ends when the registry has taken the connection out, in
//! whatever state that finds it, or when the policy gives up.

mod ask;
mod batch;
mod calm;
mod classify;
mod context;
mod desk;
mod handover;
mod home;
mod mask;
mod members;
mod open;
mod outbox;
mod pace;
mod pulse;
mod renewal;
pub(crate) mod task;
mod trust;
mod turn;
mod vigil;
mod word;
mod write;

use std::future::poll_fn;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::defect::{Defect, seeded};
use super::moment::Moment;
use super::neighbours::{Neighbours, Present};
use super::registry::Link;
use crate::config::{Backoff, Config};
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::observe::{Event, Status};
use crate::protocol::{Dial, DialError, DisconnectReason, Failure, Request, Response};
use crate::transport::{BoxSocket, DynTransport, TransportError, is_exhausted};

use classify::{Classifier, Judgement};
use context::Context;
use open::{Ended, Open};
use trust::{Then, Trust};

/// A connection over all its sockets.
struct Connection {
    backoff: Backoff,
    /// Which of the protocol's bases is dialled, or was last.
    base: u16,
    /// Whether a failure that is judged is its base's.
    blames_base: bool,
    classifier: Classifier,
    context: Context,
    /// Whether it is to be dialled and no other, until there was a socket.
    goes_home: bool,
    /// What the last failure asked the next dial to wait, whoever makes it.
    floor: Duration,
    /// Where the last socket led, or was to, for the log.
    host: Option<Box<str>>,
    /// Held while a socket is open, where other managers may have one to the same base.
    present: Option<Present>,
    /// What its streams were last told, if that is not that they are being joined: so it is for as
    /// long as a socket is open.
    status: Option<Box<Status>>,
    trust: Trust,
}

enum State {
    BackingOff(Box<Pause>),
    Connecting,
    Open(Box<Open>),
    Waiting,
}

impl State {
    /// Another dial follows after `delay`.
    fn after(delay: Duration) -> Self {
        Self::pause(delay, None)
    }

    fn pause(delay: Duration, closing: Option<BoxSocket>) -> Self {
        Self::BackingOff(Box::new(Pause { delay, closing }))
    }
}

/// The time between two sockets.
struct Pause {
    delay: Duration,
    closing: Option<BoxSocket>,
}

type Step = ControlFlow<CloseReason, State>;

impl Connection {
    /// Runs until nobody wants the connection or the policy gives up.
    async fn run(&mut self) -> CloseReason {
        let mut state = State::Waiting;
        loop {
            let step = match state {
                // Boxed: what is needed on the way to a socket takes no room beside an open one.
                State::BackingOff(pause) => Box::pin(self.back_off(*pause)).await,
                State::Connecting => Box::pin(self.connect()).await,
                State::Open(mut open) => {
                    let ended = poll_fn(|cx| open.poll(cx, &mut self.context)).await;
                    Box::pin(self.leave(open, ended)).await
                }
                State::Waiting => Box::pin(self.wait()).await,
            };
            state = match step {
                Continue(state) => state,
                Break(reason) => return reason,
            };
        }
    }

    /// Waits for older sockets of this lane to end, for a slot, and for what the lane has earned.
    async fn wait(&mut self) -> Step {
        self.announce(Status::Connecting { attempt: 1 });
        loop {
            if !self.absorb() {
                return Break(CloseReason::Unused);
            }
            if self.context.core.upgrade().is_some_and(|core| core.may_dial(self.context.link.id)) {
                break;
            }
            self.announce(Status::Waiting { position: None, until: None });
            poll_fn(|cx| self.context.link.signal.poll_take(cx)).await;
        }
        if let Some(until) = self.context.link.not_before.take().map(Moment::at) {
            self.announce(Status::Waiting { position: None, until: Some(until) });
            let wait = until.saturating_duration_since(Instant::now());
            tracing::info!(
                connection = %self.context.link.id, lane = ?self.context.link.lane,
                "the first attempt follows in {wait:.1?}: it waits out what a failure for good has earned",
            );
            tokio::select! {
                biased; // Not by chance: a seed decides what a run does.
                () = self.unwanted() => return Break(CloseReason::Unused),
                () = time::sleep_until(until) => {}
            }
        }
        Continue(State::Connecting)
    }

    async fn back_off(&mut self, Pause { delay, closing }: Pause) -> Step {
        let until = Instant::now() + delay;
        let close_timeout = self.context.tools.config.close_timeout;
        let closing = async {
            if let Some(socket) = closing {
                close(socket, close_timeout).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased; // The close frame is on its way before the next dial, however short the wait.
            () = self.unwanted() => Break(CloseReason::Unused),
            () = closing => Continue(State::Connecting),
            () = time::sleep_until(until) => Continue(State::Connecting),
        }
    }

    async fn connect(&mut self) -> Step {
        let (request, permit) = match self.turn().await {
            Continue(turn) => turn,
            Break(step) => return step,
        };
        let attempt = self.backoff.attempt();
        let dialled = {
            let (transport, config) =
                (Arc::clone(&self.context.tools.transport), &self.context.tools.config);
            let dialling = dial_once(transport, Arc::clone(config), &request);
            tokio::select! {
                biased;
                () = self.unwanted() => return Break(CloseReason::Unused),
                dialled = dialling => dialled,
            }
        };
        match dialled {
            Ok(opened) => Continue(self.open(opened, &request, attempt)),
            Err(e) if is_exhausted(&e) => {
                self.exhausted(e, &request, permit);
                Continue(State::Connecting)
            }
            // The permit is held until a pause of the host is known to whoever is next.
            Err(e) => {
                let host = request.url().origin();
                self.blames_base = true;
                self.retry(e, Some(&host), "cannot connect to").map_continue(State::after)
            }
        }
    }

    /// What is dialled.
    fn request(&self, names: &[StreamName], attempt: u32) -> Result<Request, DialError> {
        let (lane, token) = (&self.context.link.lane, self.trust.token());
        let base = usize::from(self.base);
        let dial = Dial { attempt, base, lane, names, response: None, token };
        let request = self.context.tools.protocol.request(&dial)?;
        Ok(self.trust.authorize(request, &self.context.tools.config)?)
    }

    fn open(&mut self, opened: Opened, request: &Request, attempt: u32) -> State {
        let Opened { handshake, response, socket } = opened;
        if seeded(Defect::OpeningResetsBackoff) {
            self.backoff.record_uptime(Duration::MAX);
        }
        let names = self.context.members.names();
        let dial = Dial {
            attempt,
            base: usize::from(self.base),
            lane: &self.context.link.lane,
            names: &names,
            response: Some(&response),
            token: self.trust.token(),
        };
        let session = self.context.tools.protocol.session(&dial);
        let Link { id, lane, .. } = &self.context.link;
        tracing::info!(connection = %id, ?lane, attempt, "connected");
        self.context.tools.events.push(|| Event::Connected {
            connection: *id,
            lane: lane.clone(),
            attempt,
            handshake,
        });
        self.context.tools.metrics.connected(handshake);
        if self.context.tools.transport.is_network() {
            let manager = Arc::as_ptr(&self.context.tools.metrics) as usize;
            self.present = Some(Neighbours::process_wide().enter(manager, request));
        }
        self.host = Some(request.url().origin().into());
        self.goes_home = false;
        self.tell_base();
        self.tell_open(true);
        self.announce(Status::Joining);
        let used = self.trust.in_use();
        let which = (attempt, self.base);
        State::Open(Box::new(Open::new(socket, session, request, which, used, &mut self.context)))
    }

    /// The socket is not used any more.
    async fn leave(&mut self, open: Box<Open>, ended: Ended) -> Step {
        let uptime = open.uptime();
        let was_stable = self.backoff.record_uptime(open.joined_for());
        if was_stable {
            self.classifier.forgive();
            if !open.has_vouched() {
                self.context.tools.bases.works(self.base, Instant::now());
            }
        }
        self.trust.used(open.issued(), open.was_joined(), was_stable);
        self.tell_open(false);
        self.present = None;
        let heard_at = open.heard_at();
        match ended {
            Ended::Lost { error, close } => {
                self.context.members.break_off(heard_at, error.reason(), Instant::now());
                handover::tell_moved(&mut self.context);
                self.lost(error.reason(), uptime);
                let closing = open.into_socket().filter(|_| close);
                let host = self.host.clone();
                self.blames_base = !was_stable;
                match self.retry(error, host.as_deref(), "lost") {
                    Continue(delay) => Continue(State::pause(delay, closing)),
                    Break(reason) => {
                        if let Some(socket) = closing {
                            part(socket).await;
                        }
                        Break(reason)
                    }
                }
            }
            Ended::Unwanted => {
                if let Some(socket) = open.into_socket() {
                    close(socket, self.context.tools.config.close_timeout).await;
                }
                Break(CloseReason::Unused)
            }
        }
    }

    fn lost(&self, reason: &DisconnectReason, uptime: Duration) {
        let Link { id, lane, .. } = &self.context.link;
        tracing::info!(connection = %id, ?lane, %reason, "disconnected");
        self.context.tools.metrics.lost(reason);
        self.context.tools.events.push(|| Event::Disconnected {
            connection: *id,
            lane: lane.clone(),
            reason: reason.clone(),
            uptime,
        });
    }

    /// What is to be done about a failure: wait so long and try again, or give up.
    fn retry(
        &mut self,
        error: TransportError,
        host: Option<&str>,
        failed: &str,
    ) -> ControlFlow<CloseReason, Duration> {
        let error = Arc::new(error);
        self.host = host.map(Into::into).or(self.host.take());
        self.context.members.failed(&error);
        let judged = self.judge(&error, host);
        let succeeds = self.succeeds();
        if self.gives_up_succeeding() {
            if succeeds {
                let host = host.unwrap_or("the server");
                tracing::warn!(
                    connection = %self.context.link.id, lane = ?self.context.link.lane, host,
                    reason = error.reason().label(),
                    "{failed} {host}: {}; the streams stay on their old socket",
                    error.in_full(),
                );
            }
            return Break(CloseReason::Unused); // Or nobody wants it any more.
        }
        self.goes_home = false; // It is needed, wherever it may be had.
        let next = match judged? {
            Then::Now => Some(Duration::ZERO),
            // After the floor, not at it: all who were told to wait so long would come at one moment.
            Then::Later => self.backoff.next().map(|delay| self.floor + delay),
        };
        match next {
            Some(delay) => {
                let attempt = self.backoff.attempt();
                tracing::warn!(
                    connection = %self.context.link.id, lane = ?self.context.link.lane, host,
                    reason = error.reason().label(),
                    "{failed} {}: {}; attempt {attempt} follows in {delay:.1?}",
                    host.unwrap_or(self.context.link.lane.as_str()), error.in_full(),
                );
                self.announce_retry(attempt, delay, error);
                Continue(delay)
            }
            None => {
                // What was due now is the last attempt that failed, retries included.
                let attempts = self.backoff.attempt();
                Break(CloseReason::RetriesExhausted { attempts, last: error })
            }
        }
    }

    /// Whether this connection is to take another's place.
    fn succeeds(&self) -> bool {
        self.context.core.upgrade().is_some_and(|core| core.succeeds(self.context.link.id))
    }

    /// If this connection was to take another's place, it fails without anybody having lost anything:
    /// the other one stays.
    fn gives_up_succeeding(&mut self) -> bool {
        let core = self.context.core.upgrade();
        core.iter().for_each(|core| core.give_up_succeeding(self.context.link.id));
        !self.absorb()
    }

    /// Whether another attempt makes sense, and how long it has to wait at least.
    fn judge(
        &mut self,
        error: &Arc<TransportError>,
        host: Option<&str>,
    ) -> ControlFlow<CloseReason, Then> {
        let failure = Failure::new(error.reason(), error.response());
        let context = &mut self.context;
        let overruled = context.overruled.take().map(|verdict| *verdict);
        let overruled = overruled.or_else(|| context.tools.protocol.classify(&failure));
        let longest = self.backoff.max_delay();
        self.floor = Duration::ZERO;
        match self.classifier.judge(&failure, overruled, longest, (context.tools.wall)()) {
            Judgement::Fatal if self.fails_over(Duration::ZERO) => Continue(Then::Later),
            Judgement::Fatal => Break(CloseReason::Fatal(Arc::clone(error))),
            Judgement::Unauthorized => match self.trust.refused() {
                Some(then) => Continue(then),
                None => Break(CloseReason::Unauthorized(Arc::clone(error))),
            },
            Judgement::Retry { floor, whole_host } => {
                if let (true, Some(host)) = (whole_host, host) {
                    self.context.tools.limiter.pause(host, floor);
                }
                // What the one server asks for does not keep the next one waiting.
                self.floor = if self.fails_over(floor) { Duration::ZERO } else { floor };
                Continue(Then::Later)
            }
        }
    }

    /// If the failure that is judged is its base's, that one is passed over from now on. Returns whether
    /// another may be dialled in its place.
    fn fails_over(&mut self, floor: Duration) -> bool {
        let (bases, now) = (&self.context.tools.bases, Instant::now());
        if !std::mem::take(&mut self.blames_base) {
            return false;
        }
        bases.failed(self.base, floor, now);
        bases.has_another(self.base, now)
    }

    fn announce_retry(&mut self, attempt: u32, delay: Duration, error: Arc<TransportError>) {
        let Link { id, lane, .. } = &self.context.link;
        self.context.tools.metrics.retrying();
        self.context.tools.events.push(|| Event::Retrying {
            connection: *id,
            lane: lane.clone(),
            attempt,
            delay,
            error: Arc::clone(&error),
        });
        self.announce(Status::BackingOff { attempt, delay, error });
    }

    /// The names that a socket is wanted for now; waits while all of them have yet to wait. `None`
    /// once the connection is not wanted.
    async fn wanted_now(&mut self) -> Option<Vec<StreamName>> {
        loop {
            let names = self.context.members.wanted(Instant::now());
            if !names.is_empty() {
                return Some(names);
            }
            let due = self.context.members.next_due(true);
            let news = poll_fn(|cx| self.context.link.signal.poll_take(cx));
            match due {
                Some(due) => drop(time::timeout_at(due, news).await),
                None => news.await,
            }
            if !self.absorb() {
                return None;
            }
        }
    }

    /// Resolves once the registry has taken the connection out. What changes until then is kept.
    async fn unwanted(&mut self) {
        while self.absorb() {
            poll_fn(|cx| self.context.link.signal.poll_take(cx)).await;
        }
    }

    /// Takes over what has changed, without a socket to say it on. Returns whether the connection is
    /// still wanted.
    fn absorb(&mut self) -> bool {
        let Some(changes) = self.context.changes() else { return false };
        let status = self.status.as_deref().unwrap_or(&Status::Joining);
        self.context.members.apply(changes.names, status);
        true
    }

    fn announce(&mut self, status: Status) {
        self.context.members.announce(&status);
        self.status = (!matches!(status, Status::Joining)).then(|| Box::new(status));
    }

    fn tell_base(&self) {
        let bases = &self.context.tools.bases;
        bases.opened(self.base);
        if let Some(core) = self.context.core.upgrade().filter(|_| bases.are_several()) {
            core.leads_to(self.context.link.id, self.base);
        }
    }

    fn tell_open(&self, is_open: bool) {
        if let Some(core) = self.context.core.upgrade() {
            core.opened(self.context.link.id, is_open);
        }
    }
}

/// A socket that has just opened.
struct Opened {
    handshake: Duration,
    response: Response,
    socket: BoxSocket,
}

/// Makes one attempt within its deadline.
async fn dial_once(
    transport: Arc<dyn DynTransport>,
    config: Arc<Config>,
    request: &Request,
) -> Result<Opened, TransportError> {
    let start = Instant::now();
    let connected = time::timeout(config.connect_timeout, transport.connect(request)).await;
    let timed_out = |_| {
        let e = TransportError::new(DisconnectReason::ConnectTimeout);
        Err(match transport.way(request) {
            Some(way) => e.with_source(way),
            None => e,
        })
    };
    connected.unwrap_or_else(timed_out).map(|(socket, response)| Opened {
        handshake: start.elapsed(),
        response,
        socket,
    })
}

/// Closes a socket in good form, or drops it at the deadline.
async fn close(mut socket: BoxSocket, within: Duration) {
    let closed = poll_fn(|cx| socket.poll_close(cx));
    let _ = time::timeout(within, closed).await;
}

/// Sends a close frame as far as that can be done at once: no reader is to wait for the answer.
async fn part(mut socket: BoxSocket) {
    poll_fn(|cx| {
        let _ = socket.poll_close(cx);
        Poll::Ready(())
    })
    .await;
}
