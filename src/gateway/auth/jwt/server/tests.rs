use std::future::pending;
use std::sync::atomic::AtomicUsize;

use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::join_all;
use http::Request;
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::gateway::auth::Auth;
use crate::gateway::auth::error::AuthError;
use crate::gateway::auth::jwt::Jwt;
use crate::gateway::auth::jwt::jwks::tests::Signer;
use crate::gateway::defect::are_found;
use crate::gateway::doors::Doors as _;
use crate::gateway::entrance::Entrance;
use crate::gateway::fetch::tests::Server;
use crate::gateway::visitor::Denied;

const ES: JwtAlgorithm = JwtAlgorithm::Es256;

/// Whoever signs: what it publishes, and whether it can be asked.
#[derive(Clone, Default)]
struct Issuer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: Vec<Instant>,
    fails: bool,
    hangs: bool,
    keys: Vec<Value>,
}

impl Issuer {
    fn publishing(keys: impl IntoIterator<Item = Value>) -> Self {
        let issuer = Self::default();
        issuer.publish(keys);
        issuer
    }

    fn publish(&self, keys: impl IntoIterator<Item = Value>) {
        self.0.lock().unwrap().keys = keys.into_iter().collect();
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }

    /// The shortest time between two fetches.
    fn shortest(&self) -> Option<Duration> {
        let asked = &self.0.lock().unwrap().asked;
        asked.windows(2).map(|two| two[1] - two[0]).min()
    }

    fn builder(&self) -> JwksServerBuilder {
        let state = Arc::clone(&self.0);
        let ask = move || -> BoxFuture<'static, _> {
            let state = Arc::clone(&state);
            Box::pin(async move {
                let (hangs, told) = {
                    let mut state = state.lock().unwrap();
                    state.asked.push(Instant::now());
                    let told = json!({ "keys": state.keys });
                    (state.hangs, (!state.fails).then(|| serde_json::from_value(told).unwrap()))
                };
                if hangs {
                    pending::<()>().await;
                }
                // One breath, as of a network.
                sleep(Duration::from_millis(20)).await;
                told.ok_or(FetchError::TimedOut(Duration::ZERO))
            })
        };
        let uri = Uri::from_static("https://id.example.com/keys");
        JwksServerBuilder::new(Box::new(ask), uri, Duration::from_secs(5), [ES]).unwrap()
    }

    fn jwt(&self) -> Jwt {
        Jwt::new("gateway").jwks_server(self.builder().build())
    }
}

