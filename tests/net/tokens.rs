//! Nothing that is logged or printed shows a token, wherever it goes and whatever becomes of it.

use std::io;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use wsmux::protocol::{
    Cx, Dial, DialError, Direct, Lane, Protocol, Request, Session, To, Url, Verdict,
};
use wsmux::test_util::{Answer, Certificate, MockServer, Peer};
use wsmux::transport::{Tls, Tungstenite};
use wsmux::{Credentials, InvalidName, Message, StreamName, Token, TokenReason};

use crate::secrets::{Said, Shown, logged_with, show_all};
use crate::{NAME, Net, PATH, builder, config};

/// A token that each place can carry.
const TOKEN: &str = "canary-token.of_today";
const SHOWN: [&str; 2] = ["canary-", "Y2FuYXJ5"];

/// Where a token goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Band,
    Bearer,
    Header,
    Query,
    Subprotocol,
}

const PLACES: [Place; 5] =
    [Place::Band, Place::Bearer, Place::Header, Place::Query, Place::Subprotocol];

impl Place {
    fn set(self, credentials: Credentials) -> Credentials {
        match self {
            Self::Band => credentials.in_band(),
            Self::Bearer => credentials,
            Self::Header => credentials.in_header(HeaderName::from_static("x-api-key")),
            Self::Query => credentials.in_query("token"),
            Self::Subprotocol => credentials.in_subprotocol("bearer."),
        }
    }

    /// An answer that opens the WebSocket.
    fn accepting(self) -> Answer {
        match self {
            Self::Subprotocol => {
                Answer::Accept.with_header("sec-websocket-protocol", format!("bearer.{TOKEN}"))
            }
            _ => Answer::Accept,
        }
    }

    /// Checks that there was something to be shown.
    async fn assert_sent(self, peer: &Peer) {
        let said = match self {
            Self::Band => format!("{:?}", peer.recv_message().await),
            _ => format!("{:?} {:?}", peer.query(), peer.headers()),
        };
        assert!(said.contains(TOKEN), "{self:?}: {said}");
    }
}

/// `Direct`, whose session sends the token first where it goes in band.
struct Sends {
    direct: Direct,
    place: Place,
    shown: Shown,
}

impl Protocol for Sends {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.direct.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        self.shown.print(dial);
        self.direct.request(dial)
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        self.shown.print(dial);
        match self.place {
            Place::Band => Box::new(SendsFirst(self.shown.clone())),
            _ => self.direct.session(dial),
        }
    }
}

struct SendsFirst(Shown);

impl Session for SendsFirst {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.0.print(&cx);
        self.0.print(&cx.token());
        cx.push(cx.token().unwrap().expose().to_owned());
        cx.ready();
    }

    fn join(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text() {
            Some(words) if words.starts_with("refused") => cx.failed(Verdict::NewToken, words),
            Some(words) if words.starts_with("rejected") => cx.rejected(NAME, words),
            _ => cx.data(To::All, message.clone()),
        }
    }
}

async fn fresh(_: TokenReason) -> Result<Token, io::Error> {
    Ok(Token::new(TOKEN).expires_at(SystemTime::now() + Duration::from_secs(900)))
}

/// All that is shown of a stream whose token goes to `place`, whose dials are answered so, and whose
/// sockets have this done to them.
async fn shown_of(place: Place, said: Said, answer: Answer, does: impl AsyncFn(&Peer)) -> String {
    let shown = Shown::default();
    let _looking = logged_with(&shown, said);
    let server = MockServer::start().await.unwrap();
    server.set_answer(PATH, answer);
    let direct = Direct::new(&format!("{}/ws", server.url())).unwrap();
    let credentials = place.set(Credentials::new(fresh));
    shown.print(&credentials);
    let protocol = Sends { direct, place, shown: shown.clone() };
    let builder = builder(protocol, config()).credentials(credentials);
    shown.print(&builder);
    show_all(&shown, Net::of(server, builder), async |peer| {
        place.assert_sent(peer).await;
        does(peer).await;
    })
    .await;
    shown.text()
}

fn assert_clean(what: &str, shown: &str) {
    for canary in SHOWN {
        let line = shown.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary} is shown: {what}");
    }
    assert!(shown.contains("log TRACE"), "the `log` crate was looked at: {what}");
}

#[tokio::test]
async fn no_answer_to_a_dial_has_a_token_shown() {
    for place in PLACES {
        for status in [301, 400, 401, 403, 429, 503] {
            let answer = Answer::status(status)
                .with_header("location", format!("ws://elsewhere/?token={TOKEN}"))
                .with_header("www-authenticate", format!("Bearer error=\"{TOKEN}\""));
            let shown = shown_of(place, Said::Counts, answer, async |_| unreachable!()).await;
            assert_clean(&format!("{place:?} {status}"), &shown);
        }
        for answer in [Answer::WrongAccept, Answer::EndOfFile, Answer::Refuse] {
            let what = format!("{place:?} {answer:?}");
            let shown = shown_of(place, Said::Counts, answer, async |_| unreachable!()).await;
            assert_clean(&what, &shown);
        }
    }
}

