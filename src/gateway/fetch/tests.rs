use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::any;
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::gateway::defect::are_found;

/// More than anything takes that works: nothing depends on the machine's speed.
const AGES: Duration = Duration::from_secs(60);

/// A server on this machine, for as long as it is held.
pub(in crate::gateway) struct Server {
    at: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(in crate::gateway) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { at, task }
    }

    /// One that answers everything in one way.
    pub(in crate::gateway) async fn answering<F, R>(answer: F) -> Self
    where
        F: Fn() -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        Self::start(Router::new().fallback(any(answer))).await
    }

    pub(in crate::gateway) fn url(&self) -> String {
        format!("http://{}/asked?key=canary-query", self.at)
    }

    pub(in crate::gateway) fn fetch(&self) -> FetchBuilder {
        Fetch::builder(&self.url()).unwrap().timeout(AGES)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is not told in full is not told.
pub(in crate::gateway) fn endless(pieces: &'static [&'static str]) -> Response {
    let told = stream::iter(pieces.iter().copied().map(Ok::<_, Infallible>));
    Body::from_stream(told.chain(stream::pending())).into_response()
}

fn all_of(e: &FetchError) -> String {
    let mut text = format!("{e} {e:?}");
    let mut next = e.source();
    while let Some(e) = next {
        text += &format!(" {e} {e:?}");
        next = e.source();
    }
    text
}

