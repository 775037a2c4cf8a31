//! Clients that do not read.

use std::time::Duration;

use wsmux::gateway::{GatewayConfig, Publisher, SlowClient};

use crate::client::Client;
use crate::{Stage, soon};

/// Far more than the kernel takes for a socket whose other side does not read.
const MESSAGES: usize = 300;

fn config(slow: SlowClient) -> GatewayConfig {
    GatewayConfig::default().slow(slow).queue_bytes(256 << 10)
}

async fn publisher(stage: &Stage) -> Publisher {
    stage.gateway.publisher("news".try_into().unwrap())
}

/// Publishes numbers in messages of 64 KiB, each when `quick` has read the one before.
async fn publish(news: &Publisher, quick: &mut Client) {
    for number in 0..MESSAGES {
        news.publish(format!(r#"[{number},"{}"]"#, "x".repeat(64 << 10)));
        assert_eq!(quick.data().await[0], number, "one that reads misses nothing");
    }
}

/// A client that is to read beside one that is not, both of one name.
async fn beside_one_that_reads(config: GatewayConfig) -> (Stage, Publisher, Client, Client) {
    let stage = Stage::with(config).await;
    let news = publisher(&stage).await;
    let (mut quick, mut stuck) = (stage.client().await, stage.client().await);
    quick.subscribe("news").await;
    stuck.subscribe("news").await;
    (stage, news, quick, stuck)
}

/// Reads to the last number. Returns how many of them came, and how many were told as missed.
async fn read(slow: &mut Client, reason: &str) -> (usize, usize) {
    let (mut read, mut missed) = (0, 0);
    while read + missed < MESSAGES {
        let word = slow.word().await;
        match word["type"].as_str().unwrap() {
            "data" => {
                assert_eq!(word["data"][0], read + missed, "in its place");
                read += 1;
            }
            "gap" => {
                assert_eq!(word["reason"], reason);
                missed += usize::try_from(word["missed"].as_u64().unwrap()).unwrap();
            }
            other => assert_eq!(other, "status"),
        }
    }
    (read, missed)
}

async fn is_told_what_it_missed(policy: SlowClient, reason: &str) {
    let stage = Stage::with(config(policy)).await;
    let news = publisher(&stage).await;
    let (mut quick, mut slow) = (stage.client().await, stage.client().await);
    quick.subscribe("news").await;
    slow.subscribe("news").await;
    publish(&news, &mut quick).await;
    let (read, missed) = read(&mut slow, reason).await;
    assert!(read > 0 && missed > MESSAGES / 10, "{read} and {missed}");
    let stats = stage.gateway.stats();
    assert_eq!((stats.clients, stats.cut_off), (2, 0));
    assert_eq!(usize::try_from(stats.missed).unwrap(), missed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_give_way_for_a_client_that_does_not_read_and_it_is_told_how_many() {
    is_told_what_it_missed(SlowClient::DropOldest, "slow").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_may_get_the_newest_alone() {
    is_told_what_it_missed(SlowClient::Conflate, "conflated").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_may_be_closed_with_1013_behind_a_whole_frame() {
    let stage = Stage::with(config(SlowClient::Disconnect)).await;
    let news = publisher(&stage).await;
    let (mut quick, mut slow) = (stage.client().await, stage.client().await);
    quick.subscribe("news").await;
    slow.subscribe("news").await;
    publish(&news, &mut quick).await;
    assert_eq!(slow.closed().await, Some(1013));
    stage.until_clients(1).await;
    assert_eq!(stage.gateway.stats().cut_off, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_read_is_closed_whatever_the_policy() {
    let stage = Stage::with(config(SlowClient::DropOldest)).await;
    let news = publisher(&stage).await;
    let mut quick = stage.client().await;
    quick.subscribe("news").await;
    let mut relay = Client::open(stage.tcp().await, "/ws/news").await.unwrap_or_else(|_| panic!());
    stage.until_clients(2).await;
    publish(&news, &mut quick).await;
    assert_eq!(relay.closed().await, Some(1013));
    stage.until_clients(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_cut_off_at_the_write_deadline() {
    let config = config(SlowClient::DropOldest)
        .write_timeout(Duration::from_millis(200))
        .ping_interval(Duration::from_millis(800));
    let (stage, news, mut quick, _stuck) = beside_one_that_reads(config).await;
    publish(&news, &mut quick).await;
    let answers = tokio::spawn(async move { while quick.message().await.is_some() {} });
    stage.until_clients(1).await;
    assert_eq!(stage.gateway.stats().cut_off, 1);
    answers.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_even_read_that_it_is_closed_is_counted_once() {
    let config = config(SlowClient::Disconnect)
        .write_timeout(Duration::from_millis(200))
        .ping_interval(Duration::from_millis(800))
        .close_timeout(Duration::from_secs(3600));
    let (stage, news, mut quick, _stuck) = beside_one_that_reads(config).await;
    publish(&news, &mut quick).await;
    assert_eq!(stage.gateway.stats().cut_off, 1, "it was told to go");
    let answers = tokio::spawn(async move { while quick.message().await.is_some() {} });
    // Nothing else ends it within an hour.
    stage.until_clients(1).await;
    assert_eq!(stage.gateway.stats().cut_off, 1);
    answers.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_behind_is_told_to_operators_until_it_is_not_there() {
    let config = config(SlowClient::DropOldest).ping_interval(Duration::from_millis(800));
    let config = config.write_timeout(Duration::from_secs(3600));
    let (stage, news, mut quick, stuck) = beside_one_that_reads(config).await;
    assert_eq!(stage.gateway.stats().laggards, []);
    publish(&news, &mut quick).await;
    let answers = tokio::spawn(async move { while quick.message().await.is_some() {} });
    let laggards = async |are_there: bool| {
        soon(async {
            while stage.gateway.stats().laggards.is_empty() == are_there {
                tokio::task::yield_now().await;
            }
        })
        .await;
        stage.gateway.stats().laggards
    };
    let behind = laggards(true).await;
    let [one] = &behind[..] else { panic!("{behind:?}") };
    assert_eq!(&*one.user, "anonymous");
    assert!(one.missed > 0 && one.waiting > 64 << 10 && !one.stuck_for.is_zero(), "{one:?}");
    drop(stuck);
    laggards(false).await;
    answers.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_asks_without_reading_is_closed_and_holds_its_queue_at_most() {
    let stage = Stage::with(config(SlowClient::DropOldest)).await;
    let asking = stage.client().await;
    let pings = crate::client::masked(9, &[b'x'; 125]);
    let mut at = 0;
    // Until it is noticed, whatever waits in between.
    soon(async {
        while stage.gateway.stats().cut_off == 0 {
            match asking.socket.try_write(&pings[at..]) {
                Ok(written) => at = (at + written) % pings.len(),
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(stage.gateway.stats().cut_off, 1);
    stage.until_clients(0).await;
}