#[tokio::test]
async fn no_end_of_a_socket_has_a_token_shown() {
    for place in PLACES {
        // What a session sends is in the mock server's log, and so is what that says. All else of what
        // is there is not.
        let said = if place == Place::Band { Said::PassedOver } else { Said::Counts };
        let shown = shown_of(place, said, place.accepting(), async |peer| peer.fin()).await;
        assert_clean(&format!("{place:?} FIN"), &shown);
        let shown = shown_of(place, said, place.accepting(), async |peer| {
            peer.send("no number").await;
            peer.reset();
        });
        assert_clean(&format!("{place:?} RST"), &shown.await);
        for code in [1001, 4401, 4500] {
            let shown = shown_of(place, Said::PassedOver, place.accepting(), async |peer| {
                peer.close(code, &format!("invalid token {TOKEN}!")).await;
            })
            .await;
            assert_clean(&format!("{place:?} {code}"), &shown);
            assert!(shown.contains("invalid token ***!"), "{shown}");
        }
    }
}

#[tokio::test]
async fn what_a_server_says_of_a_token_in_band_is_shown_without_it() {
    for word in ["refused", "rejected"] {
        let place = Place::Band;
        let shown = shown_of(place, Said::PassedOver, Answer::Accept, async |peer| {
            peer.send(format!("{word} {TOKEN}, cut {}", &TOKEN[..12])).await;
        })
        .await;
        assert_clean(word, &shown);
        assert!(shown.contains(&format!("{word} ***, cut ***")), "{shown}");
    }
}

#[tokio::test]
async fn the_words_of_a_provider_that_fails_or_panics_are_not_shown() {
    type Provider = fn() -> Credentials;
    let providers: [(&str, Provider); 3] = [
        ("error", || {
            let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, TOKEN);
            Credentials::new(move |_| async move { Err::<Token, _>(refused()) })
        }),
        ("words", || Credentials::new(|_| async { Err::<Token, _>(TOKEN) })),
        ("panic", || {
            // Not by the macro: its text is the program's own affair, and for its own hook.
            Credentials::new(|_| async {
                std::panic::resume_unwind(Box::new(TOKEN));
                #[expect(unreachable_code, reason = "tells the type")]
                Err::<Token, _>(TOKEN)
            })
        }),
    ];
    for (what, credentials) in providers {
        let shown = Shown::default();
        let _looking = logged_with(&shown, Said::Counts);
        let server = MockServer::start().await.unwrap();
        let direct = Direct::new(&format!("{}/ws", server.url())).unwrap();
        let builder = builder(direct, config()).credentials(credentials());
        show_all(&shown, Net::of(server, builder), async |_| unreachable!()).await;
        let text = shown.text();
        assert!(!text.contains("canary-"), "{what}: {text}");
        assert!(text.contains("no token could be had: its provider"), "{what}: {text}");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_is_not_shown_either() {
    for place in [Place::Bearer, Place::Header, Place::Subprotocol] {
        let shown = Shown::default();
        let _looking = logged_with(&shown, Said::Counts);
        let server = MockServer::start().await.unwrap();
        let direct = Direct::new(&format!("{}/ws", server.url())).unwrap();
        let token = Token::new(format!("{TOKEN}\r\nX: y"));
        let credentials = place.set(Credentials::new(token));
        let builder = builder(direct, config()).credentials(credentials);
        show_all(&shown, Net::of(server, builder), async |_| unreachable!()).await;
        let text = shown.text();
        assert!(!text.contains("canary-"), "{place:?}: {text}");
        assert!(text.contains("the token has characters"), "{place:?}: {text}");
    }
}

#[tokio::test]
async fn a_bad_certificate_has_no_token_shown() {
    let shown = Shown::default();
    let _looking = logged_with(&shown, Said::Counts);
    let server = MockServer::builder().tls(Certificate::OtherName).start().await.unwrap();
    let tls = Tls::empty().add_root_pem(server.root_pem().as_bytes()).unwrap();
    let url = Url::parse(&format!("{}/ws?token={TOKEN}", server.url())).unwrap();
    shown.print(&url);
    let direct = Direct::new(&format!("{}/ws?token={TOKEN}", server.url())).unwrap();
    let transport = Tungstenite::new().tls(tls);
    let builder = builder(direct, config()).credentials(fresh).transport(transport);
    show_all(&shown, Net::of(server, builder), async |_| unreachable!()).await;
    assert!(!shown.text().contains("canary-"), "{}", shown.text());
}

/// A check that sees nothing finds nothing.
#[tokio::test]
async fn a_token_in_a_log_is_noticed() {
    let shown = Shown::default();
    let looking = logged_with(&shown, Said::Counts);
    log::debug!("by the log crate: {TOKEN}");
    tracing::debug!(target: "wsmux", "by tracing: {TOKEN}");
    drop(looking);
    log::debug!("not looked at: {TOKEN}");
    assert_eq!(shown.text().matches(TOKEN).count(), 2, "{}", shown.text());
}
