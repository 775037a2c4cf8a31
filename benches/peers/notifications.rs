//! alloy-pubsub, which shares a JSON-RPC subscription among its readers.
//!
//! A reader gets the `result` of each notification as the text that it is, on both sides, and both look
//! into each message to see whose it is. Both keep as many messages for slow readers, which is our
//! default and more than the 16 of alloy: with those, its readers lose seven messages of eight here.

use std::hint::black_box;

use alloy_json_rpc::{Id, Request};
use alloy_pubsub::{PubSubConnect as _, PubSubFrontend, RawSubscription};
use alloy_transport_ws::WsConnect;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use wsmux::protocol::JsonRpc;
use wsmux::{Message, Subscription, WsManager};

use crate::common::clock::{Clock, Cost};
use crate::common::{run, runtime};
use crate::rpc_server::{RESULT_BYTES, RpcServer, START};
use crate::turns::{self, Side};

/// The kind of subscription.
const NAME: &str = "trades";

/// Messages kept for slow readers.
const BUFFER: usize = 1024;

pub(crate) fn compare(server: &RpcServer) {
    for (name, readers, count) in
        [("alloy", 1, 200_000), ("alloy_10", 10, 100_000), ("alloy_100", 100, 20_000)]
    {
        let base = &server.base(count);
        let alloy = Side::new(name, || alloy(base, readers, count));
        turns::compare(None, count, || ours(base, readers, count), &[alloy]);
    }
}

fn ours(base: &str, readers: usize, count: u64) -> Cost {
    let manager = WsManager::new(JsonRpc::new(&format!("{base}/feed")).unwrap());
    run(&runtime(None), async move {
        let mut subscriptions: Vec<_> =
            (0..readers).map(|_| manager.subscribe(NAME).unwrap()).collect();
        subscriptions[0].ready().await.unwrap();
        let clock = Clock::start();
        let tasks: JoinSet<_> =
            subscriptions.into_iter().map(|reader| read_ours(reader, count)).collect();
        manager.send(NAME, format!(r#"{{"method":"{START}"}}"#)).await.unwrap();
        tasks.join_all().await;
        let cost = clock.stop();
        manager.shutdown().await;
        cost
    })
}

async fn read_ours(mut messages: Subscription<Message>, count: u64) {
    for position in 0..count {
        match messages.recv().await {
            Some(Ok(result)) => assert_eq!(black_box(result).len(), RESULT_BYTES),
            Some(Err(e)) => panic!("at message {position}: {e}"),
            None => panic!("at message {position}: the end"),
        }
    }
}

fn alloy(base: &str, readers: usize, count: u64) -> Cost {
    let url = format!("{base}/feed");
    run(&runtime(None), async move {
        let frontend = WsConnect::new(url).into_service().await.unwrap();
        frontend.set_channel_size(BUFFER);
        let subscribe = Request::new("eth_subscribe", Id::Number(1), [NAME]);
        let reply = frontend.send(subscribe.serialize().unwrap()).await.unwrap();
        let id = reply.try_success_as().unwrap().unwrap();
        let mut subscriptions = Vec::new();
        for _ in 0..readers {
            subscriptions.push(frontend.get_subscription(id).await.unwrap());
        }
        let clock = Clock::start();
        let tasks: JoinSet<_> =
            subscriptions.into_iter().map(|reader| read_alloy(reader, count)).collect();
        start(&frontend).await;
        tasks.join_all().await;
        clock.stop()
    })
}

async fn start(frontend: &PubSubFrontend) {
    let start = Request::new(START, Id::Number(2), ()).serialize().unwrap();
    frontend.send(start).await.unwrap();
}

async fn read_alloy(mut messages: RawSubscription, count: u64) {
    for position in 0..count {
        match messages.recv().await {
            Ok(result) => assert_eq!(black_box(result).get().len(), RESULT_BYTES),
            Err(RecvError::Lagged(missed)) => panic!("at message {position}: {missed} are lost"),
            Err(RecvError::Closed) => panic!("at message {position}: the end"),
        }
    }
}
