//! A whole event of a channel, for readers of all of them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// An event of a channel, as a stream of all events carries it: in either serializer of Phoenix.
///
/// ```
/// use wsmux::protocol::ChannelEvent;
///
/// let event: ChannelEvent<u8> = serde_json::from_str(r#"["1",null,"room:1","count",7]"#)?;
/// assert_eq!((&*event.topic, &*event.event, event.payload), ("room:1", "count", 7));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ChannelEvent<T> {
    /// The event.
    pub event: String,
    /// Its payload.
    pub payload: T,
    /// The topic of the channel.
    pub topic: String,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ChannelEvent<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form(PhantomData))
    }
}

/// Either of the two forms.
struct Form<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Form<T> {
    type Value = ChannelEvent<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event of a channel, as an array of five or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        for _ in 0..2 {
            seq.next_element::<IgnoredAny>()?.ok_or_else(|| Error::invalid_length(0, &self))?;
        }
        let topic = seq.next_element()?.ok_or_else(|| Error::missing_field("topic"))?;
        let event = seq.next_element()?.ok_or_else(|| Error::missing_field("event"))?;
        let payload = seq.next_element()?.ok_or_else(|| Error::missing_field("payload"))?;
        Ok(ChannelEvent { event, payload, topic })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut event, mut payload, mut topic) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "event" => event = Some(map.next_value()?),
                "payload" => payload = Some(map.next_value()?),
                "topic" => topic = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(ChannelEvent {
            event: event.ok_or_else(|| Error::missing_field("event"))?,
            payload: payload.ok_or_else(|| Error::missing_field("payload"))?,
            topic: topic.ok_or_else(|| Error::missing_field("topic"))?,
        })
    }
}
