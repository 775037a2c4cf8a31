//! A protocol whose names come several times, each on a socket of its own.

use std::fmt;

use crate::message::Message;
use crate::name::{InvalidName, StreamName};
use crate::protocol::{
    Cx, Dial, DialError, Failure, Lane, Limits, Protocol, Request, RequestId, Rotation, Session,
    Unsupported, Verdict,
};

/// `P`, several times: its name `x` is `0/x`, `1/x` and so on here, and each number, a *slot*, has a
/// lane of its own. So what is one socket to `P` is as many as there are slots.
///
/// A [`RequestPool`](super::RequestPool) spreads requests over the slots; with a
/// [`WsManager`](crate::WsManager) of your own you may do so yourself.
///
/// ```
/// use wsmux::protocol::{Direct, Protocol as _};
/// use wsmux::requests::Pooled;
///
/// let pooled = Pooled::new(Direct::new("wss://host/ws")?);
/// let (a, b) = (Pooled::<Direct>::name(0, "chart")?, Pooled::<Direct>::name(1, "chart")?);
/// assert_eq!(a.as_str(), "0/chart");
/// assert_ne!(pooled.lane(&a)?, pooled.lane(&b)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pooled<P> {
    joins: bool,
    protocol: P,
}

impl<P: Protocol> Pooled<P> {
    /// `protocol`, several times.
    pub fn new(protocol: P) -> Self {
        Self { joins: true, protocol }
    }

    /// Its sockets are there to be [asked](crate::WsManager::request) alone: a name says which socket, and
    /// the server is not asked for it, nor told that it is left. Names that the URL joins are joined.
    #[must_use]
    pub fn unjoined(mut self) -> Self {
        self.joins = false;
        self
    }

    /// The protocol's `name` on slot `slot`.
    ///
    /// # Errors
    ///
    /// When `name` is none, or has no room for the number.
    pub fn name(slot: usize, name: &str) -> Result<StreamName, InvalidName> {
        StreamName::try_from(name)?;
        StreamName::try_from(format!("{slot}/{name}").as_str())
    }

    /// Does something with what the wrapped protocol would be told of `dial`.
    fn within<R>(&self, dial: &Dial<'_>, tell: impl FnOnce(&P, &Dial<'_>) -> R) -> R {
        let (_, lane) = split(dial.lane.as_str());
        let lane = Lane::new(lane);
        let names: Vec<_> = dial.names.iter().filter_map(inner).collect();
        let mut dial: Dial<'_> = *dial;
        (dial.lane, dial.names) = (&lane, &names);
        tell(&self.protocol, &dial)
    }
}

/// The number and the rest of a name, or of a lane's key. The engine has no name that
/// [`Pooled::lane`] did not accept, so the number is there.
fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("0", name))
}

/// The wrapped protocol's own name.
fn inner(name: &StreamName) -> Option<StreamName> {
    StreamName::try_from(split(name.as_str()).1).ok()
}

/// One name however its number is written, or two names would be one lane.
fn is_number(slot: &str) -> bool {
    slot.parse::<u32>().is_ok_and(|number| number.to_string() == slot)
}

impl<P: Protocol> Protocol for Pooled<P> {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let slot = name.as_str().split_once('/').map(|(slot, _)| slot);
        let Some(slot) = slot.filter(|slot| is_number(slot)) else {
            return Err(InvalidName::Unsupported {
                why: "a pooled name is `slot/name`, as in `0/x`",
            });
        };
        let name = StreamName::try_from(split(name.as_str()).1)?;
        Ok(Lane::new(format!("{slot}/{}", self.protocol.lane(&name)?.as_str())))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let slot = split(dial.lane.as_str()).0;
        let request = self.within(dial, |protocol, dial| protocol.request(dial))?;
        let outer = |name: &StreamName| {
            let outer = StreamName::try_from(format!("{slot}/{name}").as_str());
            outer.unwrap_or_else(|_| name.clone()) // Too long: nobody asked for it.
        };
        Ok(request.rename(outer))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        let slot = split(dial.lane.as_str()).0.to_owned();
        let session = self.within(dial, |protocol, dial| protocol.session(dial));
        Box::new(InSlot { joins: self.joins, session, slot })
    }

    fn limits(&self, lane: &Lane) -> Limits {
        self.protocol.limits(&Lane::new(split(lane.as_str()).1))
    }

    fn classify(&self, failure: &Failure<'_>) -> Option<Verdict> {
        self.protocol.classify(failure)
    }

    fn bases(&self) -> usize {
        self.protocol.bases()
    }
}

impl<P: fmt::Debug> fmt::Debug for Pooled<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&self.protocol).finish()
    }
}

