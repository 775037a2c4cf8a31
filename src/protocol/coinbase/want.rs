//! What a name asks Coinbase for, and by what its data is known again.

use std::borrow::Cow;

use crate::protocol::json::Raw;

/// A channel of the venue.
#[derive(Debug)]
pub(super) struct Channel {
    /// What its messages call it.
    pub(super) arrives: &'static str,
    pub(super) is_private: bool,
    /// Whether its snapshot holds all that was said before.
    pub(super) is_state: bool,
    pub(super) name: &'static str,
    /// Where a message of it names products.
    pub(super) rows: Rows,
}

/// Where a message names products.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rows {
    /// In each event.
    Events,
    /// In the rows of each event: the list, and the field.
    In(&'static str, &'static str),
    /// Nowhere: the channel is one stream.
    Whole,
}

const CHANNELS: &[Channel] = &[
    market("candles", "candles", Rows::In("candles", "product_id"), false),
    market("level2", "l2_data", Rows::Events, true),
    market("market_trades", "market_trades", Rows::In("trades", "product_id"), false),
    market("status", "status", Rows::In("products", "id"), true),
    market("ticker", "ticker", Rows::In("tickers", "product_id"), true),
    market("ticker_batch", "ticker_batch", Rows::In("tickers", "product_id"), true),
    private("futures_balance_summary"),
    private("user"),
];

const fn market(name: &'static str, arrives: &'static str, rows: Rows, is_state: bool) -> Channel {
    Channel { arrives, is_private: false, is_state, name, rows }
}

const fn private(name: &'static str) -> Channel {
    Channel { arrives: name, is_private: true, is_state: false, name, rows: Rows::Whole }
}

impl Channel {
    /// Of what a call names it.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        CHANNELS.iter().find(|channel| channel.name == name)
    }

    /// Of what a message calls it.
    pub(super) fn arriving(as_: &str) -> Option<&'static Self> {
        CHANNELS.iter().find(|channel| channel.arrives == as_)
    }

    /// Calls `with` for each product that an event names.
    pub(super) fn products(&self, event: Raw<'_>, with: &mut dyn FnMut(&str)) {
        match self.rows {
            Rows::Whole => {}
            Rows::Events => product(event, "product_id").into_iter().for_each(|name| with(&name)),
            Rows::In(list, field) => {
                let rows = event.field(list).and_then(|rows| rows.elements().ok());
                let rows = rows.into_iter().flatten().map_while(Result::ok);
                rows.filter_map(|row| product(row, field)).for_each(|name| with(&name));
            }
        }
    }
}

/// The product that a row names.
fn product<'a>(row: Raw<'a>, field: &str) -> Option<Cow<'a, str>> {
    row.field(field)?.string()
}

/// What a name asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want<'a> {
    pub(super) channel: &'static Channel,
    pub(super) product: Option<&'a str>,
}

impl<'a> Want<'a> {
    /// Of a name: `channel:product`, or `channel`. Else what is wrong with it.
    pub(super) fn of_name(name: &'a str) -> Result<Self, &'static str> {
        let (channel, product) = match name.split_once(':') {
            Some((channel, product)) => (channel, Some(product)),
            None => (name, None),
        };
        let channel = Channel::named(channel).ok_or("there is no such channel to ask for")?;
        match (channel.rows, product) {
            (Rows::Whole, Some(_)) => Err("this channel has no products"),
            (Rows::Events | Rows::In(..), None | Some("")) => {
                Err("this channel wants a product: `channel:BTC-USD`")
            }
            (_, Some(product)) if product.ends_with("-USDC") => {
                Err("the venue calls its data by the name in USD: ask for that")
            }
            _ => Ok(Self { channel, product }),
        }
    }

    pub(super) fn is_private(&self) -> bool {
        self.channel.is_private
    }

    /// What it is known by.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        write_key(&mut key, self.channel, self.product);
        key
    }
}

/// Writes what data of `channel` and `product` is known by, in place of what is in `key`.
pub(super) fn write_key(key: &mut String, channel: &Channel, product: Option<&str>) {
    key.clear();
    key.push_str(channel.name);
    if let Some(product) = product {
        key.push(':');
        key.push_str(product);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_channels_of_products_and_of_an_account() {
        for (name, is_private) in [("level2:BTC-USD", false), ("status:A", false), ("user", true)] {
            let want = Want::of_name(name).unwrap();
            assert_eq!((want.key().as_str(), want.is_private()), (name, is_private));
        }
        for bad in ["", "level2", "level2:", "user:A", "heartbeats", "l2_data:A", "level2:A-USDC"] {
            assert!(Want::of_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_names_products_where_its_channel_has_them() {
        let products = |channel, event| {
            let mut found = Vec::new();
            let channel = Channel::arriving(channel).unwrap();
            channel.products(Raw::new(event), &mut |product| found.push(product.to_owned()));
            found
        };
        assert_eq!(products("l2_data", r#"{"product_id":"A","updates":[]}"#), ["A"]);
        let trades = r#"{"trades":[{"product_id":"A"},{"id":"C"},{"product_id":"B"}]}"#;
        assert_eq!(products("market_trades", trades), ["A", "B"]);
        assert_eq!(products("status", r#"{"products":[{"id":"A"}]}"#), ["A"]);
        assert_eq!(products("user", r#"{"product_id":"A"}"#), [""; 0]);
        assert_eq!(products("ticker", r#"{"tickers":7}"#), [""; 0]);
        assert!(Channel::arriving("level2").is_none());
    }
}
