//! What one record holds, as a MessagePack array: the table of the module's page.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rmp::{Marker, decode, encode};

use super::reason::{details, reason};
use crate::error::Gap;
use crate::message::{Message, Text};

/// The version of the table.
pub(super) const VERSION: u64 = 1;

const START: u64 = 0;
const NAME: u64 = 1;
const MESSAGE: u64 = 2;
const LAGGED: u64 = 3;
const RECONNECTED: u64 = 4;
const SEQUENCE: u64 = 5;
const CLOSED: u64 = 6;
const END: u64 = 7;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// A run begins, so many nanoseconds after 1970.
    Start {
        wall: u64,
    },
    Name {
        id: u64,
        name: Text,
    },
    /// Something of a stream.
    Item {
        dt: i64,
        id: u64,
        what: What,
    },
    End {
        dt: i64,
    },
    /// What a later version has.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Closed { label: Text, words: Text },
    Gap(Gap),
    Message(Message),
}

/// Why bytes are no entry.
#[derive(Debug)]
pub(super) enum Wrong {
    Invalid(&'static str),
    Version(u64),
}

impl Entry {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Start { wall } => {
                head(out, 4, START)?;
                encode::write_uint(out, VERSION)?;
                encode::write_uint(out, *wall)?;
                encode::write_str(out, concat!("wsmux ", env!("CARGO_PKG_VERSION")))?;
            }
            Self::Name { id, name } => {
                head(out, 3, NAME)?;
                encode::write_uint(out, *id)?;
                encode::write_str(out, name)?;
            }
            Self::Item { dt, id, what } => what.write(out, *dt, *id)?,
            Self::End { dt } => {
                head(out, 2, END)?;
                encode::write_sint(out, *dt)?;
            }
            Self::Unknown => {}
        }
        Ok(())
    }

    pub(super) fn read(data: Bytes) -> Result<Self, Wrong> {
        let mut data = Fields { data };
        let fields = data.array()?;
        if fields == 0 {
            return Err(Wrong::Invalid("an empty array"));
        }
        let kind = data.uint()?;
        let wanted = match kind {
            START => 3,
            NAME => 3,
            MESSAGE | LAGGED | SEQUENCE => 4,
            RECONNECTED => 7,
            CLOSED => 5,
            END => 2,
            _ => return Ok(Self::Unknown),
        };
        if fields < wanted {
            return Err(Wrong::Invalid("an array with too few elements"));
        }
        if kind == START {
            return match data.uint()? {
                VERSION => Ok(Self::Start { wall: data.uint()? }),
                version => Err(Wrong::Version(version)),
            };
        }
        if kind == NAME {
            return Ok(Self::Name { id: data.uint()?, name: data.text()? });
        }
        let dt = data.sint()?;
        if kind == END {
            return Ok(Self::End { dt });
        }
        let id = data.uint()?;
        Ok(Self::Item { dt, id, what: What::read(kind, &mut data)? })
    }
}

impl What {
    fn write(&self, out: &mut Vec<u8>, dt: i64, id: u64) -> io::Result<()> {
        let (fields, kind) = match self {
            Self::Message(_) => (4, MESSAGE),
            Self::Gap(Gap::Lagged { .. }) => (4, LAGGED),
            Self::Gap(Gap::Reconnected { .. }) => (7, RECONNECTED),
            Self::Gap(Gap::Sequence { .. }) => (4, SEQUENCE),
            Self::Closed { .. } => (5, CLOSED),
        };
        head(out, fields, kind)?;
        encode::write_sint(out, dt)?;
        encode::write_uint(out, id)?;
        match self {
            Self::Message(Message::Text(text)) => encode::write_str(out, text)?,
            Self::Message(Message::Binary(bytes)) => encode::write_bin(out, bytes)?,
            Self::Gap(Gap::Lagged { missed }) => {
                encode::write_uint(out, *missed)?;
            }
            Self::Gap(Gap::Reconnected { down_for, reason }) => {
                encode::write_uint(out, u64::try_from(down_for.as_nanos()).unwrap_or(u64::MAX))?;
                encode::write_str(out, reason.label())?;
                let (number, words) = details(reason);
                write_option(out, number)?;
                match words {
                    Some(words) => encode::write_str(out, &words)?,
                    None => encode::write_nil(out)?,
                }
            }
            Self::Gap(Gap::Sequence { missed }) => write_option(out, *missed)?,
            Self::Closed { label, words } => {
                encode::write_str(out, label)?;
                encode::write_str(out, words)?;
            }
        }
        Ok(())
    }

