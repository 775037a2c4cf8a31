//! Why somebody is not who they say.

use std::fmt;

/// Why a proof was refused. What it says is the same for a wrong key, a wrong signature and an unknown
/// ticket: who guesses learns nothing. It never holds what was shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AuthError {
    /// It was good once.
    Expired,
    /// It is not good.
    Invalid,
    /// Nothing was shown.
    Missing,
    /// More tickets are out than may be: try again when some have been used or have expired.
    TooManyTickets,
}

impl AuthError {
    /// A stable word for it, as clients see it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Invalid => "unauthorized",
            Self::Missing => "unauthenticated",
            Self::TooManyTickets => "too_many_tickets",
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the token has expired: get a fresh one",
            Self::Invalid => "the token is not valid",
            Self::Missing => "show who you are: `Authorization: Bearer`, or a ticket",
            Self::TooManyTickets => "too many tickets are out: try again later",
        })
    }
}

impl std::error::Error for AuthError {}

/// Why a key of the configuration is of no use. It never holds the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyError {
    /// It is a private key. A gateway verifies, and shall not be able to sign.
    Private,
    /// It could be guessed: a key for HMAC has at least as many bytes as the hash (RFC 7518, 3.2), an
    /// API key at least 20.
    Short,
    /// It is not in the form that its algorithm has.
    Unreadable,
    /// Who it is for is no name of a user: one of 1 to 256 bytes, without control characters.
    User,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "this is a private key: give the public one",
            Self::Short => "the key is too short",
            Self::Unreadable => "the key is not in the form that its algorithm has",
            Self::User => "a user's name has 1 to 256 bytes and no control characters",
        })
    }
}

impl std::error::Error for KeyError {}
