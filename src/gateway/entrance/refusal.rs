//! How somebody is refused: an ordinary response, with a stable word and nothing of the inside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::gateway::auth::AuthError;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Address,
    Auth(AuthError),
    Full,
    Origin,
    User,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Address | Self::Auth(AuthError::TooManyTickets) | Self::User => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Auth(_) => StatusCode::UNAUTHORIZED,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Address => "too_many_of_address",
            Self::Auth(e) => e.code(),
            Self::Full => "full",
            Self::Origin => "origin",
            Self::User => "too_many_of_user",
        }
    }

    fn text(self) -> String {
        match self {
            Self::Address => "your address has as many connections as it may".to_owned(),
            Self::Auth(e) => e.to_string(),
            Self::Full => "there is no place left: try again later".to_owned(),
            Self::Origin => "pages of this origin may not connect".to_owned(),
            Self::User => "you have as many connections as you may".to_owned(),
        }
    }

    pub(super) fn answer(self, retry_after: Duration) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let status = self.status();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
            }
            _ => {}
        }
        let body = Json(json!({ "error": self.code(), "message": self.text() }));
        (status, headers, body).into_response()
    }
}

/// All there are, in the order in which they are shown.
const ALL: [Refusal; 8] = [
    Refusal::Address,
    Refusal::Auth(AuthError::Expired),
    Refusal::Auth(AuthError::Invalid),
    Refusal::Auth(AuthError::Missing),
    Refusal::Auth(AuthError::TooManyTickets),
    Refusal::Full,
    Refusal::Origin,
    Refusal::User,
];

/// How many were refused, and why.
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicU64; 8]);

impl Refused {
    pub(super) fn count(&self, refusal: Refusal) {
        let place = ALL.iter().position(|other| *other == refusal);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn all(&self) -> [(&'static str, u64); 8] {
        std::array::from_fn(|n| (ALL[n].code(), self.0[n].load(Ordering::Relaxed)))
    }
}