/// The wrapped protocol's session, with names as they are outside.
struct InSlot {
    joins: bool,
    session: Box<dyn Session>,
    slot: String,
}

impl InSlot {
    fn speak<R>(
        &mut self,
        cx: &mut Cx<'_>,
        speak: impl FnOnce(&mut dyn Session, &mut Cx<'_>) -> R,
    ) -> R {
        let (session, slot) = (&mut *self.session, &self.slot);
        cx.renamed(&|name| format!("{slot}/{name}"), |cx| speak(session, cx))
    }
}

impl Session for InSlot {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.speak(cx, |session, cx| session.open(cx));
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        if !self.joins {
            return names.iter().for_each(|name| cx.joined(name.as_str()));
        }
        let names: Vec<_> = names.iter().filter_map(inner).collect();
        self.speak(cx, |session, cx| session.join(&names, cx));
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        if !self.joins {
            return;
        }
        let names: Vec<_> = names.iter().filter_map(inner).collect();
        self.speak(cx, |session, cx| session.leave(&names, cx));
    }

    fn relays(&self) -> bool {
        self.session.relays()
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        self.speak(cx, |session, cx| session.receive(message, cx));
    }

    fn send(&mut self, name: &StreamName, message: Message, cx: &mut Cx<'_>) {
        if let Some(name) = inner(name) {
            self.speak(cx, |session, cx| session.send(&name, message, cx));
        }
    }

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        self.speak(cx, |session, cx| session.request(id, body, cx))
    }

    fn cancel(&mut self, id: RequestId, cx: &mut Cx<'_>) {
        self.speak(cx, |session, cx| session.cancel(id, cx));
    }

    fn deadline(&self) -> Option<tokio::time::Instant> {
        self.session.deadline()
    }

    fn rotate(&mut self, cx: &mut Cx<'_>) -> Rotation {
        self.speak(cx, |session, cx| session.rotate(cx))
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.speak(cx, |session, cx| session.tick(cx));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::protocol::{DisconnectReason, Mark, To, Transcript, Url, Utterance};

    /// Says of a name all that can be said of one, when it is joined.
    struct Chatty;

    impl Protocol for Chatty {
        fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
            Ok(Lane::new(format!("lane of {name}")))
        }

        fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
            assert_eq!(dial.lane.as_str(), "lane of a/b");
            Ok(Request::new("ws://host")?.joining(dial.names.iter().cloned()))
        }

        fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
            Box::new(Self)
        }

        fn limits(&self, lane: &Lane) -> Limits {
            Limits::default().capacity(lane.as_str().len())
        }
    }

    impl Session for Chatty {
        fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
            let name = names[0].as_str();
            cx.joined(name);
            cx.data(To::Name(name), "one".into());
            cx.data(To::All, "all".into());
            cx.data_marked(To::Name(name), "two".into(), Mark::default().seq(2));
            cx.gap(To::Name(name), Some(3));
            cx.reconnected(To::Name(name), Duration::ZERO, DisconnectReason::Ended);
            assert!(cx.has_room(name, 1));
            cx.ended(name);
            cx.rejected(name, "why");
            cx.reply(RequestId(7), Message::from("part"), true);
            cx.reply_unknown(RequestId(8));
            cx.pause(Duration::ZERO);
            cx.push(name);
        }

        fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
            cx.push(names[0].as_str());
        }

        fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
            cx.unroutable(message);
        }

        fn rotate(&mut self, cx: &mut Cx<'_>) -> Rotation {
            cx.push(cx.token().map_or("none", |token| token.expose()).to_owned());
            Rotation::InPlace
        }
    }

    fn name(name: &str) -> StreamName {
        StreamName::try_from(name).unwrap()
    }

    /// The methods between `start` and the first brace that closes at the beginning of a line.
    fn methods<'a>(source: &'a str, start: &str) -> Vec<&'a str> {
        let rest = source.split_once(start).map_or("", |(_, rest)| rest);
        let body = rest.split("\n}").next().unwrap_or_default();
        let declared = body.lines().filter_map(|line| line.strip_prefix("    fn "));
        declared.filter_map(|line| line.split(['(', '<']).next()).collect()
    }

    /// Methods of a trait that a wrapper leaves to their defaults.
    fn passed_over<'a>(of: (&'a str, &str), wrapper: (&str, &str)) -> Vec<&'a str> {
        let (all, forwarded) = (methods(of.0, of.1), methods(wrapper.0, wrapper.1));
        all.into_iter().filter(|method| !forwarded.contains(method)).collect()
    }

    #[test]
    fn every_method_is_forwarded_also_those_that_have_a_default() {
        let protocol = (include_str!("../protocol/mod.rs"), "pub trait Protocol:");
        let session = (include_str!("../protocol/session.rs"), "pub trait Session:");
        let here = include_str!("pooled.rs");
        let failover = include_str!("../protocol/failover.rs");
        assert!(
            methods(protocol.0, protocol.1).len() >= 6 && methods(session.0, session.1).len() >= 11
        );
        for wrapper in
            [(here, " Protocol for Pooled<P> {"), (failover, " Protocol for Failover<P> {")]
        {
            assert_eq!(passed_over(protocol, wrapper), [""; 0], "{}", wrapper.1);
        }
        assert_eq!(passed_over(session, (here, "impl Session for InSlot {")), [""; 0]);
        // One that is passed over is noticed.
        let half =
            "impl Session for Half {\n    fn join(&self);\n    fn leave(&self) {}\n}\n    fn tick(";
        let left = passed_over(session, (half, "Session for Half {"));
        let all = [
            "open", "relays", "receive", "send", "request", "cancel", "deadline", "rotate", "tick",
        ];
        assert_eq!(left, all);
    }

    #[test]
    fn each_slot_has_a_lane_of_its_own_and_one_way_to_write_it() {
        let pooled = Pooled::new(Chatty);
        assert_eq!(pooled.lane(&name("3/a/b")).unwrap(), Lane::new("3/lane of a/b"));
        for bad in ["a", "/a", "x/a", "01/a", "+1/a", "-1/a", "1", "1/", "99999999999/a"] {
            assert!(pooled.lane(&name(bad)).is_err(), "{bad}");
        }
        assert_eq!(pooled.limits(&Lane::new("3/lane of a/b")).capacity, Some(11));
        assert!(Pooled::<Chatty>::name(0, "").is_err());
        assert!(Pooled::<Chatty>::name(0, &"a".repeat(4094)).is_ok());
        assert!(Pooled::<Chatty>::name(0, &"a".repeat(4095)).is_err(), "with its number");
    }

    #[test]
    fn a_name_that_is_not_to_be_joined_is_joined_at_once_and_nobody_is_asked() {
        let (pooled, names) = (Pooled::new(Chatty).unjoined(), [name("3/a/b")]);
        let lane = pooled.lane(&names[0]).unwrap();
        let (mut session, mut said) =
            (pooled.session(&Dial::first(&lane, &names)), Transcript::default());
        session.join(&names, &mut said.cx(Instant::now()));
        session.leave(&names, &mut said.cx(Instant::now()));
        assert_eq!(said.take(), [Utterance::Joined("3/a/b".to_owned())]);
    }

    #[test]
    fn the_wrapped_protocol_sees_its_own_names_and_everybody_else_those_of_the_slot() {
        let (pooled, outer) = (Pooled::new(Chatty), [name("3/a/b")]);
        let lane = pooled.lane(&outer[0]).unwrap();
        let dial = Dial::first(&lane, &outer);
        let request = pooled.request(&dial).unwrap();
        assert_eq!(
            (request.joins(), request.url()),
            (&outer[..], &Url::parse("ws://host").unwrap())
        );
        let (mut session, mut said) =
            (pooled.session(&dial), Transcript::default().token("secret"));
        let mut cx = said.cx(Instant::now());
        session.join(&outer, &mut cx);
        session.leave(&outer, &mut cx);
        session.receive(&"x".into(), &mut cx);
        assert_eq!(session.rotate(&mut cx), Rotation::InPlace);
        assert!(session.request(RequestId(1), "x".into(), &mut cx).is_err());
        session.send(&outer[0], "sent".into(), &mut cx);
        let (outer, inner) = ("3/a/b".to_owned(), "a/b");
        let ended = DisconnectReason::Ended;
        assert_eq!(
            said.take(),
            [
                Utterance::Joined(outer.clone()),
                Utterance::Data(Some(outer.clone()), "one".into()),
                Utterance::Data(None, "all".into()),
                Utterance::Marked(Some(outer.clone()), "two".into(), Mark::default().seq(2)),
                Utterance::Gap(Some(outer.clone()), Some(3)),
                Utterance::Reconnected(Some(outer.clone()), Duration::ZERO, ended),
                Utterance::Ended(outer.clone()),
                Utterance::Rejected(outer, "why".into()),
                Utterance::Reply(RequestId(7), Some("part".into()), true),
                Utterance::ReplyUnknown(RequestId(8)),
                Utterance::Pause(Duration::ZERO),
                Utterance::Push(inner.into()),
                Utterance::Push(inner.into()),
                Utterance::Unroutable("x".into()),
                Utterance::Push("secret".into()),
                Utterance::Push("sent".into()),
            ]
        );
    }
}
