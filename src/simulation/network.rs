//! The network: dials, and sockets that bring frames late, in order, or not at all.
//!
//! Here is where the oracle listens: a message counts as delivered when the client takes it off its
//! socket, and a socket as lost when the client sees its end or gives it up.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::{self, Instant, Sleep};

use super::oracle::Cause;
use super::program::{Answer, Loss, NAMES};
use super::server::{Event, Parcel, Sock};
use super::wire;
use super::world::{SockId, State, World};
use crate::protocol::{DisconnectReason, Request, Response};
use crate::transport::{Frame, Frames, Socket, Transport, TransportError};

pub(super) struct Network(pub(super) World);

impl Transport for Network {
    type Socket = NetSocket;

    async fn connect(&self, request: &Request) -> Result<(NetSocket, Response), TransportError> {
        let (lane, attempt, names) = wire::asked(request);
        let task = tokio::task::id();
        let answer = {
            let mut state = self.0.lock();
            state.oracle.in_flight.push(lane.clone());
            state.note(|| format!("client: attempt {attempt} at {lane}"));
            let one_each = state.one_socket_each(&lane);
            state.check(one_each);
            let names = if state.program.rotates { state.names_of(&lane) } else { names };
            let dialled = state.oracle.dialled(task, attempt, &names);
            state.check(dialled);
            state.answer()
        };
        let dial = Dial { lane, start: Instant::now(), task, world: &self.0, settled: false };
        match answer {
            Answer::Accept(delay) => {
                time::sleep(delay).await;
                Ok(dial.accept(None))
            }
            Answer::Flap(how) => Ok(dial.accept(Some(how))),
            Answer::Hang => std::future::pending().await,
            Answer::Http(status, wait) => {
                let wait = wait.map(|wait| (RETRY_AFTER, HeaderValue::from(wait)));
                let headers: HeaderMap = wait.into_iter().collect();
                Err(dial.refuse(TransportError::refused(Response::new(status, headers))))
            }
            Answer::Refuse => {
                let refused = DisconnectReason::Io(ErrorKind::ConnectionRefused);
                Err(dial.refuse(TransportError::new(refused)))
            }
        }
    }
}

/// A dial in flight.
struct Dial<'a> {
    lane: String,
    settled: bool,
    start: Instant,
    task: tokio::task::Id,
    world: &'a World,
}

impl Dial<'_> {
    fn accept(mut self, then: Option<Loss>) -> (NetSocket, Response) {
        self.settled = true;
        let id = self.world.lock().opens(self.task, &self.lane, then);
        let socket = NetSocket { buffered: Vec::new(), id, sleep: None, world: self.world.clone() };
        (socket, wire::accepted(id))
    }

    fn refuse(mut self, error: TransportError) -> TransportError {
        self.settled = true;
        self.fails(&Cause::of(&error));
        error
    }

    fn fails(&self, cause: &Cause) {
        let mut state = self.world.lock();
        state.note(|| format!("client: sees its dial at {} fail: {cause:?}", self.lane));
        state.oracle.failed(self.task, cause, None);
    }
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        let timeout = {
            let mut state = self.world.lock();
            let place = state.oracle.in_flight.iter().position(|lane| *lane == self.lane);
            state.oracle.in_flight.swap_remove(place.unwrap());
            state.program.config.connect_timeout
        };
        if !self.settled && self.start.elapsed() >= timeout {
            self.fails(&Cause::Timeout("connect_timeout"));
        }
    }
}

/// The client's end of a socket.
pub(super) struct NetSocket {
    buffered: Vec<Frame>,
    id: SockId,
    sleep: Option<Pin<Box<Sleep>>>,
    world: World,
}

