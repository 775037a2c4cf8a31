//! The pages in `docs/` say what the code does: tables hold its values, and named checks exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use http::HeaderMap;
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer};
use wsmux::{
    CloseReason, Config, Event, FirstRetry, Heartbeat, Limiter, Limits, Message, RetryPolicy,
    WsManager,
};

const PAGE: &str = include_str!("../docs/defaults.md");

type Settings = BTreeMap<String, String>;

#[test]
fn the_defaults_are_those_on_the_page() {
    assert_eq!(listed(PAGE, "| setting | default |"), settings(&Config::default()));
}

#[test]
fn a_default_that_differs_or_is_missing_is_noticed() {
    let code = settings(&Config::default());
    for (right, wrong) in [
        ("| `buffer` ● | 1024 |", "| `buffer` ● | 1025 |"),
        ("| `linger` ● | 0 |", "| `linger` ● | 1 s |"),
        ("| `heartbeat.timeout` | 10 s |", "| `heartbeat.timeout` | 10 min |"),
        ("| `retry.max_attempts` | 10 |", "| `retry.max_attempts` | none |"),
        ("| `retry.first` | `Jittered` |", "| `retry.first` | `Immediate` |"),
        ("| `write_timeout` | 10 s | What the kernel", "| `read_timeout` | 10 s | What the kernel"),
        ("| `quiet_after` ● |", "| quiet_after |"),
    ] {
        assert_eq!(PAGE.matches(right).count(), 1, "{right}");
        let page = PAGE.replace(right, wrong);
        assert_ne!(listed(&page, "| setting | default |"), code, "{wrong}");
    }
}

#[cfg(feature = "record")]
#[test]
fn the_recorders_defaults_are_those_on_the_page() {
    let options = wsmux::record::RecorderOptions::default();
    let code = Settings::from([
        ("queue_bytes".to_owned(), format!("{} MiB", options.queue_bytes >> 20)),
        ("sync_every".to_owned(), format!("{} s", options.sync_every.as_secs())),
    ]);
    assert_eq!(listed(PAGE, "| option | default |"), code);
}

#[cfg(feature = "gateway")]
#[test]
fn the_gateways_defaults_are_those_on_the_page() {
    use wsmux::gateway::GatewayConfig;
    use wsmux::gateway::listen::ListenConfig;

    let gateway = debugged(&GatewayConfig::default());
    assert!(gateway.len() > 10, "{gateway:?}");
    assert_eq!(listed(PAGE, "| gateway | default |"), gateway);
    assert_eq!(listed(PAGE, "| accepting | default |"), debugged(&ListenConfig::default()));
    for (right, wrong) in [
        ("| `queue_bytes` | 1 MiB | What waits for a client", "| `queue_bytes` | 2 MiB |"),
        ("| `window` | 0 |", "| `windows` | 0 |"),
        ("| `ping_interval` | 20 s |", "| `ping_interval` | 20 min |"),
        ("| `slow` | `DropOldest` |", "| `slow` | `Conflate` |"),
    ] {
        assert_eq!(PAGE.matches(right).count(), 1, "{right}");
        let page = PAGE.replace(right, wrong);
        assert_ne!(listed(&page, "| gateway | default |"), gateway, "{wrong}");
    }
}

/// Every setting there is of a type that derives `Debug`, as the page would have it.
#[cfg(feature = "gateway")]
fn debugged(config: &impl std::fmt::Debug) -> Settings {
    let text = format!("{config:#?}");
    let fields = text.lines().filter_map(|line| line.strip_suffix(',')?.trim().split_once(": "));
    fields
        .map(|(field, value)| {
            let shown = match value.parse() {
                Ok(count) if field == "max_message" || field.ends_with("_bytes") => kib(count),
                Ok(count) => count.to_string(),
                Err(_) => seconds(value).map_or_else(|| format!("`{value}`"), duration),
            };
            (field.to_owned(), shown)
        })
        .collect()
}

/// A duration as `Debug` shows it, of whole nanoseconds.
#[cfg(feature = "gateway")]
fn seconds(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "s" => Duration::from_secs(1),
        "ms" => Duration::from_millis(1),
        "ns" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * number.parse().ok()?)
}

#[cfg(feature = "gateway")]
fn kib(count: usize) -> String {
    if count % (1 << 20) == 0 { bytes(count) } else { format!("{} KiB", count >> 10) }
}

#[test]
fn persistent_differs_in_what_the_page_says() {
    let defaults = settings(&Config::default());
    let mut changed = settings(&Config::persistent());
    changed.retain(|setting, value| defaults[setting] != *value);
    assert_eq!(listed(PAGE, "| setting | `persistent()` |"), changed);
}

