//! Our names are none of futures' and tokio-stream's: all are imported, and each of ours is called.

#[allow(unused_imports, reason = "they must not be in the way")]
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
#[allow(unused_imports, reason = "they must not be in the way")]
use tokio_stream::StreamExt as _;
use wsmux::ext;
use wsmux::{DedupWindow, StreamError, Subscription, Text, WsManager, WsStreamExt, WsTryStreamExt};

use super::*;

const WINDOW: DedupWindow = DedupWindow::last(3);

fn key(number: &u32) -> u32 {
    *number
}

#[test]
fn each_name_is_found_with_all_extensions_imported() {
    let plain = || numbers(&[], 0);
    let _: ext::Conflate<_> = plain().conflate();
    let _: ext::ConflateBy<_, _, _> = plain().conflate_by(key).max_keys(7);
    let _: ext::Sample<_> = plain().sample(MS);
    let _: ext::ThrottleFirst<_> = plain().throttle_first(MS);
    let _: ext::Debounce<_> = plain().debounce(MS);
    let _: ext::DedupBy<_, _, _> = plain().dedup_by(key, WINDOW);
    let _: ext::BatchBy<_> = plain().batch_by(1, MS);
    let fallible = || results(&[], 0);
    let _: ext::TryConflate<_> = fallible().try_conflate();
    let _: ext::TryConflateBy<_, _, _> = fallible().try_conflate_by(key).max_keys(7);
    let _: ext::TrySample<_> = fallible().try_sample(MS);
    let _: ext::TryThrottleFirst<_> = fallible().try_throttle_first(MS);
    let _: ext::TryDebounce<_> = fallible().try_debounce(MS);
    let _: ext::TryDedupBy<_, _, _> = fallible().try_dedup_by(key, WINDOW);
    let _: ext::TryBatchBy<_> = fallible().try_batch_by(1, MS);
}

/// Can be stored in a struct, sent to a task, and polled without pinning.
#[test]
fn a_combinator_of_a_subscription_is_nameable_send_and_unpin() {
    #[expect(dead_code, reason = "it compiles")]
    struct Dashboard {
        latest: ext::TryConflateBy<Subscription<Text>, Text, fn(&Text) -> Text>,
        points: ext::TrySample<Subscription<Text>>,
    }

    fn check<S: futures::stream::FusedStream + Send + Unpin + fmt::Debug>(_: impl FnOnce() -> S) {}

    let subscribe = || -> Subscription<Text> {
        WsManager::connect("ws://unused").unwrap().subscribe("unused").unwrap()
    };
    let key = |text: &Text| text.len();
    check(move || subscribe().try_conflate());
    check(move || subscribe().try_conflate_by(key));
    check(move || subscribe().try_sample(MS));
    check(move || subscribe().try_throttle_first(MS));
    check(move || subscribe().try_debounce(MS));
    check(move || subscribe().try_dedup_by(key, WINDOW));
    check(move || subscribe().try_batch_by(1, MS));
    check(move || subscribe().values().conflate());
    check(move || subscribe().values().conflate_by(key));
    check(move || subscribe().values().sample(MS));
    check(move || subscribe().values().throttle_first(MS));
    check(move || subscribe().values().debounce(MS));
    check(move || subscribe().values().dedup_by(key, WINDOW));
    check(move || subscribe().values().batch_by(1, MS));
    let _ = |item: Result<Vec<Text>, StreamError>| item.is_err();
}
