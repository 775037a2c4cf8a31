use axum::body::Body;
use futures::FutureExt as _;
use http::header::{AUTHORIZATION, HOST, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::gateway::auth::ApiKeys;
use crate::gateway::defect::{Defect, are_found};
use crate::gateway::tiers::{MemoryTiers, Pattern};
use crate::name::StreamName;

const ANN: &str = "the-key-of-ann-0123456789";
const BOB: &str = "the-key-of-bob-0123456789";

fn auth() -> Auth {
    let mut keys = ApiKeys::new();
    keys.add("ann", ANN).unwrap();
    keys.add("bob", BOB).unwrap();
    Auth::new().api_keys(keys)
}

fn builder() -> EntranceBuilder {
    Entrance::builder().auth(auth())
}

/// Two connections and trades only.
fn free() -> Tier {
    Tier { connections: 2, patterns: vec![Pattern::new("*@trade")], ..Tier::new("free") }
}

fn request(key: Option<&str>, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get("/ws").header(HOST, "streams.example.com");
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn peer(address: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.parse().unwrap(), 4711))
}

async fn come(entrance: &Entrance, parts: &Parts) -> Result<Visitor, Response> {
    entrance.admit(parts, peer("192.0.2.1")).await
}

async fn refused(entrance: &Entrance, parts: &Parts) -> (u16, Option<String>, String) {
    let answer = come(entrance, parts).await.expect_err("it was let in");
    let status = answer.status().as_u16();
    let retry = answer.headers().get(RETRY_AFTER).map(|after| after.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status, retry, body["error"].as_str().unwrap().to_owned())
}

