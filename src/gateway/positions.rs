//! How far the ids of events have come, for a program that keeps it over a restart.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// How far a gateway's ids of events have come: see [`Gateway::positions`](super::Gateway::positions).
///
/// It is written and read as text, of which nothing but that is promised.
///
/// ```
/// use wsmux::gateway::Positions;
///
/// let kept: Positions = "5eed-7".parse()?;
/// assert_eq!(kept.later(10).to_string(), "5eed-17");
/// # Ok::<(), wsmux::gateway::InvalidPositions>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Positions {
    pub(super) epoch: u64,
    pub(super) number: u64,
}

/// What is read as [`Positions`] are none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct InvalidPositions;

impl Positions {
    /// Where they are `room` ids later: what to write down for a gateway that goes on giving ids, and may end
    /// without another word.
    #[must_use]
    pub const fn later(self, room: u64) -> Self {
        Self { number: self.number.saturating_add(room), ..self }
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.number)
    }
}

impl FromStr for Positions {
    type Err = InvalidPositions;

    fn from_str(text: &str) -> Result<Self, InvalidPositions> {
        let (epoch, number) = text.split_once('-').ok_or(InvalidPositions)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| InvalidPositions)?;
        Ok(Self { epoch, number: number.parse().map_err(|_| InvalidPositions)? })
    }
}

impl fmt::Display for InvalidPositions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these are no positions of a gateway")
    }
}

impl Error for InvalidPositions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_were_written() {
        for number in [0, 1, u64::MAX] {
            let positions = Positions { epoch: u64::MAX, number };
            assert_eq!(positions.to_string().parse(), Ok(positions));
        }
        for text in ["", "-", "7", "7-", "-7", "x-7", "7-x", "7-7-7", "10000000000000000-1"] {
            assert_eq!(text.parse::<Positions>(), Err(InvalidPositions), "{text}");
        }
        let last = Positions { epoch: 1, number: u64::MAX };
        assert_eq!(last.later(1), last, "it does not begin again");
    }
}
