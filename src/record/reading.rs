//! Why a recording cannot be read, or not any further.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Why a recording cannot be read, or not any further. What is before `at` has been read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// A record is not what was written: its checksum is wrong, and more follows it.
    Corrupt {
        /// Where it begins, in bytes from the start of the file.
        at: u64,
    },
    /// A record is whole, and not what a recorder writes.
    Invalid {
        /// Where it begins, in bytes from the start of the file.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The file cannot be read.
    Io(io::Error),
    /// The file does not begin as a recording does.
    NotARecording,
    /// A record is larger than is allowed, see [`Records::max_record`](super::Records::max_record).
    TooLarge {
        /// Where it begins, in bytes from the start of the file.
        at: u64,
        /// Its bytes.
        len: u64,
        /// What is allowed.
        max: usize,
    },
    /// The file ends within a record, as one does whose writer was killed. Everything before it is
    /// whole.
    Torn {
        /// Where that record begins, in bytes from the start of the file.
        at: u64,
    },
    /// The file is of a later version.
    Version {
        /// That version.
        found: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { at } => write!(f, "the recording is damaged at byte {at}"),
            Self::Invalid { at, why } => write!(f, "the recording is no use at byte {at}: {why}"),
            Self::Io(e) => write!(f, "the recording cannot be read: {e}"),
            Self::NotARecording => f.write_str("the file is not a recording"),
            Self::TooLarge { at, len, max } => write!(
                f,
                "the record at byte {at} has {len} bytes, at most {max} are allowed: raise \
                 `max_record`"
            ),
            Self::Torn { at } => write!(f, "the recording is torn off at byte {at}"),
            Self::Version { found } => {
                write!(f, "the recording is of version {found}: use a newer wsmux")
            }
        }
    }
}

impl StdError for ReadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Io(e) => e.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