#[test]
fn the_preview_and_its_sums_are_those_of_the_policy() {
    let ceilings = RetryPolicy::default().preview(99);
    let seconds = |s: f64| format!("{s} s");
    let mut sum = 0.0;
    let expected: Vec<_> = (1..)
        .zip(ceilings.iter().map(Duration::as_secs_f64))
        .map(|(n, ceiling)| {
            sum += ceiling;
            vec![n.to_string(), seconds(ceiling), seconds(ceiling / 2.0), seconds(sum / 2.0)]
        })
        .collect();
    let rows: Vec<_> = rows(PAGE, "| retry | ceiling |").collect();
    assert_eq!(rows, expected);
    let deviation = ceilings.iter().map(|c| c.as_secs_f64().powi(2) / 12.0).sum::<f64>().sqrt();
    let said = format!("at most {sum} s, and with a standard deviation of {deviation:.0} s");
    assert!(PAGE.replace('\n', " ").contains(&said), "{said}");
}

#[tokio::test(start_paused = true)]
async fn each_status_and_close_code_ends_as_the_page_says() {
    let mut checked = 0;
    for row in rows(PAGE, "| failure | then |") {
        let [failures, then] = &row[..] else { panic!("{row:?}") };
        for failure in failures_in(failures) {
            assert_eq!(outcome(failure).await, expected(then), "{failure:?}");
            checked += 1;
        }
    }
    assert!(checked > 2000, "only {checked} failures were found on the page");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_differs_is_noticed() {
    assert_eq!(outcome(Failure::Http(404)).await, Outcome::Fatal { after: 1 });
    assert_ne!(outcome(Failure::Http(503)).await, Outcome::Fatal { after: 1 });
    assert_ne!(outcome(Failure::Close(1000)).await, outcome(Failure::Close(1012)).await);
    assert_ne!(outcome(Failure::Close(1002)).await, outcome(Failure::Close(4500)).await);
}

#[test]
fn each_check_that_is_named_is_there() {
    let page = include_str!("../docs/architecture.md");
    let names = checks_named_in(page);
    assert!(names.len() > 30, "only {} checks are named", names.len());
    assert_eq!(missing(&names), [""; 0]);
}

#[test]
fn a_check_that_is_not_there_is_noticed() {
    let page = "**Architecture Invariant:** all is well. Checked by `all_is_well`, and\n\
                `a_print_shows_no_secret`.\n\nBut `not_this_one`.";
    let names = checks_named_in(page);
    assert_eq!(names, ["all_is_well", "a_print_shows_no_secret"]);
    assert_eq!(missing(&names), ["all_is_well"]);
}

/// The functions that the page's invariants name.
fn checks_named_in(page: &str) -> Vec<&str> {
    let invariants = page.split("\n\n").filter(|p| p.starts_with("**Architecture Invariant:**"));
    let checks = invariants.filter_map(|p| Some(p.split_once("Checked by")?.1));
    let words = checks.flat_map(|checks| checks.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| word.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    words.filter(|word| is_name(word) && *word != "await_holding_lock").collect()
}

/// Those of `names` that are no function of the crate or its tests.
fn missing<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    read(&root.join("src"), &mut sources);
    read(&root.join("tests"), &mut sources);
    let is_there = |name: &str| sources.contains(&format!("fn {name}("));
    names.iter().copied().filter(|name| !is_there(name)).collect()
}

fn read(dir: &Path, sources: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The rows of all tables whose header begins with `header`, cell by cell.
fn rows<'a>(page: &'a str, header: &'a str) -> impl Iterator<Item = Vec<String>> + 'a {
    let mut inside = false;
    page.lines().filter_map(move |line| {
        let is_header = line.starts_with(header);
        inside = is_header || (inside && line.starts_with('|'));
        let is_row = inside && !is_header && !line.starts_with("|---");
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        is_row.then(|| cells.collect())
    })
}

/// The settings and values of the tables with that header.
fn listed(page: &str, header: &str) -> Settings {
    rows(page, header)
        .map(|row| {
            let setting = row[0].split('`').nth(1).unwrap_or("no setting");
            (setting.to_owned(), row[1].clone())
        })
        .collect()
}

/// Every setting there is: one that is added does not compile before it is listed here.
#[expect(clippy::too_many_lines, reason = "a list")]
fn settings(config: &Config) -> Settings {
    let Config {
        buffer,
        buffer_bytes,
        close_timeout,
        connect_timeout,
        data_timeout,
        handover_timeout,
        heartbeat: Heartbeat { interval, timeout },
        join_timeout,
        limits: Limits { handshakes_per_host, max_connections, max_message },
        linger,
        max_age,
        plain_text_credentials,
        quiet_after,
        replay_latest,
        reply_timeout,
        retry: RetryPolicy { base_delay, first, max_attempts, max_delay, min_delay, reset_after },
        send_queue,
        send_ttl,
        sweep_interval,
        token_refresh,
        token_timeout,
        write_timeout,
    } = *config;
    let first = match first {
        FirstRetry::Immediate => "`Immediate`",
        FirstRetry::Jittered => "`Jittered`",
        _ => "unknown",
    };
    let none = || "none".to_owned();
    [
        ("buffer", buffer.to_string()),
        ("buffer_bytes", bytes(buffer_bytes)),
        ("close_timeout", duration(close_timeout)),
        ("connect_timeout", duration(connect_timeout)),
        ("data_timeout", data_timeout.map_or_else(none, duration)),
        ("handover_timeout", duration(handover_timeout)),
        ("heartbeat.interval", duration(interval)),
        ("heartbeat.timeout", duration(timeout)),
        ("join_timeout", duration(join_timeout)),
        ("limits.handshakes_per_host", handshakes_per_host.to_string()),
        ("limits.max_connections", max_connections.to_string()),
        ("limits.max_message", bytes(max_message)),
        ("linger", duration(linger)),
        ("max_age", max_age.map_or_else(none, duration)),
        ("plain_text_credentials", plain_text_credentials.to_string()),
        ("quiet_after", duration(quiet_after)),
        ("replay_latest", replay_latest.to_string()),
        ("reply_timeout", duration(reply_timeout)),
        ("retry.base_delay", duration(base_delay)),
        ("retry.first", first.to_owned()),
        ("retry.max_attempts", max_attempts.map_or_else(none, |n| n.to_string())),
        ("retry.max_delay", duration(max_delay)),
        ("retry.min_delay", duration(min_delay)),
        ("retry.reset_after", duration(reset_after)),
        ("send_queue", send_queue.to_string()),
        ("send_ttl", duration(send_ttl)),
        ("sweep_interval", duration(sweep_interval)),
        ("token_refresh", duration(token_refresh)),
        ("token_timeout", duration(token_timeout)),
        ("write_timeout", duration(write_timeout)),
    ]
    .into_iter()
    .map(|(setting, value)| (setting.to_owned(), value))
    .collect()
}

/// A duration as the page writes it, in the largest unit that fits.
fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0".to_owned(),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn bytes(bytes: usize) -> String {
    assert_eq!(bytes % (1 << 20), 0);
    format!("{} MiB", bytes >> 20)
}

#[derive(Clone, Copy, Debug)]
enum Failure {
    Close(u16),
    Http(u16),
}

/// How a stream fares that meets the same failure three times.
#[derive(Debug, PartialEq)]
enum Outcome {
    Fatal { after: usize },
    Retried { at_least: Duration },
    Unauthorized,
}

/// The failures that a cell names by number.
fn failures_in(cell: &str) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut kind: Option<fn(u16) -> Failure> = None;
    for word in cell.split([' ', ',', ';']).filter(|word| !word.is_empty()) {
        match (word, kind) {
            ("HTTP", _) => kind = Some(Failure::Http),
            ("close", _) => kind = Some(Failure::Close),
            (numbers, Some(kind)) if numbers.starts_with(|c: char| c.is_ascii_digit()) => {
                let (first, last) = numbers.split_once('–').unwrap_or((numbers, numbers));
                let range = first.parse().unwrap()..=last.parse().unwrap();
                failures.extend(range.map(kind));
            }
            _ => kind = None,
        }
    }
    failures
}