/// Whether whoever shows this comes in, as the doors ask it.
async fn is_good(jwt: &Jwt, token: &str) -> bool {
    jwt.prepare(token).await;
    match jwt.check(token) {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e, AuthError::Invalid);
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_token_waits_for_the_keys_and_the_others_find_them() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    let jwt = issuer.jwt();
    let token = signer.token("a");
    assert_eq!(issuer.asked(), 0);
    let first = join_all((0..100).map(|_| is_good(&jwt, &token))).await;
    assert!(first.iter().all(|good| *good));
    assert_eq!(issuer.asked(), 1);
    for _ in 0..100 {
        assert_eq!(is_good(&jwt, &token).now_or_never(), Some(true));
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_is_good_at_once_and_one_that_is_withdrawn_after_the_next_fetch() {
    let (old, new) = (Signer::new(ES), Signer::new(ES));
    let issuer = Issuer::publishing([old.jwk("old")]);
    let jwt = issuer.jwt();
    assert!(is_good(&jwt, &old.token("old")).await);
    advance(Duration::from_secs(60)).await;
    issuer.publish([old.jwk("old"), new.jwk("new")]);
    assert!(is_good(&jwt, &new.token("new")).await, "nobody has to come again");
    assert!(is_good(&jwt, &old.token("old")).await);
    issuer.publish([new.jwk("new")]);
    sleep(Duration::from_secs(611)).await;
    assert!(!is_good(&jwt, &old.token("old")).await);
    assert!(is_good(&jwt, &new.token("new")).await);
}

/// Shows tokens with 2,000 ids that are made up, over 100 s; whether the issuer was asked in bounds.
async fn is_bearable(issuer: &Issuer, show: impl AsyncFn(&str)) -> bool {
    let enemy = Signer::new(ES);
    for n in 0..2000 {
        show(&enemy.token(&format!("made-up-{n}"))).await;
        advance(Duration::from_millis(50)).await;
    }
    let asked = issuer.asked();
    assert!(asked >= 8, "it is asked at all: {asked}");
    asked <= 13 && issuer.shortest().unwrap() >= PAUSE
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_made_up_have_it_asked_at_most_once_in_ten_seconds() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    let jwt = issuer.jwt();
    let token = signer.token("a");
    let show = async |made_up: &str| {
        assert!(!is_good(&jwt, made_up).await);
        assert!(is_good(&jwt, &token).await, "others do not suffer");
    };
    assert!(is_bearable(&issuer, show).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_asks_for_each_id_is_found_out() {
    let issuer = Issuer::default();
    let eager = issuer.builder();
    let show = async |_: &str| drop((eager.ask)().await);
    assert!(!is_bearable(&issuer, show).await);
}

#[tokio::test(start_paused = true)]
async fn while_it_fails_keys_stay_good_and_not_for_ever() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    let server = issuer.builder().stale_for(Duration::from_secs(3600)).build();
    let jwt = Jwt::new("gateway").jwks_server(server.clone());
    let token = signer.token("a");
    assert!(is_good(&jwt, &token).await);
    issuer.0.lock().unwrap().fails = true;
    for _ in 0..5 {
        sleep(Duration::from_secs(660)).await;
        assert!(is_good(&jwt, &token).await);
    }
    assert!(server.failures() > 0);
    sleep(Duration::from_secs(660)).await;
    assert!(!is_good(&jwt, &token).await, "after an hour");
    issuer.0.lock().unwrap().fails = false;
    sleep(Duration::from_secs(60)).await;
    assert!(is_good(&jwt, &token).await, "it tells again");
}

#[tokio::test(start_paused = true)]
async fn a_set_of_no_use_changes_nothing() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    let jwt = issuer.jwt();
    assert!(is_good(&jwt, &signer.token("a")).await);
    let symmetric = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "a" });
    for keys in [vec![], vec![symmetric], vec![signer.jwk("a"); 65]] {
        issuer.publish(keys);
        sleep(Duration::from_secs(660)).await;
        assert!(is_good(&jwt, &signer.token("a")).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_keeps_nobody_for_longer_than_its_time() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    issuer.0.lock().unwrap().hangs = true;
    let jwt = issuer.jwt();
    let before = Instant::now();
    let token = signer.token("a");
    let all = join_all((0..100).map(|_| is_good(&jwt, &token))).await;
    assert!(!all.contains(&true));
    assert!(before.elapsed() <= Duration::from_secs(6), "{:?}", before.elapsed());
}

#[test]
fn one_that_forgets_keeps_or_waits_too_long_is_found_out() {
    let fails = while_it_fails_keys_stay_good_and_not_for_ever;
    let rotated = a_key_that_is_new_is_good_at_once_and_one_that_is_withdrawn_after_the_next_fetch;
    are_found(&[
        (Defect::KeysStayForEver, fails),
        (Defect::FailureForgetsKeys, fails),
        (Defect::FailureForgetsKeys, a_set_of_no_use_changes_nothing),
        (Defect::HangingIsWaitedFor, a_server_that_hangs_keeps_nobody_for_longer_than_its_time),
        (Defect::NewKeyWaits, rotated),
        (Defect::NewKeyWaits, a_key_that_is_new_renews_an_open_connection),
    ]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_by_fetching_has_nothing_fetched() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a"), signer.jwk("b")]);
    let jwt = issuer.jwt();
    for token in ["", "x", "a.b.c", &Signer::new(JwtAlgorithm::EdDsa).token("a"), &"x".repeat(9000)]
    {
        assert_eq!(is_good(&jwt, token).now_or_never(), Some(false), "{token}");
    }
    assert_eq!(issuer.asked(), 0);
    assert!(is_good(&jwt, &signer.token("a")).await);
    sleep(PAUSE * 2).await;
    assert_eq!(is_good(&jwt, &signer.token("")).now_or_never(), Some(false), "which of the two?");
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_renews_an_open_connection() {
    let (old, new) = (Signer::new(ES), Signer::new(ES));
    let issuer = Issuer::publishing([old.jwk("old")]);
    let entrance = Entrance::builder().auth(Auth::new().jwt(issuer.jwt())).build();
    let bearer = format!("Bearer {}", old.token("old"));
    let request = Request::get("/ws").header("authorization", bearer).body(()).unwrap();
    let visitor = entrance.admit(&request.into_parts().0, None).await.unwrap();
    issuer.publish([new.jwk("new")]);
    sleep(PAUSE).await;
    assert_eq!(entrance.renew(&visitor, &new.token("new")).await, Ok(()));
    assert_eq!(visitor.user(), "ann");
    let withdrawn = entrance.renew(&visitor, &old.token("old")).await;
    assert_eq!(withdrawn, Err(Denied::Proof));
}

#[tokio::test(start_paused = true)]
async fn another_configuration_keeps_the_keys_of_the_same_server() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    let old = issuer.builder().build();
    old.fetch().await;
    issuer.0.lock().unwrap().fails = true;
    let new = issuer.builder().build();
    new.inherit(&old);
    let jwt = Jwt::new("gateway").jwks_server(new);
    assert!(is_good(&jwt, &signer.token("a")).await);
    let mut builder = issuer.builder();
    builder.uri = Uri::from_static("https://other.example.com/keys");
    let other = builder.build();
    other.inherit(&old);
    assert!(other.keys().is_empty(), "those are keys of another server");
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_clone() {
    let issuer = Issuer::default();
    let server = issuer.builder().build();
    server.fetch().await;
    let clone = server.clone();
    drop(server);
    sleep(PAUSE).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    drop(clone);
    sleep(PAUSE).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[test]
fn a_task_whose_runtime_has_gone_is_replaced() {
    let signer = Signer::new(ES);
    let issuer = Issuer::publishing([signer.jwk("a")]);
    let server = issuer.builder().build();
    for n in 1..=3 {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(server.fetch());
        assert_eq!(issuer.asked(), n);
    }
}

#[test]
fn only_public_keys_are_published() {
    for algorithms in [vec![], vec![JwtAlgorithm::Hs256], vec![ES, JwtAlgorithm::Hs512]] {
        let server = Fetch::builder("https://id.example.com").unwrap().build().unwrap();
        let refused = JwksServer::builder(server, algorithms);
        assert_eq!(refused.err(), Some(JwksError::Algorithm));
    }
}

#[tokio::test]
async fn keys_come_over_http_and_anything_else_is_none() {
    let signer = Signer::new(ES);
    let keys = json!({ "keys": [signer.jwk("a")] }).to_string();
    let turn = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let (keys, turn) = (keys.clone(), turn.fetch_add(1, Ordering::SeqCst));
        async move { if turn == 0 { keys.into_response() } else { Response::default() } }
    };
    let server = Server::answering(answer).await;
    let keys = |fetch: Fetch| JwksServer::builder(fetch, [ES]).unwrap().build();
    let jwt = Jwt::new("gateway").jwks_server(keys(server.fetch().build().unwrap()));
    assert!(is_good(&jwt, &signer.token("a")).await);
    let again = keys(server.fetch().build().unwrap());
    again.fetch().await;
    assert_eq!((again.fetches(), again.failures(), again.keys().len()), (1, 1, 0));
}
