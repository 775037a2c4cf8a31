//! What a name asks Hyperliquid for, and by what its data is known again.

use serde_json::Value;

use crate::protocol::json::{Raw, quote};
use crate::protocol::spelling::Spelling;

/// Fields of a subscription that are no options.
const OURS: &[&str] = &["coin", "type"];
/// The option that a candle's data tells.
const INTERVAL: &str = "interval";
const USER: &str = "user";
/// What some types are called in messages.
const RENAMED: &[(&str, &str)] =
    &[("user", "userEvents"), ("activeSpotAssetCtx", "activeAssetCtx")];

/// What a name asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Want<'a>(Spelling<'a>);

impl<'a> Want<'a> {
    /// Of a name: `type:coin,option=value`. Else what is wrong with it.
    pub(super) fn of_name(name: &'a str) -> Result<Self, &'static str> {
        let want = Spelling::read(name)
            .ok_or("a name is a type, `:coin`, and `,key=value` for what else there is")?;
        if want.options.keys().any(|key| OURS.contains(key)) {
            return Err("`type` and `coin` are no options");
        }
        if want.options.get(USER).is_some_and(|user| user.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err("the venue writes addresses in small letters: so should the name");
        }
        if (want.channel == "candle") != want.options.contains_key(INTERVAL) {
            return Err("a `candle`, and nothing else, wants an `interval`");
        }
        match RENAMED.iter().any(|(arrives, _)| *arrives == want.channel) {
            true => Err("this is how its messages are called, not how it is asked for"),
            false => Ok(Self(want)),
        }
    }

    pub(super) fn kind(&self) -> &'a str {
        self.0.channel
    }

    /// What the data of the name is known by, within its lane.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        write_key(&mut key, self.kind(), self.0.of, self.0.options.get(INTERVAL).copied());
        key
    }

    /// Names that data tells apart share sockets: those without options, of one user, or with the same
    /// options of one type.
    pub(super) fn lane(&self) -> String {
        let user = self.0.options.get(USER);
        let mut lane = user.map_or_else(|| "public".to_owned(), |user| format!("user/{user}"));
        let mut options = self.0.options.iter().filter(|(key, _)| ![USER, INTERVAL].contains(*key));
        if let Some((key, value)) = options.next() {
            lane.push_str(&format!("/{},{key}={value}", self.kind()));
            options.for_each(|(key, value)| lane.push_str(&format!(",{key}={value}")));
        }
        lane
    }

    /// The subscription, as JSON.
    pub(super) fn write(&self) -> String {
        let literal = |value: &str| match serde_json::from_str(value) {
            Ok(Value::Bool(_) | Value::Number(_)) => value.to_owned(),
            _ => quote(value),
        };
        let mut text = format!(r#"{{"type":{}"#, quote(self.kind()));
        if let Some(coin) = self.0.of {
            text.push_str(&format!(r#","coin":{}"#, quote(coin)));
        }
        for (key, value) in &self.0.options {
            text.push_str(&format!(",{}:{}", quote(key), literal(value)));
        }
        text.push('}');
        text
    }
}

/// Writes what data of a type, a coin and an interval is known by, in place of what is in `key`.
fn write_key(key: &mut String, kind: &str, coin: Option<&str>, interval: Option<&str>) {
    key.clear();
    key.push_str(kind);
    for (mark, part) in [(':', coin), (',', interval)] {
        if let Some(part) = part {
            key.push(mark);
            key.push_str(part);
        }
    }
}

/// The same, for what a server's echo of a subscription says.
pub(super) fn write_key_of_echo(key: &mut String, echo: Raw<'_>) -> Option<()> {
    let string = |field| echo.field(field)?.string();
    write_key(key, &string("type")?, string("coin").as_deref(), string(INTERVAL).as_deref());
    Some(())
}

/// The same, for a message of `channel`. Where it has no coin to be known by, the key is of the type
/// alone.
pub(super) fn write_key_of_data(key: &mut String, channel: &str, data: Raw<'_>) {
    let kind = kind_of(channel);
    let first = || data.elements().ok()?.next()?.ok();
    let coin = data.field("coin").or_else(|| data.field("s")).or_else(|| first()?.field("coin"));
    let interval = data.field("i").filter(|_| kind == "candle");
    let string = |field: Option<Raw<'_>>| Some(field?.string()?.into_owned());
    write_key(key, kind, string(coin).as_deref(), string(interval).as_deref());
}

/// The type whose messages are called `channel`.
pub(super) fn kind_of(channel: &str) -> &str {
    RENAMED.iter().find(|(arrives, _)| *arrives == channel).map_or(channel, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_asked_for_and_with_whom_it_may_share_a_socket() {
        let all = |name| {
            let want = Want::of_name(name).unwrap();
            (want.write(), want.key(), want.lane())
        };
        let expect = |subscription: &str, key: &str, lane: &str| {
            (subscription.to_owned(), key.to_owned(), lane.to_owned())
        };
        let trades = expect(r#"{"type":"trades","coin":"BTC"}"#, "trades:BTC", "public");
        assert_eq!(all("trades:BTC"), trades);
        let candle = r#"{"type":"candle","coin":"x:B","interval":"1m"}"#;
        assert_eq!(all("candle:x:B,interval=1m"), expect(candle, "candle:x:B,1m", "public"));
        let book = r#"{"type":"l2Book","coin":"B","mantissa":2,"nSigFigs":5}"#;
        let lane = "public/l2Book,mantissa=2,nSigFigs=5";
        assert_eq!(all("l2Book:B,nSigFigs=5,mantissa=2"), expect(book, "l2Book:B", lane));
        let fills = r#"{"type":"userFills","aggregateByTime":true,"user":"0xa"}"#;
        let lane = "user/0xa/userFills,aggregateByTime=true";
        assert_eq!(
            all("userFills,user=0xa,aggregateByTime=true"),
            expect(fills, "userFills", lane)
        );
        let events = expect(r#"{"type":"userEvents","user":"0xa"}"#, "userEvents", "user/0xa");
        assert_eq!(all("userEvents,user=0xa"), events);
        for bad in [
            "",
            "candle:B",
            "trades:B,interval=1m",
            "user,user=0xa",
            "userFills,user=0xA",
            "a,coin=B",
        ] {
            assert!(Want::of_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_tell_their_keys() {
        let data = |channel, text| {
            let mut key = "before".to_owned();
            write_key_of_data(&mut key, channel, Raw::new(text));
            key
        };
        assert_eq!(data("trades", r#"[{"coin":"BTC"},{"coin":"ETH"}]"#), "trades:BTC");
        assert_eq!(data("candle", r#"{"t":1,"s":"BTC","i":"1m"}"#), "candle:BTC,1m");
        assert_eq!(data("user", r#"{"fills":[]}"#), "userEvents");
        assert_eq!(data("activeSpotAssetCtx", r#"{"coin":"@1"}"#), "activeAssetCtx:@1");
        assert_eq!(data("bbo", "[7]"), "bbo");
        let echo = |text| {
            let mut key = String::new();
            write_key_of_echo(&mut key, Raw::new(text)).map(|()| key)
        };
        let text = r#"{"coin":"B","nSigFigs":null,"fast":false,"type":"l2Book"}"#;
        assert_eq!(echo(text).as_deref(), Some("l2Book:B"));
        assert_eq!(echo(r#"{"coin":"B"}"#), None);
    }
}
