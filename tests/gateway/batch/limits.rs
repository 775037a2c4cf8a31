//! Who may ask what, and how much of it.

use bytes::Bytes;
use futures::stream;
use serde_json::json;
use wsmux::requests::PoolConfig;

use super::judge::judge;
use super::{Counter, Guests, SECOND, config, posted, settle, slow};
use crate::asker::Desk;
use crate::schema;

#[tokio::test(start_paused = true)]
async fn what_a_client_may_not_ask_is_listed_with_its_reason_and_never_asked() {
    let counter = Counter::new(Desk::echo());
    let wishes = json!({ "requests": [
        "may/a",
        { "name": "may/b", "params": 7 },
        "mine",
        "may/not",
        "",
        { "name": "may/c", "params": { "url": "wss://evil", "body": "raw" } },
        "may/nonsense",
    ]});
    assert!(!schema::is_posted(&wishes), "a name has a byte at least");
    let events = counter.post(wishes.to_string()).await.events().await;
    assert_eq!(judge(&events), Ok(()));
    let requests = events[0].1["requests"].as_array().unwrap();
    let codes: Vec<_> = requests.iter().map(|one| one["error"]["code"].as_str()).collect();
    let denied = [Some("denied"), Some("unknown_name"), Some("invalid_name")];
    assert_eq!(codes, [&[None; 2], &denied[..], &[None; 2]].concat());
    let mut heard = counter.heard();
    heard.sort_unstable();
    assert_eq!(heard, ["a", "b 7", "c"], "as the owner has it, whatever the client says");
    let results: Vec<_> =
        events.iter().filter_map(|(_, event)| event["results"].as_array()).collect();
    let last = results.iter().flat_map(|group| group.iter()).find(|one| one["index"] == 6).unwrap();
    assert_eq!(last["error"]["code"], "unknown_name", "the protocol has no such request");
}

#[tokio::test(start_paused = true)]
async fn what_a_backend_says_of_its_failure_stays_inside() {
    let desk = Desk::new(|asked, out| {
        out.send(asked.socket, format!("-{} token=hunter2 at 10.0.0.7", asked.id));
    });
    let counter = Counter::new(desk);
    let events = counter.post(posted(2)).await.events().await;
    assert_eq!(judge(&events), Ok(()));
    assert_eq!(events[1].1["results"][0]["error"]["code"], "failed");
    let all = format!("{events:?}");
    assert!(!all.contains("hunter2") && !all.contains("10.0.0"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_fails_each_request_with_a_code() {
    let counter = Counter::new(Desk::echo());
    counter.mock.refuse_next([404; 20]);
    let events = counter.post(posted(1)).await.events().await;
    assert_eq!(judge(&events), Ok(()));
    assert_eq!(events[1].1["results"][0]["error"]["code"], "unavailable");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_or_not_understood_is_refused_before_anything_is_asked() {
    let counter = Counter::new(Desk::echo());
    let long = format!(r#"{{"requests":["{}"]}}"#, "x".repeat(70_000));
    for (body, expected) in [
        (posted(51), (403, "too_many")),
        (long, (413, "too_large")),
        (String::new(), (400, "bad_request")),
        (r#"{"requests":"may/a"}"#.to_owned(), (400, "bad_request")),
        (r#"{"requests":["may/a"],"host":"evil"}"#.to_owned(), (400, "bad_request")),
        (
            format!(r#"{{"requests":[{{"name":"may/a","params":{}"#, "[".repeat(9999)),
            (400, "bad_request"),
        ),
    ] {
        let (status, code) = counter.post(body).await.refusal().await;
        assert_eq!((status, &*code), expected);
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json5"] {
        let (status, code) = counter.post_as(kind, posted(1)).await.refusal().await;
        assert_eq!((status, &*code), (415, "not_json"));
    }
    let kind = "Application/JSON; charset=utf-8";
    assert_eq!(judge(&counter.post_as(kind, posted(50)).await.events().await), Ok(()));
    assert_eq!(counter.heard().len(), 50, "and nothing of the others");
    assert_eq!(counter.gateway.stats().batches, 0);
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_limit_of_requests_holds_where_a_visitors_is_higher() {
    let config = config().batch_requests(3);
    let counter = Counter::with(Desk::echo(), PoolConfig::default(), config, Guests::default());
    assert_eq!(counter.post(posted(4)).await.status, 403);
    assert_eq!(judge(&counter.post(posted(3)).await.events().await), Ok(()));
    assert_eq!(judge(&counter.post(posted(0)).await.events().await), Ok(()), "nothing is no fault");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up_and_its_place_given_back() {
    let config = config().write_timeout(10 * SECOND).batches(1);
    let counter = Counter::with(Desk::echo(), PoolConfig::default(), config, Guests::default());
    let start = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"requests\""))]);
    let endless = futures::StreamExt::chain(start, stream::pending());
    let (status, code) = counter.post(axum::body::Body::from_stream(endless)).await.refusal().await;
    assert_eq!((status, &*code), (408, "too_slow"));
    assert_eq!(judge(&counter.post(posted(1)).await.events().await), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_batches_at_once_and_a_place_is_free_when_one_is_read_to_the_end() {
    let (config, doors) = (config().batches(2), Guests::default());
    let counter = Counter::with(slow(SECOND), PoolConfig::default(), config, doors.clone());
    let visitors = || std::sync::Arc::strong_count(&doors.rights) - 2;
    let (first, second) = (counter.post(posted(1)).await, counter.post(posted(1)).await);
    assert_eq!((counter.gateway.stats().batches, visitors()), (2, 2));
    let (status, code) = counter.post(posted(1)).await.refusal().await;
    assert_eq!((status, &*code), (503, "busy"));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(counter.post(posted(1)).await.status, 503, "ended, and not read");
    assert_eq!(visitors(), 2, "their places are theirs for as long");
    assert_eq!(first.events().await.len(), 3);
    let third = counter.post(posted(1)).await;
    assert_eq!(third.status, 200);
    drop((second, third));
    settle().await;
    assert_eq!((counter.gateway.stats().batches, visitors()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_too_long_is_an_error_of_its_request_alone() {
    let desk = Desk::new(|asked, out| {
        let long = if asked.body == "1" { "x".repeat(5000) } else { "short".to_owned() };
        out.send(asked.socket, asked.reply(&long));
    });
    let config = config().batch_bytes(4096);
    let counter = Counter::with(desk, PoolConfig::default(), config, Guests::default());
    let events = counter.post(posted(3)).await.events().await;
    assert_eq!(judge(&events), Ok(()));
    let summary = &events.last().unwrap().1;
    assert_eq!(summary["failed"], 1);
    assert!(format!("{events:?}").contains("too_large"));
}

#[tokio::test]
async fn a_gateway_that_was_given_no_pool_has_no_such_route() {
    use hyper::service::Service as _;
    let manager = wsmux::WsManager::connect("ws://upstream/ws").unwrap();
    let router = wsmux::gateway::Gateway::new(manager).router();
    let request = http::Request::post("/batch").body(axum::body::Body::empty()).unwrap();
    let service = hyper_util::service::TowerToHyperService::new(router);
    assert_eq!(service.call(request).await.unwrap().status(), 404);
}