impl Socket for NetSocket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
    ) -> Poll<Result<(), TransportError>> {
        let before = frames.len();
        let mut state = self.world.lock();
        let next = loop {
            if frames.is_full() {
                return Poll::Ready(Ok(()));
            }
            match state.next_parcel(self.id, frames.len() > before) {
                Ok(Parcel::Frame(frame)) => {
                    if let Some(answer) = state.delivers(self.id, &frame) {
                        self.buffered.push(answer);
                    }
                    let is_last = matches!(frame, Frame::Close(_));
                    frames.push(frame);
                    if is_last {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(Parcel::Fault(reason)) => {
                    let error = TransportError::new(reason);
                    state.loses(self.id, &Cause::of(&error));
                    return Poll::Ready(Err(error));
                }
                Err(due) => break due,
            }
        };
        if frames.len() > before {
            return Poll::Ready(Ok(()));
        }
        if let Some(sock) = state.socks.get_mut(&self.id) {
            sock.reader = Some(cx.waker().clone());
        }
        drop(state);
        self.sleep = next.map(|due| Box::pin(time::sleep_until(due)));
        if self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), TransportError> {
        let mut state = self.world.lock();
        if let Some((name, letter)) = wire::letter_in(&frame) {
            let handed = state.hands_over(self.id, name, letter);
            state.check(handed);
        }
        self.buffered.push(frame);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut state = self.world.lock();
        let Some(sock) = state.socks.get_mut(&self.id) else { return Poll::Ready(Ok(())) };
        let is_stalled = sock.stalled && !self.buffered.is_empty();
        if is_stalled {
            sock.writer = Some(cx.waker().clone());
        }
        // Room for one frame is left, where it matters how much of what waits has gone.
        let takes_part = is_stalled && !std::mem::replace(&mut sock.took_part, true);
        let most = match is_stalled {
            true => usize::from(takes_part && state.program.sends),
            false => usize::MAX,
        };
        for frame in self.buffered.drain(..most.min(self.buffered.len())) {
            state.carries(self.id, frame);
        }
        if self.buffered.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut state = self.world.lock();
        state.loses(self.id, &Cause::GivenUp);
        let Some(sock) = state.socks.get_mut(&self.id) else { return Poll::Ready(Ok(())) };
        if sock.closed || sock.server_gone {
            return Poll::Ready(Ok(()));
        }
        let (is_first, is_deaf) = (sock.writer.is_none(), sock.silent || sock.stalled);
        sock.writer = Some(cx.waker().clone());
        let there_and_back = sock.latency * 2;
        if is_first && !is_deaf {
            state.plan(there_and_back, Event::Closed(self.id));
        }
        Poll::Pending
    }
}

impl Drop for NetSocket {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        state.loses(self.id, &Cause::GivenUp);
        state.socks.remove(&self.id);
        state.note(|| format!("client: has dropped sock {}", self.id));
    }
}

impl State {
    fn names_of(&self, lane: &str) -> Vec<usize> {
        let wire = self.program.wire;
        (0..NAMES.len()).filter(|name| wire::lane(wire, NAMES[*name]) == lane).collect()
    }

    /// A lane has at most one socket, dials included; one that the client drops is none.
    /// While names move there is one more, and older ones may still be closing.
    fn one_socket_each(&mut self, lane: &str) -> Result<(), String> {
        let is_moving = self.program.rotates
            && (self.program.config.max_age.is_some()
                || self.program.tokens.is_some() // Refused elsewhere, it is replaced here too.
                || self.server.moving.contains(lane));
        let names = self.names_of(lane).into_iter().filter(|_| is_moving);
        names.for_each(|name| self.oracle.moves(name));
        let dials = self.oracle.in_flight.iter().filter(|other| *other == lane).count();
        let counts = |sock: &&Sock| sock.lane == lane && !(is_moving && sock.lost);
        let open = self.socks.values().filter(counts).count();
        if dials + open > 1 + usize::from(is_moving) {
            return Err(format!("lane {lane} has {open} sockets and {dials} dials at once"));
        }
        Ok(())
    }

    fn opens(&mut self, dialer: tokio::task::Id, lane: &str, then: Option<Loss>) -> SockId {
        self.next_sock += 1;
        let (id, now) = (self.next_sock, Instant::now());
        let direct = super::world::number(lane);
        let sock = Sock {
            asked: direct.map(|name| (name, 0)).into_iter().collect(),
            begun: [].into(),
            closed: false,
            connection: self.oracle.connection_of(dialer),
            dialer,
            heard_at: now,
            joined: direct.map(|name| (name, now)).into_iter().collect(),
            joined_at: direct.map(|_| now),
            joins: direct.map(|name| (name, 0)).into_iter().collect(),
            lane: lane.to_owned(),
            latency: self.program.latency,
            lost: false,
            queue: [].into(),
            reader: None,
            server_gone: false,
            serving: direct.map(|name| (name, 0)).into_iter().collect(),
            silent: false,
            stalled: false,
            takes_until: now,
            took_part: false,
            writer: None,
        };
        self.note(|| format!("client: has sock {id} for {lane}"));
        if let Some(name) = direct {
            self.oracle.joined(name, id, sock.connection);
        }
        self.socks.insert(id, sock);
        if let Some(how) = then {
            self.plan(Duration::ZERO, Event::Lose(id, how));
        }
        id
    }

    /// The client hands a message of the program's own to socket `id`.
    fn hands_over(&mut self, id: SockId, name: usize, letter: usize) -> Result<(), String> {
        self.note(|| format!("client: writes letter {letter} of {name} to sock {id}"));
        let lane = wire::lane(self.program.wire, NAMES[name]);
        if self.socks.get(&id).is_some_and(|sock| sock.lane != lane) {
            return Err(format!(
                "letter {letter} of {name} is written to another lane's sock {id}"
            ));
        }
        self.oracle.hands_over(letter, id)
    }

    /// A frame is on its way to the server. Nothing overtakes.
    fn carries(&mut self, id: SockId, frame: Frame) {
        let Some(sock) = self.socks.get_mut(&id) else { return };
        let now = Instant::now();
        sock.takes_until = sock.takes_until.max(now + sock.latency);
        let due = sock.takes_until - now;
        if let Some((_, letter)) = wire::letter_in(&frame) {
            self.oracle.takes(letter);
        }
        self.plan(due, Event::Arrive(id, frame));
    }

