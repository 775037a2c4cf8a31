//! Clients that do not read, or do not come to the end of what they say.

use std::time::Duration;

use wsmux::gateway::{GatewayConfig, Publisher, SlowClient};

use crate::client::{CLOSE, Client, PONG, TEXT, masked};
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
        .write_timeout(Duration::from_secs(1))
        .ping_interval(Duration::from_secs(4));
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
        .write_timeout(Duration::from_secs(1))
        .ping_interval(Duration::from_secs(4))
        .close_timeout(Duration::from_secs(3600));
    let (stage, news, mut quick, _stuck) = beside_one_that_reads(config).await;
    publish(&news, &mut quick).await;
    stage.until_cut_off(1).await;
    let answers = tokio::spawn(async move { while quick.message().await.is_some() {} });
    // Nothing else ends it within an hour.
    stage.until_clients(1).await;
    assert_eq!(stage.gateway.stats().cut_off, 1);
    answers.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_behind_is_told_to_operators_until_it_is_not_there() {
    let config = config(SlowClient::DropOldest).ping_interval(Duration::from_secs(4));
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
    let pings = masked(9, &[b'x'; 125]);
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

/// Says these bytes, one per second, to a gateway that waits so long for a message. What it is told last, and when
/// its place was free, if it was before the end.
async fn dripped(message_timeout: Duration, said: &[u8]) -> ((u8, Vec<u8>), Option<Duration>) {
    let config = GatewayConfig::default().message_timeout(message_timeout);
    let stage = Stage::with(config).await;
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let service = hyper_util::service::TowerToHyperService::new(stage.gateway.router());
    let io = hyper_util::rt::TokioIo::new(theirs);
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    tokio::spawn(connection.with_upgrades());
    let mut client = Client::open(ours, "/ws").await.unwrap_or_else(|_| panic!());
    let (begun, mut gone) = (tokio::time::Instant::now(), None);
    for byte in said {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.socket, &[*byte]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if stage.gateway.stats().clients == 0 {
            gone.get_or_insert(begun.elapsed());
        }
    }
    let mut last = client.frame().await.unwrap();
    while last.0 > CLOSE {
        last = client.frame().await.unwrap();
    }
    (last, gone)
}

/// Within this a message has to be whole.
const WHOLE: Duration = Duration::from_secs(10);

/// In one frame, and in a first one whose others never come, with what may stand between.
fn half_messages() -> [Vec<u8>; 2] {
    let mut first = masked(TEXT, b"{");
    first[0] &= 0x7f;
    let between = masked(PONG, b"");
    let dripped = masked(TEXT, br#"{"type":"ping","id":7}"#);
    [dripped, [first, between.clone(), between.clone(), between].concat()]
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_begun_and_not_finished_ends_its_connection_in_time() {
    for half in half_messages() {
        let ((opcode, payload), gone) = dripped(WHOLE, &half).await;
        assert_eq!((opcode, &payload[..2]), (CLOSE, &1008_u16.to_be_bytes()[..]));
        let gone = gone.expect("before it had said all");
        // With the time that a client has to say goodbye.
        assert!(gone >= WHOLE && gone <= WHOLE + Duration::from_secs(4), "{gone:?}");
    }
}

/// What the deadline is for: without it the same clients stay, and hold what they have sent.
#[tokio::test(start_paused = true)]
async fn without_a_deadline_half_a_message_is_kept_for_as_long_as_it_takes() {
    let [whole, mut open] = half_messages();
    let hour = Duration::from_secs(3600);
    let ((opcode, word), gone) = dripped(hour, &whole).await;
    assert_eq!((opcode, gone), (TEXT, None));
    assert!(String::from_utf8(word).unwrap().contains("pong"));
    // Until it says goodbye.
    open.extend(masked(CLOSE, &1000_u16.to_be_bytes()));
    let ((opcode, payload), _) = dripped(hour, &open).await;
    assert_eq!((opcode, &payload[..2]), (CLOSE, &1000_u16.to_be_bytes()[..]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_and_finishes_each_message_in_time_is_heard() {
    // Eight seconds each.
    let pongs: Vec<_> = (0..10).flat_map(|_| masked(PONG, b"ok")).collect();
    let goodbye = masked(CLOSE, &1000_u16.to_be_bytes());
    let ((opcode, payload), _) = dripped(WHOLE, &[pongs, goodbye].concat()).await;
    assert_eq!((opcode, &payload[..2]), (CLOSE, &1000_u16.to_be_bytes()[..]));
}