    fn read(kind: u64, data: &mut Fields) -> Result<Self, Wrong> {
        Ok(match kind {
            MESSAGE => Self::Message(data.message()?),
            LAGGED => Self::Gap(Gap::Lagged { missed: data.uint()? }),
            SEQUENCE => Self::Gap(Gap::Sequence { missed: data.optional(Fields::uint)? }),
            RECONNECTED => {
                let down_for = Duration::from_nanos(data.uint()?);
                let (label, number) = (data.text()?, data.optional(Fields::uint)?);
                let words = data.optional(Fields::text)?;
                let reason = reason(&label, number, words.as_deref());
                Self::Gap(Gap::Reconnected { down_for, reason })
            }
            _ => Self::Closed { label: data.text()?, words: data.text()? },
        })
    }
}

fn head(out: &mut Vec<u8>, fields: u32, kind: u64) -> io::Result<()> {
    encode::write_array_len(out, fields)?;
    encode::write_uint(out, kind)?;
    Ok(())
}

fn write_option(out: &mut Vec<u8>, number: Option<u64>) -> io::Result<()> {
    match number {
        Some(number) => {
            encode::write_uint(out, number)?;
        }
        None => encode::write_nil(out)?,
    }
    Ok(())
}

/// The elements of an array, one after the other. Payloads are slices of it.
struct Fields {
    data: Bytes,
}

impl Fields {
    fn array(&mut self) -> Result<u32, Wrong> {
        self.take(|from| decode::read_array_len(from).ok(), "no array")
    }

    fn uint(&mut self) -> Result<u64, Wrong> {
        self.take(|from| decode::read_int(from).ok(), "no number where one is due")
    }

    fn sint(&mut self) -> Result<i64, Wrong> {
        self.take(|from| decode::read_int(from).ok(), "no number where one is due")
    }

    fn text(&mut self) -> Result<Text, Wrong> {
        match self.message()? {
            Message::Text(text) => Ok(text),
            Message::Binary(_) => Err(Wrong::Invalid("bytes where text is due")),
        }
    }

    fn message(&mut self) -> Result<Message, Wrong> {
        let is_binary = self.data.first().is_some_and(|first| {
            matches!(Marker::from_u8(*first), Marker::Bin8 | Marker::Bin16 | Marker::Bin32)
        });
        if is_binary {
            let len = self.take(|from| decode::read_bin_len(from).ok(), "no bytes")?;
            return Ok(Message::Binary(self.slice(len)?));
        }
        let len = self.take(|from| decode::read_str_len(from).ok(), "no text where it is due")?;
        let text = Text::try_from(self.slice(len)?);
        text.map(Message::Text).map_err(|_| Wrong::Invalid("text that is not UTF-8"))
    }

    fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        if self.data.first().is_some_and(|first| Marker::from_u8(*first) == Marker::Null) {
            self.data.advance(1);
            return Ok(None);
        }
        read(self).map(Some)
    }

    fn take<T>(
        &mut self,
        read: impl FnOnce(&mut &[u8]) -> Option<T>,
        why: &'static str,
    ) -> Result<T, Wrong> {
        let mut rest = &self.data[..];
        let value = read(&mut rest).ok_or(Wrong::Invalid(why))?;
        let taken = self.data.len() - rest.len();
        self.data.advance(taken);
        Ok(value)
    }

    fn slice(&mut self, len: u32) -> Result<Bytes, Wrong> {
        let len = len as usize;
        if self.data.len() < len {
            return Err(Wrong::Invalid("a length beyond the record's end"));
        }
        Ok(self.data.split_to(len))
    }
}
