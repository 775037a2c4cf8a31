//! What is said on one open socket, without I/O.
//!
//! A [`Session`] is told what happens and answers through [`Cx`]; it never waits. So it can be
//! driven by arithmetic on one [`Instant`], without a runtime: see [`Transcript`].

use std::fmt;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use super::{DisconnectReason, RequestId, Unsupported, Verdict};
use crate::config::Secret;
use crate::message::Message;
use crate::name::StreamName;

/// What is said on one open socket.
///
/// A name is *joined* from the moment its session says so ([`Cx::joined`]); data for a name that is
/// not joined reaches nobody. A session that answers nothing loses its socket at the deadlines for
/// [`ready`](Cx::ready) and [`joined`](Cx::joined).
pub trait Session: Send {
    /// The socket is open. Joins wait until the session has called [`Cx::ready`], which the default
    /// does at once; at [`Config::join_timeout`](crate::Config) the socket is given up.
    fn open(&mut self, cx: &mut Cx<'_>) {
        cx.ready();
    }

    /// Ask for `names`, and say [`Cx::joined`] for each once the server has confirmed it.
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>);

    /// Nobody listens to `names` any more.
    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>);

    /// Whether every message that comes is data for all names, as it is: then
    /// [`receive`](Self::receive) is not called once the session is ready, which saves the way through
    /// it. Default `false`.
    fn relays(&self) -> bool {
        false
    }

    /// A message came.
    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>);

    /// The program [sends](crate::WsManager::send) `message` on `name`, which is joined.
    ///
    /// Push it here and now, as it is (the default) or in the protocol's form: it counts as sent once
    /// all that this call pushes is written, and as [refused](crate::SendError::Refused) if that is
    /// nothing. It may be called again for the same message, as long as nothing of it was written.
    fn send(&mut self, name: &StreamName, message: Message, cx: &mut Cx<'_>) {
        let _ = name;
        cx.push(message);
    }

    /// The program [asks](crate::WsManager::request) the server `body`, on a name that is joined.
    ///
    /// Push it here and now, in the protocol's form, with an id from which [`receive`](Self::receive)
    /// can tell `id` again; then say [`Cx::reply`] or [`Cx::reply_failed`] as the server answers. A
    /// request for which nothing is pushed counts as not supported. As with [`send`](Self::send), it
    /// may be asked again while nothing of it was written; [`cancel`](Self::cancel) comes in between.
    ///
    /// # Errors
    ///
    /// When the protocol has no form for it, which is the default.
    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        let _ = (id, body, cx);
        Err(Unsupported)
    }

    /// Nobody waits for the reply to `id` any more. Where the server can be told to stop, tell it; in
    /// any case forget `id`. Does nothing by default: a reply to it is ignored.
    fn cancel(&mut self, id: RequestId, cx: &mut Cx<'_>) {
        let _ = (id, cx);
    }

    /// When [`tick`](Self::tick) is to be called. Asked after every other call. One that has passed
    /// and is not moved comes again after a millisecond.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// There is a fresh token, [`Cx::token`], and the one that the socket was opened with is not to
    /// be used any more. Where a server takes one on an open socket, send it and say
    /// [`Rotation::InPlace`]. A refusal that comes later is [`Cx::failed`] with
    /// [`Verdict::NewToken`]. The default asks for another socket.
    fn rotate(&mut self, cx: &mut Cx<'_>) -> Rotation {
        let _ = cx;
        Rotation::Reconnect
    }

    /// The [`deadline`](Self::deadline) has come.
    fn tick(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }
}

/// How a socket comes to a fresh token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Rotation {
    /// It goes on with it.
    InPlace,
    /// Another socket takes its place.
    Reconnect,
}

/// Whom something is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To<'a> {
    /// Every name that is joined on the socket.
    All,
    /// One name; may be borrowed from the message.
    Name(&'a str),
}

/// What a session knows of a message beside whom it is for.
///
/// The engine needs none of it but where a stream goes over from one socket to another. Numbers tell
/// it at once where the one leaves off; without them it compares messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Mark {
    /// The message's number in its stream, the same on each socket. Numbers rise from message to
    /// message; where they rise by more than one, the feed itself has no message in between. Number
    /// all messages of a stream, or none: where two sockets are told apart by numbers, one without a
    /// number counts as delivered with the numbered ones around it.
    pub seq: Option<u64>,
    /// Whether the message holds all that messages before it said: a book's snapshot, a list as a
    /// whole. A reader that gets it has missed nothing that still matters.
    pub snapshot: bool,
}

