//! Why something was not fetched.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// Why a server cannot be asked, or has not told.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// The address is none of `https:` or `http:`, or has a user in it.
    Address,
    /// Certificates cannot be used as roots.
    Certificates(Box<dyn Error + Send + Sync>),
    /// A header cannot be sent as it is.
    Header,
    /// The address is `http:` on another machine.
    Plain,
    /// The answer was not `200`.
    Status(StatusCode),
    /// The answer was not there in time.
    TimedOut(Duration),
    /// The answer was longer than so many bytes.
    TooLong(usize),
    /// There was no answer, or not all of it.
    Unreachable(Box<dyn Error + Send + Sync>),
    /// The answer is not the JSON that it has to be; not so from this place on, both counted from one.
    Unreadable {
        /// The line.
        line: usize,
        /// The byte in the line.
        column: usize,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str(
                "the address is of no use: give `https://host/path`, and what is secret in a header",
            ),
            Self::Certificates(_) => f.write_str("the certificates cannot be used as roots"),
            Self::Header => f.write_str("the header is none: a name, and a value on one line"),
            Self::Plain => f.write_str(
                "the address is `http:` on another machine: use `https:`, or say that the network is \
                 trusted",
            ),
            Self::Status(status) if status.is_redirection() => {
                write!(f, "the server answers {status}, and redirects are not followed")
            }
            Self::Status(status) => write!(f, "the server answers {status}"),
            Self::TimedOut(after) => write!(f, "the server has not answered within {after:?}"),
            Self::TooLong(most) => write!(f, "the answer is longer than {most} bytes"),
            Self::Unreachable(_) => f.write_str("the server cannot be reached, or breaks off"),
            Self::Unreadable { line, column } => {
                write!(f, "the answer is not what it has to be, at line {line}, column {column}")
            }
        }
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Certificates(e) | Self::Unreachable(e) => Some(&**e),
            _ => None,
        }
    }
}
