//! The server: it numbers each name's messages, confirms, rejects and ends names, and fails as the
//! program says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use tokio::time::Instant;

use super::program::{Answer, Confirm, Loss, NAMES, Op, Wire};
use super::wire;
use super::world::{SockId, State, number};
use crate::message::Message;
use crate::observe::ConnectionId;
use crate::protocol::DisconnectReason;
use crate::transport::Frame;

/// How often a name has something to say that nobody hears, or whose faults are over.
const SLOW: Duration = Duration::from_millis(300);

/// What the server does in its own time.
pub(super) enum Event {
    Arrive(SockId, Frame),
    Closed(SockId),
    Confirm { sock: SockId, name: usize, join: u64 },
    Feed(usize),
    Lose(SockId, Loss),
    Unstall(SockId),
}

#[derive(Default)]
pub(super) struct Server {
    /// How the next dials are answered.
    answers: VecDeque<Answer>,
    confirms: BTreeMap<usize, VecDeque<Confirm>>,
    /// Whether the faults are over.
    healed: bool,
    /// Lanes for which another socket was asked for.
    pub(super) moving: BTreeSet<String>,
    /// The number of each name's next message.
    next: [u64; NAMES.len()],
    /// Each name's value, in a feed of quotes.
    quotes: [u32; NAMES.len()],
    rejects: BTreeSet<usize>,
}

/// One socket, as the network has it.
#[allow(clippy::struct_excessive_bools, reason = "each can be so whatever the others are")]
pub(super) struct Sock {
    /// The session's latest join of each name.
    pub(super) asked: BTreeMap<usize, u64>,
    /// Joined names that have brought something since.
    pub(super) begun: BTreeSet<usize>,
    pub(super) closed: bool,
    /// The connection it is of, once that is known.
    pub(super) connection: Option<ConnectionId>,
    pub(super) dialer: tokio::task::Id,
    pub(super) heard_at: Instant,
    /// What the client has heard to be joined, and when.
    pub(super) joined: BTreeMap<usize, Instant>,
    pub(super) joined_at: Option<Instant>,
    pub(super) lane: String,
    pub(super) latency: Duration,
    /// Whether the client has seen it end, or has given it up.
    pub(super) lost: bool,
    /// What is on its way to the client.
    pub(super) queue: VecDeque<(Instant, Parcel)>,
    pub(super) reader: Option<Waker>,
    /// What the server sends, by the join that asked for it.
    pub(super) serving: BTreeMap<usize, u64>,
    pub(super) server_gone: bool,
    /// Joins that the server knows of.
    pub(super) joins: BTreeMap<usize, u64>,
    pub(super) silent: bool,
    pub(super) stalled: bool,
    /// When the last that is on its way to the server arrives.
    pub(super) takes_until: Instant,
    /// Whether it has taken something since it stalled.
    pub(super) took_part: bool,
    pub(super) writer: Option<Waker>,
}

pub(super) enum Parcel {
    Fault(DisconnectReason),
    Frame(Frame),
}

