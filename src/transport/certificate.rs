//! What a server's certificate says of itself, and what is wrong with one, for whoever has to mend
//! it. Nothing here decides whether it is trusted: that was done when TLS was set up.

use std::time::SystemTime;

#[cfg(feature = "rustls")]
mod read;

#[cfg(feature = "rustls")]
pub(crate) use read::{fault, names, not_after};

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// It is valid no more.
    Expired {
        /// Since when.
        at: SystemTime,
    },
    /// It is not valid yet.
    NotYetValid {
        /// From when on it will be.
        before: SystemTime,
    },
    /// It is for other names than the host's.
    OtherName {
        /// The names that it is for.
        names: Vec<String>,
    },
    /// Nobody who is trusted has signed it.
    UnknownIssuer,
}
