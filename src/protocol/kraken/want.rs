//! What a name asks Kraken for, and where.

use serde_json::Value;

use crate::protocol::json::quote;
use crate::protocol::spelling::Spelling;

/// Channels of an account.
const PRIVATE: &[&str] = &["balances", "executions"];
/// Channels that have no symbols.
const WHOLE: &[&str] = &["balances", "executions", "instrument"];
/// What is said to all, and not asked for.
const UNASKED: &[&str] = &["heartbeat", "status"];
/// Fields of a call that are no options.
const OURS: &[&str] = &["channel", "symbol", "token"];

/// Where a channel is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Host {
    Level3,
    Private,
    Public,
}

/// What a name asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Want<'a>(Spelling<'a>);

impl Host {
    /// Lanes begin with their host.
    pub(super) fn of_lane(lane: &str) -> Self {
        match lane.split('/').next() {
            Some("level3") => Self::Level3,
            Some("private") => Self::Private,
            _ => Self::Public,
        }
    }

    /// Whether its calls have a token.
    pub(super) fn wants_token(self) -> bool {
        self != Self::Public
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Level3 => "level3",
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

impl<'a> Want<'a> {
    /// Of a name: `channel:symbol,option=value`. Else what is wrong with it.
    pub(super) fn of_name(name: &'a str) -> Result<Self, &'static str> {
        let want = Spelling::read(name)
            .ok_or("a name is `channel`, `:symbol`, and `,key=value` for its options")?;
        if UNASKED.contains(&want.channel) {
            return Err("this channel is said to all sockets, and is not to be asked for");
        }
        if want.options.keys().any(|key| OURS.contains(key)) {
            return Err("`channel`, `symbol` and `token` are no options");
        }
        match (WHOLE.contains(&want.channel), want.of) {
            (true, Some(_)) => Err("this channel has no symbols"),
            (false, None) => Err("this channel wants a symbol: `channel:BTC/USD`"),
            _ => Ok(Self(want)),
        }
    }

    pub(super) fn channel(&self) -> &'a str {
        self.0.channel
    }

    pub(super) fn symbol(&self) -> Option<&'a str> {
        self.0.of
    }

    pub(super) fn host(&self) -> Host {
        match self.channel() {
            "level3" => Host::Level3,
            channel if PRIVATE.contains(&channel) => Host::Private,
            _ => Host::Public,
        }
    }

    /// What the data of the name is known by, within its lane.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        write_key(&mut key, self.channel(), self.symbol());
        key
    }

    /// Names without options share sockets, and those with the same options of one channel.
    pub(super) fn lane(&self) -> String {
        let host = self.host().as_str();
        if self.0.options.is_empty() {
            return host.to_owned();
        }
        let options = self.0.options.iter().map(|(key, value)| format!(",{key}={value}"));
        format!("{host}/{}{}", self.channel(), options.collect::<String>())
    }

    /// The options as fields of JSON, each with a comma before it.
    pub(super) fn options(&self) -> String {
        let literal = |value: &str| match serde_json::from_str(value) {
            Ok(Value::Bool(_) | Value::Number(_)) => value.to_owned(),
            _ => quote(value),
        };
        let options = self.0.options.iter();
        options.map(|(key, value)| format!(",{}:{}", quote(key), literal(value))).collect()
    }
}

/// Writes what data of `channel` and `symbol` is known by, in place of what is in `key`.
pub(super) fn write_key(key: &mut String, channel: &str, symbol: Option<&str>) {
    key.clear();
    key.push_str(channel);
    if let Some(symbol) = symbol {
        key.push(':');
        key.push_str(symbol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_hosts_and_those_with_options_are_among_themselves() {
        let lane = |name| Want::of_name(name).map(|want| want.lane());
        assert_eq!(lane("ticker:BTC/USD").as_deref(), Ok("public"));
        assert_eq!(lane("instrument").as_deref(), Ok("public"));
        assert_eq!(
            lane("book:A/B,snapshot=true,depth=10"),
            lane("book:C/D,depth=10,snapshot=true")
        );
        assert_eq!(lane("book:A/B,depth=10").as_deref(), Ok("public/book,depth=10"));
        assert_eq!(lane("balances").as_deref(), Ok("private"));
        assert_eq!(
            lane("executions,snap_trades=true").as_deref(),
            Ok("private/executions,snap_trades=true")
        );
        assert_eq!(lane("level3:A/B,depth=10").as_deref(), Ok("level3/level3,depth=10"));
        let hosts = ["public", "private/x", "level3"].map(Host::of_lane);
        assert_eq!(hosts, [Host::Public, Host::Private, Host::Level3]);
        for bad in ["", "ticker", "balances:A", "status", "heartbeat", "book:A/B,token=x"] {
            assert!(lane(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_are_written_as_what_they_are() {
        let options = |name| Want::of_name(name).unwrap().options();
        assert_eq!(
            options("book:A/B,depth=100,snapshot=false"),
            r#","depth":100,"snapshot":false"#
        );
        assert_eq!(options("ticker:A,event_trigger=bbo"), r#","event_trigger":"bbo""#);
        assert_eq!(options(r#"ticker:A,x="},y=1 2,z={}"#), r#","x":"\"}","y":"1 2","z":"{}""#);
        assert_eq!(Want::of_name("ticker:A/B").unwrap().key(), "ticker:A/B");
        assert_eq!(Want::of_name("balances").unwrap().key(), "balances");
    }
}
