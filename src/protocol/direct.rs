//! One socket per name.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Cx, Dial, DialError, Lane, Protocol, Request, Session, To, Url, UrlError};
use crate::message::Message;
use crate::name::{InvalidName, StreamName};

/// The name is part of the URL, and connecting is joining.
///
/// | base | name | dialled |
/// |---|---|---|
/// | `wss://host/ws` or `wss://host/ws/` | `btcusdt@trade` | `wss://host/ws/btcusdt@trade` |
/// | `wss://host/{name}/feed` | `a b` | `wss://host/a%20b/feed` |
/// | `wss://host/ws?stream={name}` | `a&b` | `wss://host/ws?stream=a%26b` |
///
/// A name is percent-encoded except for letters, digits and ``@ ! _ . ~ - : , $``, so it is one
/// segment of the path or one value of the query whatever it holds. The names `.` and `..` are
/// refused. Scheme, host and port are the base's.
#[derive(Clone)]
pub struct Direct {
    base: Url,
    template: Template,
}

#[derive(Clone)]
enum Template {
    /// The name is the path's next segment.
    Append,
    /// The name replaces `{name}` in path and query.
    Replace { path: String, query: Option<String> },
}

const PLACE: &str = "{name}";

/// What takes the place of `{name}` while the base is read: a valid part of path and query.
const STAND_IN: &str = "wsmux-name";

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'@')
    .remove(b'!')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'-')
    .remove(b':')
    .remove(b',')
    .remove(b'$');

impl Direct {
    /// Streams under `base`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL, or has `{name}` before its path.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        if !base.contains(PLACE) {
            return Ok(Self { base: Url::parse(base)?, template: Template::Append });
        }
        let before = base.split(PLACE).next().unwrap_or_default();
        let rest = before.split_once("://").map_or("", |(_, rest)| rest);
        if !rest.contains(['/', '?']) {
            return Err(UrlError::NamePlace);
        }
        let base_url = Url::parse(&base.replace(PLACE, STAND_IN))?;
        let (path, query) = after_origin(base);
        Ok(Self { base: base_url, template: Template::Replace { path, query } })
    }

    fn url(&self, name: &StreamName) -> Url {
        let name = utf8_percent_encode(name.as_str(), ENCODED).to_string();
        let (path, query) = match &self.template {
            Template::Append => {
                let path = self.base.path().strip_suffix('/').unwrap_or(self.base.path());
                (format!("{path}/{name}"), self.base.query().map(Into::into))
            }
            Template::Replace { path, query } => {
                (path.replace(PLACE, &name), query.as_ref().map(|q| q.replace(PLACE, &name)))
            }
        };
        self.base.with_target(path, query)
    }
}

/// Path and query of an absolute URL that has a place for the name in them.
fn after_origin(base: &str) -> (String, Option<String>) {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    let target = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    (if path.is_empty() { "/".to_owned() } else { path.to_owned() }, query)
}

impl Protocol for Direct {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        if matches!(name.as_str(), "." | "..") {
            return Err(InvalidName::DotSegment);
        }
        Ok(Lane::new(name.as_str()))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let name = StreamName::try_from(dial.lane.as_str())
            .map_err(|e| DialError::Protocol(Box::new(e)))?;
        let url = self.url(&name);
        // What is built is read again: whatever a name does, it must not leave its place.
        let scheme = if url.is_secure() { "wss" } else { "ws" };
        let built = Url::parse(&format!("{scheme}://{}{}", url.origin(), url.target()))?;
        if !built.same_origin(&self.base) || built.path() != url.path() {
            return Err(UrlError::NameEscapes.into());
        }
        Ok(Request::to(url).made_from(&self.base).joining([name]))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(DirectSession)
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Direct").field(&self.base).finish()
    }
}

/// Nothing is said: the URL has joined the name, and every message is for it.
#[derive(Debug)]
struct DirectSession;

impl Session for DirectSession {
    /// Only asked for a name that was given up and wanted again on the same socket.
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.joined(name.as_str()));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn relays(&self) -> bool {
        true
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        cx.data(To::All, message.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialled(base: &str, name: &str) -> Url {
        let direct = Direct::new(base).unwrap();
        let names = [StreamName::try_from(name).unwrap()];
        let lane = direct.lane(&names[0]).unwrap();
        let request = direct.request(&Dial::first(&lane, &names)).unwrap();
        assert_eq!(request.joins(), names);
        request.url().clone()
    }

    #[test]
    fn the_name_is_the_next_segment_or_takes_its_place() {
        for (base, target) in [
            ("ws://h/ws", "/ws/btcusdt@trade"),
            ("ws://h/ws/", "/ws/btcusdt@trade"),
            ("ws://h", "/btcusdt@trade"),
            ("ws://h/ws?key=1", "/ws/btcusdt@trade?key=1"),
            ("ws://h/{name}/feed", "/btcusdt@trade/feed"),
            ("ws://h/ws?stream={name}", "/ws?stream=btcusdt@trade"),
            ("ws://h?stream={name}", "/?stream=btcusdt@trade"),
        ] {
            assert_eq!(dialled(base, "btcusdt@trade").target(), target, "{base}");
        }
        assert_eq!(dialled("ws://h/ws", "a/b?c#d&e f%2e").path(), "/ws/a%2Fb%3Fc%23d%26e%20f%252e");
        assert_eq!(dialled("ws://h/ws", "@!_.~-:,$").path(), "/ws/@!_.~-:,$");
    }

    #[test]
    fn a_name_has_no_place_in_the_host() {
        for bad in ["ws://{name}/ws", "ws://{name}.host/ws", "ws://h:{name}/", "{name}"] {
            assert!(matches!(Direct::new(bad), Err(UrlError::NamePlace)), "{bad}");
        }
        assert!(Direct::new("http://h/{name}").is_err());
    }

    #[test]
    fn dot_segments_are_refused() {
        let direct = Direct::new("ws://h/ws").unwrap();
        for dots in [".", ".."] {
            let name = StreamName::try_from(dots).unwrap();
            assert_eq!(direct.lane(&name), Err(InvalidName::DotSegment));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_name_leaves_its_place(name in r"[^\p{Cc}]{1,64}") {
            prop_assume!(!matches!(&*name, "." | ".."));
            for (base, depth) in [
                ("wss://h:9443/a/ws", 3),
                ("wss://h:9443/a/{name}", 2),
                ("wss://h:9443/a/b?x={name}", 2),
            ] {
                let url = dialled(base, &name);
                prop_assert_eq!(url.origin(), "h:9443");
                prop_assert_eq!(url.path().matches('/').count(), depth);
                let hostile = |c: char| c.is_control() || " #\\\"<>".contains(c);
                prop_assert!(!url.target().contains(hostile), "{}", url.target());
                prop_assert!(url.query().is_none_or(|q| q.matches(['&', '=']).count() == 1));
            }
        }
    }
}
