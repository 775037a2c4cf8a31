//! What a name asks OKX for: the `arg` of a subscription, which is also how its data is known again.

use std::collections::BTreeMap;

use crate::protocol::json::{Raw, quote};
use crate::protocol::spelling::Spelling;

/// What keeps its data apart: a channel, and what else is asked of it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Arg(BTreeMap<String, String>);

/// What a server adds to an `arg` by itself.
const ADDED: &str = "uid";
/// How many fields an `arg` has at most. Those of the venue have up to five.
const FIELDS: usize = 16;

impl Arg {
    /// Of a name: `channel`, `channel:instId`, either followed by `,key=value`.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let Spelling { channel, of, options } = Spelling::read(name)?;
        let mut fields: BTreeMap<_, _> = options.into_iter().map(owned).collect();
        let is_free = !fields.contains_key(ADDED)
            && fields.insert("channel".to_owned(), channel.to_owned()).is_none()
            && of.is_none_or(|of| fields.insert("instId".to_owned(), of.to_owned()).is_none());
        (is_free && fields.len() <= FIELDS).then_some(Self(fields))
    }

    /// Of a message, in whatever order its fields are.
    pub(super) fn read(arg: Raw<'_>) -> Option<Self> {
        let mut fields = BTreeMap::new();
        for field in arg.fields().ok()? {
            let (key, value) = field.ok()?;
            if key != ADDED {
                fields.insert(key.into_owned(), value.string()?.into_owned());
            }
            if fields.len() > FIELDS {
                return None;
            }
        }
        Some(Self(fields))
    }

    pub(super) fn channel(&self) -> &str {
        self.0.get("channel").map_or("", String::as_str)
    }

    /// As JSON.
    pub(super) fn write(&self) -> String {
        let fields = self.0.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_asked_for() {
        let write = |name: &str| Arg::of_name(name).map(|arg| arg.write());
        let trades = r#"{"channel":"trades","instId":"BTC-USDT"}"#;
        assert_eq!(write("trades:BTC-USDT").as_deref(), Some(trades));
        let all = r#"{"channel":"instruments","instType":"SPOT"}"#;
        assert_eq!(write("instruments,instType=SPOT").as_deref(), Some(all));
        assert_eq!(write("status").as_deref(), Some(r#"{"channel":"status"}"#));
        for bad in [
            "",
            ":",
            "a:",
            ":b",
            "a,",
            "a,b",
            "a,=b",
            "a,b=",
            "a:b,instId=c",
            "a,channel=b",
            "a,uid=1",
            "a,é=1",
        ] {
            assert_eq!(write(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_arg_is_the_same_in_any_order_and_with_what_the_server_adds() {
        let name = Arg::of_name("orders:X,instType=SPOT");
        for text in [
            r#"{"channel":"orders","instType":"SPOT","instId":"X"}"#,
            r#"{ "uid":"7", "instId":"\u0058", "instType":"SPOT","channel":"orders"}"#,
        ] {
            assert_eq!(Arg::read(Raw::new(text)), name, "{text}");
        }
        for bad in ["", "7", "[]", r#"{"channel":7}"#, r#"{"channel""#] {
            assert_eq!(Arg::read(Raw::new(bad)), None, "{bad}");
        }
    }
}