impl Mark {
    /// A message's number in its stream.
    #[must_use]
    pub fn seq(mut self, seq: u64) -> Self {
        self.seq = Some(seq);
        self
    }

    /// A message that needs none of those before it.
    #[must_use]
    pub fn snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }
}

/// A session's only way in and out.
pub struct Cx<'a> {
    pub(super) now: Instant,
    pub(super) out: &'a mut dyn Outlet,
    pub(super) random: &'a mut SmallRng,
    pub(super) token: Option<&'a Secret>,
    pub(super) wall: fn() -> SystemTime,
}

/// Where what a session says goes.
pub(crate) trait Outlet {
    fn alive(&mut self);
    fn data(&mut self, to: To<'_>, payload: Message, mark: Mark);
    fn ended(&mut self, name: &str);
    fn failed(&mut self, verdict: Verdict, why: &str);
    fn gap(&mut self, to: To<'_>, missed: Option<u64>);
    fn has_room(&mut self, name: &str, len: usize) -> bool;
    fn joined(&mut self, name: &str);
    fn pause(&mut self, how_long: Duration);
    fn push(&mut self, message: Message);
    fn ready(&mut self);
    fn reconnect(&mut self, within: Duration);
    fn reconnected(&mut self, to: To<'_>, down_for: Duration, reason: DisconnectReason);
    fn rejected(&mut self, name: &str, why: &str);
    fn reply(&mut self, id: RequestId, part: Option<Message>, last: bool);
    fn reply_failed(&mut self, id: RequestId, words: Message);
    fn reply_unknown(&mut self, id: RequestId);
    fn unroutable(&mut self, message: &Message);
}

impl<'a> Cx<'a> {
    pub(crate) fn new(
        now: Instant,
        wall: fn() -> SystemTime,
        random: &'a mut SmallRng,
        token: Option<&'a Secret>,
        out: &'a mut dyn Outlet,
    ) -> Self {
        Self { now, out, random, token, wall }
    }

    /// The time, for everything that is measured.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The date, for everything that the server reads as one. It may jump.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        (self.wall)()
    }

    /// The token of this socket, where the manager has [`Credentials`](crate::Credentials): for
    /// protocols that send it in a message.
    #[must_use]
    pub fn token(&self) -> Option<&'a Secret> {
        self.token
    }

    /// Fills `bytes` at random: for ids and nonces, not for keys.
    pub fn random(&mut self, bytes: &mut [u8]) {
        self.random.fill_bytes(bytes);
    }

    /// The message was a sign of life, and nobody's data: a heartbeat, or the answer to one. It is
    /// not unroutable. Any frame keeps the socket's own clock from running out; a stream's
    /// [`data_timeout`](crate::Config::data_timeout) goes on, for a feed may be dead behind a server that
    /// lives.
    pub fn alive(&mut self) {
        self.out.alive();
    }

    /// Sends `message`.
    pub fn push(&mut self, message: impl Into<Message>) {
        self.out.push(message.into());
    }

    /// The socket is ready for joins. Names that the request's URL joins are joined by this.
    pub fn ready(&mut self) {
        self.out.ready();
    }

    /// `payload` is data for `to`.
    pub fn data(&mut self, to: To<'_>, payload: Message) {
        self.out.data(to, payload, Mark::default());
    }

    /// `payload` is data for `to`, of which more is known.
    ///
    /// ```
    /// # use wsmux::protocol::{Cx, Mark, To};
    /// # fn receive(message: &wsmux::Message, number: u64, cx: &mut Cx<'_>) {
    /// cx.data_marked(To::All, message.clone(), Mark::default().seq(number));
    /// # }
    /// ```
    pub fn data_marked(&mut self, to: To<'_>, payload: Message, mark: Mark) {
        self.out.data(to, payload, mark);
    }

    /// Messages for `to` are missing here, as the feed's own numbers show: `missed` of them, if
    /// that can be told.
    pub fn gap(&mut self, to: To<'_>, missed: Option<u64>) {
        self.out.gap(to, missed);
    }

    /// What is behind the server was lost for `down_for` because of `reason`, and is back: for what
    /// relays streams, while its own socket lives on. Readers get a
    /// [`Gap::Reconnected`](crate::Gap::Reconnected) here.
    pub fn reconnected(&mut self, to: To<'_>, down_for: Duration, reason: DisconnectReason) {
        self.out.reconnected(to, down_for, reason);
    }

    /// Whether `name` has room for one more message of `len` bytes, so that none of its readers
    /// loses one: for protocols in which the client says how much may come. A name that nobody
    /// reads has room for everything.
    #[must_use]
    pub fn has_room(&mut self, name: &str, len: usize) -> bool {
        self.out.has_room(name, len)
    }

    /// The server has confirmed `name`: its data is delivered from here on.
    ///
    /// The confirmation must be that of the latest join. Where a name was left and joined again, a
    /// session that cannot tell the two confirmations apart has to hold the second join back until
    /// the server has confirmed the leave; else what the server drops in between is lost unseen.
    pub fn joined(&mut self, name: &str) {
        self.out.joined(name);
    }

    /// The server refuses `name` for good, in its words `why`. The other names are not concerned.
    pub fn rejected(&mut self, name: &str, why: &str) {
        self.out.rejected(name, why);
    }

    /// The server has ended `name`: it is joined again after a delay.
    pub fn ended(&mut self, name: &str) {
        self.out.ended(name);
    }

    /// The server is going to close this socket after `within`: another one takes over before, at a
    /// time drawn from the first half of what is left.
    pub fn reconnect(&mut self, within: Duration) {
        self.out.reconnect(within);
    }

    /// `part` belongs to the reply to request `id`, which is complete if it is the `last`. A reply of
    /// no parts, or whose end comes by itself, is `None` and `true`. One that nobody waits for is
    /// ignored.
    pub fn reply(&mut self, id: RequestId, part: impl Into<Option<Message>>, last: bool) {
        self.out.reply(id, part.into(), last);
    }

    /// The server answers request `id` with a failure, in its own `words`: after parts, or as all there
    /// is. Nothing follows.
    pub fn reply_failed(&mut self, id: RequestId, words: impl Into<Message>) {
        self.out.reply_failed(id, words.into());
    }

    /// The server cannot say whether it has acted upon request `id`: the program gets
    /// [`Unknown`](crate::RequestError::Unknown), as if the socket were lost. Nothing follows.
    pub fn reply_unknown(&mut self, id: RequestId) {
        self.out.reply_unknown(id);
    }

    /// The server takes nothing of the program's for so long: its messages and requests wait on this
    /// socket, and [expire](crate::Config::send_ttl) meanwhile unwritten. What the session says itself,
    /// goes. The latest word counts, zero ends it, and more than a day counts as a day.
    pub fn pause(&mut self, how_long: Duration) {
        self.out.pause(how_long);
    }

    /// `message` is for nobody known: it is counted.
    pub fn unroutable(&mut self, message: &Message) {
        self.out.unroutable(message);
    }

    /// The socket is of no use any more, because of `why`, which must hold no secret.
    pub fn failed(&mut self, verdict: Verdict, why: &str) {
        self.out.failed(verdict, why);
    }
}

impl fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Something that a session said.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Utterance {
    /// See [`Cx::alive`].
    Alive,
    /// See [`Cx::data`]; no name stands for [`To::All`].
    Data(Option<String>, Message),
    /// See [`Cx::ended`].
    Ended(String),
    /// See [`Cx::failed`].
    Failed(Verdict, String),
    /// See [`Cx::gap`]; no name stands for [`To::All`].
    Gap(Option<String>, Option<u64>),
    /// See [`Cx::joined`].
    Joined(String),
    /// See [`Cx::data_marked`]; no name stands for [`To::All`].
    Marked(Option<String>, Message, Mark),
    /// See [`Cx::pause`].
    Pause(Duration),
    /// See [`Cx::push`].
    Push(Message),
    /// See [`Cx::ready`].
    Ready,
    /// See [`Cx::reconnect`].
    Reconnect(Duration),
    /// See [`Cx::reconnected`]; no name stands for [`To::All`].
    Reconnected(Option<String>, Duration, DisconnectReason),
    /// See [`Cx::rejected`].
    Rejected(String, String),
    /// See [`Cx::reply`].
    Reply(RequestId, Option<Message>, bool),
    /// See [`Cx::reply_failed`].
    ReplyFailed(RequestId, Message),
    /// See [`Cx::reply_unknown`].
    ReplyUnknown(RequestId),
    /// See [`Cx::unroutable`].
    Unroutable(Message),
}

/// What a session said, written down: for tests of a protocol.
///
/// ```
/// use tokio::time::Instant;
/// use wsmux::protocol::{Dial, Direct, Protocol as _, Transcript, Utterance};
///
/// let direct = Direct::new("wss://host/ws")?;
/// let names = ["a".try_into()?];
/// let lane = direct.lane(&names[0])?;
/// let mut session = direct.session(&Dial::first(&lane, &names));
///
/// let mut said = Transcript::default();
/// session.open(&mut said.cx(Instant::now()));
/// session.receive(&"hello".into(), &mut said.cx(Instant::now()));
/// assert_eq!(said.take(), [Utterance::Ready, Utterance::Data(None, "hello".into())]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Transcript {
    random: SmallRng,
    said: Said,
    token: Option<Secret>,
}