fn expected(then: &str) -> Outcome {
    match then {
        "`Closed(Fatal)`" => Outcome::Fatal { after: 1 },
        "`Closed(Unauthorized)`" => Outcome::Unauthorized,
        "retried" => Outcome::Retried { at_least: Duration::ZERO },
        "retried, after 5 s or more" => Outcome::Retried { at_least: Duration::from_secs(5) },
        then if then.starts_with("retried, after `Retry-After` or else `max_delay`") => {
            Outcome::Retried { at_least: RetryPolicy::default().max_delay }
        }
        "retried; the third in a row is `Closed(Fatal)`" => Outcome::Fatal { after: 3 },
        then => panic!("no outcome: {then}"),
    }
}

async fn outcome(failure: Failure) -> Outcome {
    let (transport, mut server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test").unwrap()).transport(transport);
    let manager = builder.limiter(Limiter::new()).seed(7).build().unwrap();
    let mut events = manager.events();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let mut delays = Vec::new();
    while delays.len() < 3 {
        fail(&mut server, failure).await;
        let judged = events.by_ref().filter_map(|event| async {
            match event {
                Event::Closed { reason, .. } => Some(Err(reason)),
                Event::Retrying { delay, .. } => Some(Ok(delay)),
                _ => None,
            }
        });
        match Box::pin(judged).next().await.unwrap() {
            Ok(delay) => delays.push(delay),
            Err(CloseReason::Fatal(_)) => return Outcome::Fatal { after: delays.len() + 1 },
            Err(CloseReason::Unauthorized(_)) => return Outcome::Unauthorized,
            Err(reason) => panic!("{failure:?}: {reason}"),
        }
    }
    // Jitter alone stays below 4 s in three retries.
    let shortest = delays.into_iter().min().unwrap_or_default();
    let floors = [30, 5].map(Duration::from_secs).into_iter();
    let at_least = floors.filter(|floor| shortest >= *floor).max().unwrap_or_default();
    Outcome::Retried { at_least }
}

async fn fail(server: &mut MemoryServer, failure: Failure) {
    match failure {
        Failure::Close(code) => server.accept().await.close(code, "bye"),
        Failure::Http(status) => drop(server.answer(status, HeaderMap::new()).await),
    }
}