    /// What the client gets next, or when there may be something. A fault comes alone.
    fn next_parcel(&mut self, id: SockId, alone: bool) -> Result<Parcel, Option<Instant>> {
        let Some(sock) = self.socks.get_mut(&id) else { return Err(None) };
        match sock.queue.front() {
            Some((due, _)) if *due > Instant::now() => Err(Some(*due)),
            Some((_, Parcel::Fault(_))) if alone => Err(None),
            _ => sock.queue.pop_front().map(|(_, parcel)| parcel).ok_or(None),
        }
    }

    /// The client takes a frame off socket `id`. Returns what the socket itself answers.
    fn delivers(&mut self, id: SockId, frame: &Frame) -> Option<Frame> {
        let sock = self.socks.get_mut(&id)?;
        sock.heard_at = Instant::now();
        match frame {
            Frame::Ping(payload) => return Some(Frame::Pong(payload.clone())),
            Frame::Close(close) => {
                let code = close.as_ref().map(|(code, _)| *code);
                self.loses(id, &Cause::Close(code));
            }
            Frame::Data(message) => {
                let only = sock.joins.keys().next().copied().filter(|_| sock.lane.len() > 1);
                match only {
                    Some(name) => self.brings(id, name, self.number_of(message)?, message.len()),
                    None => {
                        self.says(id, wire::read(message.as_text()?)?, wire::payload(message).len())
                    }
                }
            }
            Frame::Pong(_) => {}
        }
        None
    }

    fn brings(&mut self, id: SockId, name: usize, number: u64, bytes: usize) {
        self.note(|| format!("sock {id} brings {name}:{number}"));
        let is_joined = |sock: &&mut Sock| sock.joined.contains_key(&name);
        let Some(sock) = self.socks.get_mut(&id).filter(is_joined) else {
            return; // Data before the confirmation is nobody's.
        };
        let is_first = sock.begun.insert(name);
        self.oracle.delivered(name, id, sock.connection, number, bytes, is_first);
    }

    fn says(&mut self, id: SockId, said: wire::Said, bytes: usize) {
        let Some(sock) = self.socks.get_mut(&id) else { return };
        let now = Instant::now();
        let is_latest = |sock: &Sock, name, join| sock.asked.get(&name) == Some(&join);
        match said {
            wire::Said::Data { name, join, number } if is_latest(sock, name, join) => {
                self.brings(id, name, number, bytes);
            }
            wire::Said::Joined { name, join } if is_latest(sock, name, join) => {
                if sock.joined.contains_key(&name) {
                    return; // Said twice.
                }
                sock.joined.insert(name, now);
                sock.begun.remove(&name);
                sock.joined_at.get_or_insert(now);
                let connection = sock.connection;
                self.note(|| format!("sock {id} confirms {name}"));
                self.oracle.joined(name, id, connection);
            }
            wire::Said::Rejected { name, join } if is_latest(sock, name, join) => {
                sock.asked.remove(&name);
                let connection = sock.connection;
                self.note(|| format!("sock {id} rejects {name}"));
                self.oracle.rejected(name, connection);
            }
            wire::Said::Ended { name, join } if is_latest(sock, name, join) => {
                sock.asked.remove(&name);
                let (joined_at, connection) = (sock.joined.remove(&name), sock.connection);
                self.note(|| format!("sock {id} ends {name}"));
                self.oracle.failed_alone(name, connection, joined_at, "stream_ended");
            }
            _ => {}
        }
    }

    /// A session joins `name`.
    pub(super) fn asks(&mut self, id: SockId, name: usize, join: u64) {
        self.note(|| format!("client: joins {name} as #{join} on sock {id}"));
        let Some(sock) = self.socks.get_mut(&id) else { return };
        sock.asked.insert(name, join);
    }

    /// A session leaves `name`.
    pub(super) fn leaves(&mut self, id: SockId, name: usize) {
        self.note(|| format!("client: leaves {name} on sock {id}"));
        let Some(sock) = self.socks.get_mut(&id) else { return };
        sock.asked.remove(&name);
        let (joined_at, connection) = (sock.joined.remove(&name), sock.connection);
        // Somebody still wants it: the client has given up on this join alone.
        let why = if joined_at.is_some() { "data_timeout" } else { "join_timeout" };
        self.oracle.failed_alone(name, connection, joined_at, why);
    }

    /// The client sees the end of socket `id`, or gives it up.
    fn loses(&mut self, id: SockId, cause: &Cause) {
        let Some(sock) = self.socks.get_mut(&id).filter(|sock| !sock.lost) else { return };
        sock.lost = true;
        let joined = std::mem::take(&mut sock.joined);
        let joined_for = sock.joined_at.map(|at| at.elapsed()).unwrap_or_default();
        let (dialer, connection, heard_at) = (sock.dialer, sock.connection, sock.heard_at);
        self.note(|| format!("client: loses sock {id}: {cause:?}"));
        for (name, joined_at) in joined {
            self.oracle.broken_off(name, connection, joined_at, heard_at, cause);
        }
        self.oracle.failed(dialer, cause, Some(joined_for));
    }
}
