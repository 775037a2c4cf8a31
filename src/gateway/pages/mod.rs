//! What a person sees: the dashboard at `/`, a page to try a stream at `/try`, and the module for other
//! people's pages, `/client.js`.
//!
//! All of it is compiled in, and asks nobody else for anything. What comes from elsewhere, names and
//! words, is put into the page as text, and neither addresses nor errors' words are shown: a feed's URL
//! is nobody's business who only reads from it. The numbers, at `/overview`, are for whom the doors let
//! in.

mod overview;
mod timeline;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use self::overview::Pages;
use super::shared::Shared;

/// Everything is in the page itself, and it talks to where it came from.
const POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || page(include_str!("index.html"))))
        .route("/overview", get(overview::overview))
        .route("/try", get(async || page(include_str!("try.html"))))
        .with_state(Arc::new(Pages::new(shared)))
}

/// `GET /client.js`.
pub(super) async fn client() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"), // Asked about each time: it goes with the server's version.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, include_str!("client.js")).into_response()
}

fn page(html: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, html).into_response()
}