#[derive(Debug, Default)]
struct Said(Vec<Utterance>);

impl Default for Transcript {
    fn default() -> Self {
        Self { random: SmallRng::seed_from_u64(0), said: Said::default(), token: None }
    }
}

impl Transcript {
    /// A way in and out that writes down what is said, at `now` and the start of 1970.
    pub fn cx(&mut self, now: Instant) -> Cx<'_> {
        let (random, token) = (&mut self.random, self.token.as_ref());
        Cx::new(now, || SystemTime::UNIX_EPOCH, random, token, &mut self.said)
    }

    /// Sets the token that sessions are given.
    #[must_use]
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// What was said since the last call.
    pub fn take(&mut self) -> Vec<Utterance> {
        std::mem::take(&mut self.said.0)
    }
}

impl To<'_> {
    fn owned(self) -> Option<String> {
        match self {
            To::All => None,
            To::Name(name) => Some(name.to_owned()),
        }
    }
}

impl Outlet for Said {
    fn alive(&mut self) {
        self.0.push(Utterance::Alive);
    }

    fn data(&mut self, to: To<'_>, payload: Message, mark: Mark) {
        self.0.push(match mark == Mark::default() {
            true => Utterance::Data(to.owned(), payload),
            false => Utterance::Marked(to.owned(), payload, mark),
        });
    }