impl State {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(sock, frame) => self.arrive(sock, frame),
            Event::Closed(sock) => self.change(sock, |sock| sock.closed = true),
            Event::Confirm { sock, name, join } => self.confirm(sock, name, join),
            Event::Feed(name) => {
                let is_heard = self.feed(name, self.program.sizes.1);
                let least = if is_heard && !self.server.healed { Duration::ZERO } else { SLOW };
                self.plan(self.program.periods[name].max(least), Event::Feed(name));
            }
            Event::Lose(sock, how) => self.lose(sock, how),
            Event::Unstall(sock) => self.change(sock, |sock| sock.stalled = false),
        }
    }

    /// What the server and the network do of a program.
    pub(super) fn fault(&mut self, op: &Op) {
        match op {
            Op::Burst { name, count } => (0..*count).for_each(|_| {
                self.feed(*name, 60);
            }),
            Op::Confirm { name, how } => {
                self.server.confirms.entry(*name).or_default().push_back(*how);
            }
            Op::Dials { answer, count } => {
                self.server.answers.extend(std::iter::repeat_n(*answer, *count));
            }
            Op::EndName { name } => self.end_name(*name),
            Op::Lose { name, how } => {
                for sock in self.socks_of(*name) {
                    self.lose(sock, *how);
                }
            }
            Op::Ping { name } => self.for_socks(*name, |state, sock| {
                state.send(sock, Frame::Ping(Bytes::new()));
            }),
            Op::Reject { name } => drop(self.server.rejects.insert(*name)),
            Op::Silence { name } => self.for_socks(*name, |state, sock| {
                state.change(sock, |sock| sock.silent = true);
            }),
            Op::Slow { name, latency } => {
                // Not for so long that no join could ever be confirmed: this fault is never over.
                let latency = (*latency).min(self.program.config.join_timeout * 2 / 5);
                self.for_socks(*name, |state, sock| {
                    state.change(sock, |sock| sock.latency = latency);
                });
            }
            Op::Stall { name, lasting } => self.for_socks(*name, |state, sock| {
                state.change(sock, |sock| (sock.stalled, sock.took_part) = (true, false));
                state.plan(*lasting, Event::Unstall(sock));
            }),
            _ => {}
        }
    }

    /// From now on the server does what is asked of it.
    pub(super) fn heal(&mut self) {
        let server = &mut self.server;
        server.answers.clear();
        server.confirms.clear();
        server.rejects.clear();
        server.healed = true;
    }

    /// The client was asked for another socket of `name`.
    pub(super) fn rotates(&mut self, name: usize) {
        self.server.moving.insert(wire::lane(self.program.wire, NAMES[name]).to_owned());
    }

    /// The client was asked to renew its credentials: whatever socket it has may be replaced.
    pub(super) fn all_rotate(&mut self) {
        (0..NAMES.len()).for_each(|name| self.rotates(name));
    }

    /// How the next dial is answered.
    pub(super) fn answer(&mut self) -> Answer {
        let polite = Answer::Accept(self.program.latency * 2);
        self.server.answers.pop_front().unwrap_or(polite)
    }

    /// The sockets that `name` could be on; all without a name.
    fn socks_of(&self, name: Option<usize>) -> Vec<SockId> {
        let lane = name.map(|name| wire::lane(self.program.wire, NAMES[name]));
        let is_on = |sock: &Sock| !sock.lost && lane.is_none_or(|lane| sock.lane == lane);
        self.socks.iter().filter(|(_, sock)| is_on(sock)).map(|(id, _)| *id).collect()
    }

    fn for_socks(&mut self, name: usize, each: impl Fn(&mut Self, SockId)) {
        self.socks_of(Some(name)).into_iter().for_each(|sock| each(self, sock));
    }

    /// Changes a socket, and has both of its ends looked at again.
    fn change(&mut self, sock: SockId, change: impl FnOnce(&mut Sock)) {
        let Some(sock) = self.socks.get_mut(&sock) else { return };
        change(sock);
        [sock.reader.take(), sock.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }

    /// A name's next message goes to all who are served.
    /// Returns whether anybody is.
    fn feed(&mut self, name: usize, largest: usize) -> bool {
        let number = self.server.next[name];
        self.server.next[name] += 1;
        let least = self.program.sizes.0;
        let size = self.chance.random_range(least..=largest.max(least));
        let live = self.socks.iter().filter(|(_, sock)| !sock.lost);
        let served = live.filter_map(|(id, sock)| Some((*id, *sock.serving.get(&name)?)));
        let served: Vec<_> = served.collect();
        if self.program.quotes {
            self.quote(name, number, &served);
            return !served.is_empty();
        }
        for (sock, join) in &served {
            let text = wire::data(self.program.wire, name, *join, number, size);
            self.send(*sock, Frame::Data(text.into()));
        }
        !served.is_empty()
    }

    /// The same where messages are values that stay for a while, and come again.
    fn quote(&mut self, name: usize, number: u64, served: &[(SockId, u64)]) {
        if self.chance.random_range(0..3) > 0 {
            self.server.quotes[name] = self.chance.random_range(0..12);
        }
        // Told apart by where they are in memory, so none that is copied on the way.
        let quote = Message::binary(self.server.quotes[name].to_string());
        self.sends(&quote, number);
        for (sock, _) in served {
            self.send(*sock, Frame::Data(quote.clone()));
        }
    }

    fn send(&mut self, sock: SockId, frame: Frame) {
        self.post(sock, Parcel::Frame(frame));
    }

    /// Puts something on its way to the client. Nothing overtakes.
    fn post(&mut self, sock: SockId, parcel: Parcel) {
        self.change(sock, |sock| {
            if sock.silent || sock.server_gone {
                return;
            }
            let due = Instant::now() + sock.latency;
            let last = sock.queue.back().map(|(due, _)| *due);
            sock.queue.push_back((last.map_or(due, |last| last.max(due)), parcel));
        });
    }

    fn lose(&mut self, sock: SockId, how: Loss) {
        self.note(|| format!("server: sock {sock} is to end by {how:?}"));
        let fault = |reason| Parcel::Fault(reason);
        match how {
            Loss::Close(code) => {
                self.send(sock, Frame::Close(Some((code, "".into()))));
                self.post(sock, fault(DisconnectReason::Ended));
            }
            Loss::Fin => self.post(sock, fault(DisconnectReason::Ended)),
            Loss::Reset => {
                self.change(sock, |sock| {
                    if !sock.silent {
                        sock.queue.clear();
                        sock.latency = Duration::ZERO;
                    }
                });
                self.post(sock, fault(DisconnectReason::Io(ErrorKind::ConnectionReset)));
            }
            Loss::TooLarge => self.post(sock, fault(DisconnectReason::MessageTooLarge)),
            Loss::Violation => self.post(sock, fault(DisconnectReason::ProtocolViolation)),
        }
        self.change(sock, |sock| sock.server_gone = true);
    }

    fn end_name(&mut self, name: usize) {
        if self.program.wire == Wire::Direct {
            return; // There is no way to say so.
        }
        self.for_socks(name, |state, id| {
            let Some(sock) = state.socks.get_mut(&id) else { return };
            sock.serving.remove(&name);
            if let Some(join) = sock.joins.remove(&name) {
                state.send(id, Frame::Data(wire::ended(name, join).into()));
            }
        });
    }

    /// Something of the client's has come to the server.
    fn arrive(&mut self, id: SockId, frame: Frame) {
        let is_deaf = |sock: &Sock| sock.silent || sock.server_gone;
        let is_heard = !self.socks.get(&id).is_none_or(is_deaf);
        if let Some((_, letter)) = wire::letter_in(&frame) {
            let arrived = self.oracle.arrives(letter, id, is_heard);
            self.check(arrived);
        }
        if !is_heard {
            return;
        }
        match frame {
            Frame::Data(Message::Text(text)) => {
                if let Some((name, join)) = text.strip_prefix('+').and_then(parse) {
                    self.asked_to_join(id, name, join);
                } else if let Some((name, join)) = text.strip_prefix('-').and_then(parse) {
                    self.change(id, |sock| {
                        if sock.joins.get(&name) == Some(&join) {
                            sock.joins.remove(&name);
                            sock.serving.remove(&name);
                        }
                    });
                }
            }
            Frame::Ping(payload) => self.send(id, Frame::Pong(payload)),
            _ => {}
        }
    }

    fn asked_to_join(&mut self, sock: SockId, name: usize, join: u64) {
        if self.server.rejects.remove(&name) {
            self.send(sock, Frame::Data(wire::rejected(name, join).into()));
            return;
        }
        let eager = self.program.eager;
        self.change(sock, |sock| {
            sock.joins.insert(name, join);
            if eager {
                sock.serving.insert(name, join);
            }
        });
        let confirm = Event::Confirm { sock, name, join };
        match self.server.confirms.get_mut(&name).and_then(VecDeque::pop_front) {
            None => self.confirm(sock, name, join),
            Some(Confirm::Late(delay)) => self.plan(delay, confirm),
            Some(Confirm::Never) => {}
            Some(Confirm::Twice) => {
                self.confirm(sock, name, join);
                self.plan(Duration::from_millis(30), confirm);
            }
        }
    }

    fn confirm(&mut self, id: SockId, name: usize, join: u64) {
        let Some(sock) = self.socks.get_mut(&id) else { return };
        if sock.joins.get(&name) == Some(&join) {
            sock.serving.insert(name, join);
            self.send(id, Frame::Data(wire::joined(name, join).into()));
        }
    }
}

/// A name and the number of a join.
pub(super) fn parse(text: &str) -> Option<(usize, u64)> {
    let (name, join) = text.split_once('#')?;
    Some((number(name)?, join.parse().ok()?))
}
