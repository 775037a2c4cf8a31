//! Why a stream does not come, or comes badly: one dial, taken apart.
//!
//! [`doctor`](fn@doctor) opens one socket as a [`WsManager`](crate::WsManager) would, by the same
//! code, and looks at each step on the way: DNS, TCP, a proxy, TLS, the handshake, the first message, ping
//! and pong, the server's clock, the closing. What comes of it is a [`Diagnosis`]: data for a
//! program, and text for a person.
//!
//! - Each step is bounded in time, and so is the whole.
//! - A step that fails ends the examination; what comes after it was not reached, and says so.
//! - A quiet stream, a server that does not close in good form and the like are warnings: the stream
//!   works.
//! - No secret is shown: no query, no user-info, no header that was sent.

mod advice;
mod clock;
mod json;
mod options;
mod reach;
mod report;
mod talk;
mod text;

use std::error::Error as StdError;
use std::fmt;

use crate::name::{InvalidName, StreamName};
use crate::protocol::{Dial, DialError, Direct, Protocol as _, UrlError};

use reach::Examination;

pub use crate::transport::certificate::CertificateFault;
pub use advice::advice;
pub use clock::ClockSkew;
pub use options::DoctorOptions;
pub use report::{Attempt, AttemptEnd, Diagnosis, Finding, Outcome, Step, StepKind};

/// Examines the stream `name` under `base`, which are those of
/// [`WsManager::connect`](crate::WsManager::connect).
///
/// Takes as long as the steps do. A step lasts at most [`timeout`](DoctorOptions::timeout), but for
/// the first message, which may take [`listen`](DoctorOptions::listen). Dropping the future drops
/// the socket.
///
/// # Errors
///
/// When there is nothing to dial: `base` or `name` is not valid. What goes wrong later is in the
/// diagnosis.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use wsmux::doctor::{DoctorOptions, Outcome};
///
/// let base = "wss://stream.binance.com:9443/ws";
/// let diagnosis = wsmux::doctor(base, "btcusdt@trade", DoctorOptions::default()).await?;
/// println!("{diagnosis}");
/// if diagnosis.outcome() == Outcome::Failed {
///     println!("this is where it ends: {:?}", diagnosis.failed());
/// }
/// # Ok(())
/// # }
/// ```
pub async fn doctor(
    base: &str,
    name: impl AsRef<str>,
    options: DoctorOptions,
) -> Result<Diagnosis, DoctorError> {
    let direct = Direct::new(base).map_err(DoctorError::Url)?;
    let name = StreamName::try_from(name.as_ref()).map_err(DoctorError::Name)?;
    let lane = direct.lane(&name).map_err(DoctorError::Name)?;
    let names = [name];
    let request = direct.request(&Dial::first(&lane, &names)).map_err(DoctorError::Request)?;
    let request = options
        .headers
        .iter()
        .fold(request, |request, (name, value)| request.header(name.clone(), value.clone()));
    let [name] = names;
    Ok(Examination::new(request, options).run(name).await)
}

/// Why there was nothing to examine.
#[derive(Debug)]
#[non_exhaustive]
pub enum DoctorError {
    /// The name is not one of a stream.
    Name(InvalidName),
    /// The name makes no valid URL of the base.
    Request(DialError),
    /// The base is not a WebSocket URL.
    Url(UrlError),
}

impl fmt::Display for DoctorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(e) => write!(f, "invalid stream name: {e}"),
            Self::Request(e) => fmt::Display::fmt(e, f),
            Self::Url(e) => write!(f, "invalid URL: {e}"),
        }
    }
}

impl StdError for DoctorError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Name(e) => Some(e),
            Self::Request(e) => Some(e),
            Self::Url(e) => Some(e),
        }
    }
}