    fn ended(&mut self, name: &str) {
        self.0.push(Utterance::Ended(name.to_owned()));
    }

    fn failed(&mut self, verdict: Verdict, why: &str) {
        self.0.push(Utterance::Failed(verdict, why.to_owned()));
    }

    fn gap(&mut self, to: To<'_>, missed: Option<u64>) {
        self.0.push(Utterance::Gap(to.owned(), missed));
    }

    /// Nothing that is written down is lost.
    fn has_room(&mut self, _: &str, _: usize) -> bool {
        true
    }

    fn joined(&mut self, name: &str) {
        self.0.push(Utterance::Joined(name.to_owned()));
    }

    fn pause(&mut self, how_long: Duration) {
        self.0.push(Utterance::Pause(how_long));
    }

    fn push(&mut self, message: Message) {
        self.0.push(Utterance::Push(message));
    }

    fn ready(&mut self) {
        self.0.push(Utterance::Ready);
    }

    fn reconnected(&mut self, to: To<'_>, down_for: Duration, reason: DisconnectReason) {
        self.0.push(Utterance::Reconnected(to.owned(), down_for, reason));
    }

    fn reconnect(&mut self, within: Duration) {
        self.0.push(Utterance::Reconnect(within));
    }

    fn rejected(&mut self, name: &str, why: &str) {
        self.0.push(Utterance::Rejected(name.to_owned(), why.to_owned()));
    }

    fn reply(&mut self, id: RequestId, part: Option<Message>, last: bool) {
        self.0.push(Utterance::Reply(id, part, last));
    }

    fn reply_failed(&mut self, id: RequestId, words: Message) {
        self.0.push(Utterance::ReplyFailed(id, words));
    }

    fn reply_unknown(&mut self, id: RequestId) {
        self.0.push(Utterance::ReplyUnknown(id));
    }

    fn unroutable(&mut self, message: &Message) {
        self.0.push(Utterance::Unroutable(message.clone()));
    }
}