#[tokio::test]
async fn an_answer_is_the_json_behind_200() {
    let server = Server::answering(async || r#"{"a":1}"#.into_response()).await;
    let fetch = server.fetch().build().unwrap();
    assert_eq!(fetch.post::<Value>("{}").await.unwrap()["a"], 1);
}

#[tokio::test]
async fn whatever_is_not_200_is_a_failure_and_what_it_says_is_not_read() {
    for status in [204, 206, 301, 307, 400, 401, 404, 429, 500, 503] {
        let answer = move || async move {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("location", "/elsewhere")], r#"{"a":1}"#).into_response()
        };
        let server = Server::answering(answer).await;
        let told = server.fetch().build().unwrap().post::<Value>("{}").await;
        assert!(
            matches!(told, Err(FetchError::Status(got)) if got.as_u16() == status),
            "{status}: {told:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_takes_the_secret_nowhere() {
    let elsewhere = Server::answering(async || panic!("it was followed")).await;
    let to = elsewhere.url();
    let server = Server::answering(move || {
        let to = to.clone();
        async move { Redirect::temporary(&to).into_response() }
    })
    .await;
    let secret = Secret::new("canary-secret");
    let fetch = server.fetch().secret_header("x-key", &secret).unwrap().build().unwrap();
    let e = fetch.post::<Value>("{}").await.unwrap_err();
    assert!(e.to_string().contains("redirects are not followed"), "{e}");
}

#[tokio::test]
async fn an_answer_that_is_no_json_says_where_and_not_what() {
    for (text, column) in [("canary", 1), ("{\"canary\":", 10), ("", 0), ("{} canary", 4)] {
        let server = Server::answering(move || async move { text.into_response() }).await;
        let told = server.fetch().build().unwrap().post::<Value>("{}").await;
        let e = told.unwrap_err();
        assert!(
            matches!(e, FetchError::Unreadable { column: at, .. } if at == column),
            "{text}: {e:?}"
        );
        assert!(!all_of(&e).contains("canary"), "{}", all_of(&e));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_given_up_where_it_is() {
    let long = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for (bytes, is_told) in [(1000, true), (1001, false), (100_000, false)] {
        let server = Server::answering(move || async move { long(bytes).into_response() }).await;
        let fetch = server.fetch().max_answer(1000).build().unwrap();
        match fetch.post::<Value>("{}").await {
            Ok(_) => assert!(is_told, "{bytes}"),
            Err(e) => assert!(!is_told && matches!(e, FetchError::TooLong(1000)), "{bytes}: {e:?}"),
        }
    }
    // One that never ends and does not say how long it is.
    let server = Server::answering(async || {
        Body::from_stream(stream::repeat(Ok::<_, Infallible>("x".repeat(1000)))).into_response()
    })
    .await;
    let told = server.fetch().build().unwrap().post::<Value>("{}").await;
    assert!(matches!(told, Err(FetchError::TooLong(_))), "{told:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_full_is_given_up_in_time() {
    let silent = Server::answering(std::future::pending::<Response>).await;
    let stuck = Server::answering(async || endless(&["{", "\"a\""])).await;
    for server in [silent, stuck] {
        let fetch = server.fetch().timeout(Duration::from_millis(200)).build().unwrap();
        let told = timeout(AGES, fetch.post::<Value>("{}")).await.unwrap();
        assert!(matches!(told, Err(FetchError::TimedOut(_))), "{told:?}");
    }
}

/// What the time is for: without it who asks waits for the rest.
#[tokio::test]
async fn where_there_is_time_half_an_answer_is_waited_for() {
    let stuck = Server::answering(async || endless(&["{", "\"a\""])).await;
    let patient = stuck.fetch().build().unwrap();
    let mut patient = std::pin::pin!(patient.post::<Value>("{}"));
    assert!(futures::poll!(&mut patient).is_pending());
    let hasty = stuck.fetch().timeout(Duration::from_millis(200)).build().unwrap();
    let told = timeout(AGES, hasty.post::<Value>("{}")).await.unwrap();
    assert!(matches!(told, Err(FetchError::TimedOut(_))), "{told:?}");
    assert!(futures::poll!(&mut patient).is_pending());
}

#[test]
fn one_that_takes_any_answer_is_found_out() {
    are_found(&[
        (Defect::StatusIsNotJudged, whatever_is_not_200_is_a_failure_and_what_it_says_is_not_read),
        (Defect::StatusIsNotJudged, a_redirect_takes_the_secret_nowhere),
        (Defect::AnswerIsBoundless, an_answer_that_is_too_long_is_given_up_where_it_is),
    ]);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_breaks_off_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let fetch = Fetch::builder(&url).unwrap().timeout(AGES).build().unwrap();
    let (told, ()) = tokio::join!(fetch.post::<Value>("{}"), async {
        drop(listener.accept().await.unwrap());
        drop(listener);
    });
    assert!(matches!(told, Err(FetchError::Unreachable(_))), "{told:?}");
    let told = fetch.post::<Value>("{}").await;
    assert!(matches!(told, Err(FetchError::Unreachable(_))), "{told:?}");
}

#[tokio::test]
async fn the_secret_is_sent_and_in_no_print_and_no_error() {
    let server = Server::start(Router::new().fallback(any(|headers: HeaderMap| async move {
        let shown = headers.get("x-key").map(|value| value.to_str().unwrap().to_owned());
        axum::Json(shown)
    })))
    .await;
    let secret = Secret::new("canary-secret");
    let builder = server.fetch().secret_header("x-key", &secret).unwrap();
    let mut text = format!("{builder:?}");
    let fetch = builder.build().unwrap();
    assert_eq!(fetch.post::<String>("{}").await.unwrap(), "canary-secret");
    text += &format!("{fetch:?}");
    text += &all_of(&fetch.post::<u8>("{}").await.unwrap_err());
    drop(server);
    text += &all_of(&fetch.post::<u8>("{}").await.unwrap_err());
    let line = Secret::new("canary\nx: y");
    text +=
        &all_of(&fetch_builder("http://localhost").secret_header("x-key", &line).err().unwrap());
    assert!(!text.contains("canary"), "{text}");
}

fn fetch_builder(url: &str) -> FetchBuilder {
    Fetch::builder(url).unwrap()
}

#[test]
fn another_machine_is_asked_by_https_unless_the_network_is_trusted() {
    for here in ["http://127.0.0.1/", "http://[::1]:80/", "http://LOCALHOST", "http://127.9.9.9"] {
        assert!(fetch_builder(here).build().is_ok(), "{here}");
    }
    for there in ["http://192.0.2.1/", "http://localhost.example.com", "http://[2001:db8::1]/"] {
        let refused = fetch_builder(there).build();
        assert!(matches!(refused, Err(FetchError::Plain)), "{there}: {refused:?}");
        assert!(fetch_builder(there).plain(true).build().is_ok(), "{there}");
    }
}

#[test]
fn an_address_is_http_and_has_no_user_in_it() {
    for wrong in
        ["", "/tiers", "users.example.com", "ftp://a/", "https://", "https://a:b@c/", "a b"]
    {
        let refused = Fetch::builder(wrong);
        assert!(matches!(refused, Err(FetchError::Address)), "{wrong}");
    }
}

#[test]
fn roots_are_certificates() {
    let none = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    for pem in ["", "canary", none, damaged] {
        let added = fetch_builder("https://a/").add_root_pem(pem.as_bytes());
        let refused = match added {
            Ok(builder) => builder.build().err(),
            Err(e) => Some(e),
        };
        assert!(matches!(refused, Some(FetchError::Certificates(_))), "{pem}");
    }
}

#[cfg(feature = "test-util")]
#[tokio::test]
async fn a_server_is_believed_whose_certificate_is_by_a_root_that_is_trusted() {
    use crate::test_util::{Certificate, MockServer};

    let all = [
        (Certificate::Valid, true),
        (Certificate::Expired, false),
        (Certificate::OtherName, false),
        (Certificate::UnknownCa, false),
    ];
    for (certificate, is_good) in all {
        let server = MockServer::builder().tls(certificate).start().await.unwrap();
        let url = server.url().replacen("wss://", "https://", 1);
        let trusting = fetch_builder(&url).add_root_pem(server.root_pem().as_bytes()).unwrap();
        for (builder, is_good) in [(trusting, is_good), (fetch_builder(&url), false)] {
            // Behind TLS is a server of WebSockets, which does not answer this. What counts is why.
            let told = builder.timeout(AGES).build().unwrap().post::<Value>("{}").await;
            let why = all_of(&told.unwrap_err());
            assert_eq!(why.contains("InvalidCertificate"), !is_good, "{certificate:?}: {why}");
        }
    }
}
