//! A protocol whose server is in several places.

use std::fmt;

use super::{Dial, DialError, Failure, Lane, Limits, Protocol, Request, Session, Verdict};
use crate::name::{InvalidName, StreamName};

/// The same protocol at several bases: the first is the primary, and the next ones are dialled while those
/// before them fail. For streams and requests alike.
///
/// - A base has failed when it cannot be dialled, or when it accepts a socket that is then lost before it
///   was open for [`reset_after`](crate::RetryPolicy). What a socket is lost for that was stable, says
///   nothing of its base: it is dialled again first. All of a manager's connections share what is known.
/// - One that failed is passed over for 30 s, and for longer each time, up to 5 min; or for as long as the
///   server asked ([`RetryAfter`](Verdict::RetryAfter)), which pauses that host alone. Then one dial tries
///   it. Between two dials the [`RetryPolicy`](crate::RetryPolicy) waits as ever.
/// - A failure that would end the streams does so only where no other base may be dialled, unless it is that
///   of a stable socket. Credentials that are refused are refused by all.
/// - With the primary back, streams go home. A socket that leads elsewhere has another one take over there,
///   as a [reconnect](crate::WsManager::reconnect) does: readers see nothing of it, and requests get their
///   replies where they were asked. One goes first; the others follow once a socket there has lasted for
///   `reset_after`, spread over half a minute. One that cannot be had changes nothing. A primary that fails
///   again within 5 min of being well is gone home to later each time, up to 5 min later.
/// - While two sockets are open for the same streams, the venue sees both. As ever with a handover, they
///   count once towards [`max_connections`](crate::Limits).
///
/// [`StreamInfo::base`](crate::StreamInfo) says where a stream is, and
/// [`health`](crate::WsManager::health) warns while any is not at the primary. The bases should be alike in all but
/// where they lead: lanes, limits and verdicts are those of the primary. **A token goes to each base**, so list
/// servers only that are to have it; what is in the URL of one base goes to that one alone.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::{Direct, Failover};
///
/// let tokyo = Direct::new("wss://tokyo.example.com/ws")?;
/// let manager = WsManager::new(Failover::new(tokyo).or(Direct::new("wss://london.example.com/ws")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Failover<P> {
    others: Vec<P>,
    primary: P,
}

impl<P: Protocol> Failover<P> {
    /// The primary, alone so far.
    pub fn new(primary: P) -> Self {
        Self { others: Vec::new(), primary }
    }

    /// One more base, dialled while those before it fail.
    #[must_use]
    pub fn or(mut self, base: P) -> Self {
        self.others.push(base);
        self
    }

    fn at(&self, dial: &Dial<'_>) -> &P {
        let other = dial.base.checked_sub(1).and_then(|other| self.others.get(other));
        other.unwrap_or(&self.primary)
    }
}

/// What is told of a base that has none of its own.
fn within<'a>(dial: &Dial<'a>) -> Dial<'a> {
    Dial { base: 0, ..*dial }
}

impl<P: Protocol> Protocol for Failover<P> {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.primary.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        self.at(dial).request(&within(dial))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        self.at(dial).session(&within(dial))
    }

    fn limits(&self, lane: &Lane) -> Limits {
        self.primary.limits(lane)
    }

    fn classify(&self, failure: &Failure<'_>) -> Option<Verdict> {
        self.primary.classify(failure)
    }

    fn bases(&self) -> usize {
        1 + self.others.len()
    }
}

impl<P: fmt::Debug> fmt::Debug for Failover<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&self.primary).entries(&self.others).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Direct;

    #[test]
    fn each_base_is_dialled_with_what_is_its_own() {
        let base = |base: &str| Direct::new(base).unwrap();
        let failover = Failover::new(base("wss://ann:canary@a/x")).or(base("wss://b/{name}"));
        let name = [StreamName::try_from("s").unwrap()];
        let lane = failover.lane(&name[0]).unwrap();
        let request = |base| {
            let dial = Dial { base, ..Dial::first(&lane, &name) };
            failover.request(&dial).unwrap()
        };
        assert_eq!(failover.bases(), 2);
        assert_eq!((request(0).url().host(), request(0).url().target()), ("a", "/x/s".into()));
        assert_eq!((request(1).url().host(), request(1).url().target()), ("b", "/s".into()));
        assert!(request(0).headers().contains_key(http::header::AUTHORIZATION));
        assert!(request(1).headers().is_empty(), "what one URL has is for its own server alone");
        assert_eq!(request(7).url().host(), "a", "there is none: the primary");
        assert!(!format!("{failover:?}").contains("canary"));
    }
}