fn name(text: &str) -> StreamName {
    StreamName::try_from(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_or_the_wrong_thing_is_not_let_in() {
    let entrance = builder().build();
    let (status, retry, code) = refused(&entrance, &request(None, &[])).await;
    assert_eq!((status, retry, &*code), (401, None, "unauthenticated"));
    let (status, _, code) = refused(&entrance, &request(Some("wrong"), &[])).await;
    assert_eq!((status, &*code), (401, "unauthorized"));
    assert_eq!(come(&entrance, &request(Some(ANN), &[])).await.unwrap().user(), "ann");
}

#[tokio::test(start_paused = true)]
async fn a_user_over_the_limit_is_refused_before_the_upgrade_and_comes_in_when_one_has_gone() {
    let entrance = builder().tiers(Tiers::one(free())).build();
    let ann = request(Some(ANN), &[]);
    let (first, _second) =
        (come(&entrance, &ann).await.unwrap(), come(&entrance, &ann).await.unwrap());
    let (status, retry, code) = refused(&entrance, &ann).await;
    assert_eq!((status, retry.as_deref(), &*code), (429, Some("10"), "too_many_of_user"));
    assert!(come(&entrance, &request(Some(BOB), &[])).await.is_ok(), "another user");
    drop(first);
    assert!(come(&entrance, &ann).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_address_over_the_limit_is_refused_and_an_ipv6_customer_is_one() {
    let entrance = builder().per_address(1).build();
    let ann = request(Some(ANN), &[]);
    let _held = entrance.admit(&ann, peer("2001:db8:1:2::1")).await.unwrap();
    let answer =
        entrance.admit(&ann, peer("2001:db8:1:2::2")).await.expect_err("the same customer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key(RETRY_AFTER));
    assert!(entrance.admit(&ann, peer("2001:db8:1:3::1")).await.is_ok());
    let forwarded = request(Some(ANN), &[("x-forwarded-for", "203.0.113.9")]);
    let answer = entrance.admit(&forwarded, peer("2001:db8:1:2::3")).await;
    assert!(answer.is_err(), "what a client says of its address does not count");
}

/// What the doors are for: the twin of the tests beside it, each with one of them taken out.
#[tokio::test(start_paused = true)]
async fn where_a_door_is_taken_out_whom_it_refuses_comes_in() {
    let (ann, nobody) = (request(Some(ANN), &[]), request(None, &[]));
    let evil = request(Some(ANN), &[("origin", "https://evil.example")]);
    assert!(come(&builder().origins(Origins::any()).build(), &evil).await.is_ok());
    assert!(come(&builder().anonymous(true).build(), &nobody).await.is_ok());

    let boundless = Tier { connections: usize::MAX, ..free() };
    let entrance = builder().tiers(Tiers::one(boundless)).per_address(usize::MAX).build();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(come(&entrance, &ann).await.unwrap());
    }

    let ours = Addresses::new().proxies(["2001:db8::/32".parse().unwrap()]);
    let entrance = builder().per_address(1).addresses(ours).build();
    let _held = entrance.admit(&ann, peer("2001:db8:1:2::1")).await.unwrap();
    let forwarded = request(Some(ANN), &[("x-forwarded-for", "203.0.113.9")]);
    assert!(entrance.admit(&forwarded, peer("2001:db8:1:2::2")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_origin_is_refused_whatever_it_shows() {
    let entrance = builder().build();
    let evil = request(Some(ANN), &[("origin", "https://evil.example")]);
    let (status, _, code) = refused(&entrance, &evil).await;
    assert_eq!((status, &*code), (403, "origin"));
    assert!(entrance.refused().contains(&("origin", 1)), "and it is counted");
    let own = request(Some(ANN), &[("origin", "https://streams.example.com")]);
    assert!(come(&entrance, &own).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn when_all_places_are_taken_it_says_so() {
    let entrance = builder().connections(1).build();
    let _held = come(&entrance, &request(Some(ANN), &[])).await.unwrap();
    let (status, retry, code) = refused(&entrance, &request(Some(BOB), &[])).await;
    assert_eq!((status, retry.as_deref(), &*code), (503, Some("10"), "full"));
    let none = builder().descriptors(Descriptors::share(0.0)).build();
    if cfg!(target_os = "linux") {
        assert_eq!(refused(&none, &request(Some(ANN), &[])).await.0, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_come_and_are_refused_or_go_away_leave_no_place_taken() {
    let tiers = Tiers::builder(free()).source(MemoryTiers::new([("ann", "free")])).build();
    let entrance = builder().tiers(tiers).build();
    let (ann, wrong) = (request(Some(ANN), &[]), request(Some("wrong"), &[]));
    for n in 0..10_000 {
        match n % 3 {
            // It goes away while it is looked at, if it has to wait at all.
            0 => drop(come(&entrance, &ann).now_or_never()),
            1 => drop(come(&entrance, &ann).await),
            _ => drop(come(&entrance, &wrong).await),
        }
    }
    assert_eq!(entrance.connections(), 0);
    assert!(entrance.tiers().users().is_empty());
    let kept = (come(&entrance, &ann).await.unwrap(), come(&entrance, &ann).await.unwrap());
    assert_eq!(entrance.connections(), 2);
    drop(kept);
}

/// What is given back, looked at again and counted, each where it is not.
#[test]
fn an_entrance_that_keeps_places_and_tiers_or_does_not_count_is_found_out() {
    are_found(&[
        (
            Defect::PlaceIsKept,
            ten_thousand_who_come_and_are_refused_or_go_away_leave_no_place_taken,
        ),
        (Defect::TierIsKept, a_downgrade_takes_effect_on_a_connection_that_stays),
    ]);
    if cfg!(target_os = "linux") {
        are_found(&[(Defect::DescriptorsAreNotCounted, when_all_places_are_taken_it_says_so)]);
    }
}

#[tokio::test(start_paused = true)]
async fn anonymous_clients_come_in_only_where_they_may_and_are_of_the_lowest_tier() {
    let entrance = builder().anonymous(true).tiers(Tiers::one(free())).build();
    let nobody = request(None, &[]);
    let all: Vec<_> = [
        come(&entrance, &nobody).await,
        come(&entrance, &nobody).await,
        come(&entrance, &nobody).await,
    ]
    .into_iter()
    .map(Result::unwrap)
    .collect();
    assert_eq!(&*all[0].standing().tier(), "free", "and they are not one user of two connections");
    assert_eq!(refused(&entrance, &request(Some("wrong"), &[])).await.0, 401);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_client_may_say_in_band_who_it_is_and_reads_nothing_until_then() {
    let entrance = builder().tiers(Tiers::one(free())).build();
    let upgrade = request(None, &[("upgrade", "WebSocket")]);
    let visitor = come(&entrance, &upgrade).await.unwrap();
    let trades = name("btcusdt@trade");
    assert_eq!(visitor.may_read(&trades), Err(Denied::Proof));
    assert_eq!((visitor.standing().max_names(), visitor.user()), (0, "unknown"));
    let left = visitor.expires_at().unwrap() - Instant::now();
    assert_eq!(left, Duration::from_secs(10), "it has so long to say it");
    assert_eq!(entrance.renew(&visitor, "wrong").await, Err(Denied::Proof));
    assert_eq!(visitor.may_read(&trades), Err(Denied::Proof));
    let before = visitor.standing().version();
    assert_eq!(entrance.renew(&visitor, ANN).await, Ok(()));
    assert_ne!(visitor.standing().version(), before);
    assert_eq!(visitor.may_read(&trades), Ok(()));
    assert_eq!(visitor.may_read(&name("btcusdt@depth")), Err(Denied::Name));
    assert_eq!(visitor.expires_at(), None, "an API key lasts");
    assert_eq!(visitor.user(), "ann", "and whom operators are shown");
    let closed = builder().in_band(false).build();
    assert_eq!(refused(&closed, &upgrade).await.0, 401);
}

#[tokio::test(start_paused = true)]
async fn in_band_a_user_over_the_limit_is_refused_and_another_user_is_not_let_on_the_seat() {
    let entrance = builder().tiers(Tiers::one(free())).build();
    let upgrade = request(None, &[("upgrade", "websocket")]);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(come(&entrance, &upgrade).await.unwrap());
    }
    assert_eq!(entrance.renew(&all[0], ANN).await, Ok(()));
    assert_eq!(entrance.renew(&all[1], ANN).await, Ok(()));
    assert_eq!(entrance.renew(&all[2], ANN).await, Err(Denied::TooMany));
    assert_eq!(entrance.renew(&all[0], BOB).await, Err(Denied::Proof));
    assert_eq!(entrance.renew(&all[0], ANN).await, Ok(()), "the same user, as often as it likes");
    all.remove(1);
    assert_eq!(entrance.renew(&all[1], ANN).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_takes_effect_on_a_connection_that_stays() {
    let source = MemoryTiers::new([("ann", "gold")]);
    let tiers = Tiers::builder(free()).tier(Tier::new("gold")).source(source.clone());
    let entrance = builder().tiers(tiers.ttl(Duration::from_secs(60)).build()).build();
    let visitor = come(&entrance, &request(Some(ANN), &[])).await.unwrap();
    let (depth, version) = (name("btcusdt@depth"), visitor.standing().version());
    assert_eq!(visitor.may_read(&depth), Ok(()));
    source.set("ann", "free");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_ne!(visitor.standing().version(), version, "so it is asked again");
    assert_eq!(visitor.may_read(&depth), Err(Denied::Name));
    assert_eq!(visitor.may_read(&name("btcusdt@trade")), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_to_ten_thousand_users_looks_up_no_tier() {
    let mut keys = ApiKeys::new();
    for n in 0..100 {
        keys.add(&format!("user {n}"), &format!("the key of the user {n:05}")).unwrap();
    }
    let tiers = Tiers::builder(Tier::new("free")).source(MemoryTiers::default()).build();
    let entrance = Entrance::builder()
        .auth(Auth::new().api_keys(keys))
        .tiers(tiers)
        .per_address(10_000)
        .build();
    let mut visitors = Vec::new();
    for n in 0..10_000 {
        let key = format!("the key of the user {:05}", n % 100);
        visitors.push(come(&entrance, &request(Some(&key), &[])).await.unwrap());
    }
    let warm = entrance.tiers().look_ups();
    assert_eq!(warm, 100, "one for each user who came");
    let trades = name("btcusdt@trade");
    for _ in 0..10 {
        assert!(visitors.iter().all(|v| v.standing().version() > 0 && v.may_read(&trades).is_ok()));
    }
    assert_eq!(entrance.tiers().look_ups(), warm);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_too_much_is_told_from_one_that_does_not() {
    let tier = Tier { messages_per_second: 3, ..Tier::new("quiet") };
    let entrance = builder().tiers(Tiers::one(tier)).build();
    let visitor = come(&entrance, &request(Some(ANN), &[])).await.unwrap();
    let said = |n: usize| (0..n).filter(|_| visitor.standing().may_say()).count();
    assert_eq!(said(10), 3);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(said(10), 3);
}

async fn post(entrance: &Entrance, method: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri("/ticket");
    request = request.header(HOST, "streams.example.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    TowerToHyperService::new(entrance.router())
        .call(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_exchanged_for_a_ticket_that_lets_in_once() {
    let entrance = builder().build();
    let bearer = format!("Bearer {ANN}");
    let answer = post(&entrance, "POST", &[("authorization", &bearer)]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["expires_in"], 30);
    let uri = format!("/ws?ticket={}", body["ticket"].as_str().unwrap());
    let parts = Request::get(&uri).body(()).unwrap().into_parts().0;
    assert_eq!(come(&entrance, &parts).await.unwrap().user(), "ann");
    assert_eq!(refused(&entrance, &parts).await.0, 401);
    assert_eq!(post(&entrance, "POST", &[]).await.status(), 401);
    assert_eq!(post(&entrance, "POST", &[("authorization", "Bearer x")]).await.status(), 401);
    assert_eq!(post(&entrance, "GET", &[]).await.status(), 405);
}

#[tokio::test(start_paused = true)]
async fn only_pages_of_known_origins_may_ask_for_a_ticket() {
    let origins = Origins::same_host().allow("https://app.example.com").unwrap();
    let entrance = builder().origins(origins).build();
    let bearer = format!("Bearer {ANN}");
    let app = ("origin", "https://app.example.com");
    let answer = post(&entrance, "OPTIONS", &[app]).await;
    assert_eq!(answer.headers()["access-control-allow-origin"], app.1);
    assert_eq!(answer.headers()["access-control-allow-headers"], "authorization");
    let answer = post(&entrance, "POST", &[app, ("authorization", &bearer)]).await;
    assert_eq!(
        (answer.status(), &answer.headers()["vary"]),
        (StatusCode::OK, &"origin".parse().unwrap())
    );
    let evil = ("origin", "https://evil.example");
    for method in ["OPTIONS", "POST"] {
        let answer = post(&entrance, method, &[evil, ("authorization", &bearer)]).await;
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "{method}");
    }
    let answer = post(&entrance, "POST", &[evil, ("authorization", &bearer)]).await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_shown_is_in_a_refusal_or_a_print() {
    let entrance = builder().build();
    let canary = "canary-canary-canary-canary";
    let (_, _, code) = refused(&entrance, &request(Some(canary), &[])).await;
    let visitor = come(&entrance, &request(Some(ANN), &[])).await.unwrap();
    let text = format!("{code} {entrance:?} {visitor:?}");
    assert!(!text.contains("canary") && !text.contains("the-key"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_set_anew_holds_for_all_clones_and_who_is_in_counts_on() {
    let entrance = builder().per_address(2).build();
    let clone = entrance.clone();
    let ann = request(Some(ANN), &[]);
    let held = come(&clone, &ann).await.unwrap();
    let bearer = format!("Bearer {ANN}");
    let ticket = post(&entrance, "POST", &[("authorization", &bearer)]).await;
    let ticket = ticket.into_body().collect().await.unwrap().to_bytes();
    let ticket: serde_json::Value = serde_json::from_slice(&ticket).unwrap();
    let mut keys = ApiKeys::new();
    keys.add("eve", "the-key-of-eve-0123456789").unwrap();
    let again = Entrance::builder().auth(Auth::new().api_keys(keys)).per_address(1);
    entrance.replace(again.tiers(entrance.tiers()));
    assert_eq!(clone.connections(), 1);
    let eve = request(Some("the-key-of-eve-0123456789"), &[]);
    assert_eq!(refused(&clone, &eve).await.2, "too_many_of_address");
    assert_eq!(clone.renew(&held, ANN).await, Err(Denied::Proof), "the key was taken away");
    drop(held);
    assert!(come(&clone, &eve).await.is_ok());
    assert_eq!(refused(&clone, &ann).await.0, 401);
    let uri = format!("/ws?ticket={}", ticket["ticket"].as_str().unwrap());
    let shown = Request::get(uri).header(HOST, "streams.example.com").body(()).unwrap();
    let shown = shown.into_parts().0;
    assert_eq!(
        come(&clone, &shown).await.unwrap().user(),
        "ann",
        "a ticket that is out stays good"
    );
    assert_eq!(refused(&clone, &shown).await.0, 401, "once");
}

#[tokio::test(start_paused = true)]
async fn connections_are_told_by_the_tier_that_their_users_are_of_now() {
    let source = MemoryTiers::new([("ann", "paid"), ("bob", "free")]);
    let tiers = Tiers::builder(Tier::new("lowest"))
        .tier(Tier::new("free"))
        .tier(Tier::new("paid"))
        .source(source)
        .build();
    let entrance = builder().anonymous(true).tiers(tiers.clone()).build();
    let told = |entrance: &Entrance| -> Vec<(String, usize)> {
        let by_tier = entrance.connections_by_tier().into_iter();
        by_tier.map(|(tier, count)| (tier.to_string(), count)).collect()
    };
    assert_eq!(told(&entrance), []);
    let (ann, bob) = (request(Some(ANN), &[]), request(Some(BOB), &[]));
    let anns = [come(&entrance, &ann).await.unwrap(), come(&entrance, &ann).await.unwrap()];
    let others =
        [come(&entrance, &bob).await.unwrap(), come(&entrance, &request(None, &[])).await.unwrap()];
    let tier = |name: &str, count| (name.to_owned(), count);
    assert_eq!(told(&entrance), [tier("free", 1), tier("paid", 2), tier("unknown", 1)]);
    tiers.replace(Tier::new("lowest"), [Tier::new("free")]);
    assert_eq!(told(&entrance), [tier("free", 1), tier("lowest", 2), tier("unknown", 1)]);
    drop(anns);
    assert_eq!(told(&entrance), [tier("free", 1), tier("unknown", 1)]);
    drop(others);
    assert_eq!(told(&entrance), []);
}
