//! The command line.

mod examples;
mod refusal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args as Group, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use wsmux::test_util::After;

pub(crate) use self::refusal::refused;
use crate::bench::{Field, field};
use crate::values::{Rate, Retry, Speed, address, duration, rate, retry, speed, when};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Shared WebSocket streams by name, from a shell.
#[derive(Debug, Parser)]
#[command(
    name = "wsmux",
    version,
    styles = STYLES,
    after_help = examples::EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = false,
    propagate_version = true,
    subcommand_required = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// When to use colours; NO_COLOR, CLICOLOR_FORCE and TERM=dumb are heeded by `auto`.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        display_order = 100
    )]
    pub(crate) color: Color,

    /// Log what happens on stderr; twice for more. Names of streams are logged, messages are not.
    /// `serve` logs warnings without it.
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 101)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the messages of streams as they come.
    Tail(Tail),
    /// Record streams into a file.
    Record(Record),
    /// Print recorded streams as they came.
    Replay(Replay),
    /// Find out why a stream does not come, or comes badly.
    Doctor(Doctor),
    /// Serve streams to browsers and other languages.
    Serve(Serve),
    /// Run a mock exchange, which misbehaves as it is told.
    Mock(Mock),
    /// Measure a feed: rates, regularity, latency.
    Bench(Bench),
    /// Print what a shell needs to complete commands.
    Completions(Completions),
    /// Print the manual, for `man`.
    Man(Man),
}

/// Where to and how.
#[derive(Debug, Group)]
pub(crate) struct Target {
    /// The base of the streams: the name becomes the next segment of its path, or takes the place
    /// of `{name}`.
    pub(crate) url: String,

    /// Add a header to the handshake, such as `Authorization: Bearer …`. `@FILE` reads them from a
    /// file, one per line: arguments are seen by everybody on this machine.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,

    /// Trust the certificates in this PEM file as roots too.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Go through this proxy, such as `socks5h://user:password@host:port`, or through `none`,
    /// whatever HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say. A password is better kept in
    /// these.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
}

/// Print the messages of streams as they come.
///
/// Each name has a socket of its own. A lost one is dialled again; where messages may be missing, a
/// line says so in its place. Ctrl-C prints a summary and ends it.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::TAIL))]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) target: Target,

    /// The streams to print. One that begins with `-` stands behind `--`.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) print: Print,

    /// End after this time, such as `30s`, `5m` or `250ms`. It is an error (3 or 4) if nothing was
    /// open by then.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) limit: Option<Duration>,

    /// Retry a lost socket `forever`, `never`, or this many times.
    #[arg(long, value_name = "TIMES", value_parser = retry, default_value = "10")]
    pub(crate) retry: Retry,
}

/// What is printed, and how.
#[derive(Debug, Group)]
pub(crate) struct Print {
    /// How to print messages. `raw` is the payload and a newline, not made safe for a terminal; its
    /// notices go to stderr.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) format: Format,

    /// Print only the latest message of each stream while the output is slow, or `--rate` forbids
    /// more.
    #[arg(long)]
    pub(crate) conflate: bool,

    /// Print at most this many messages per second; leave out the others. Notices do not count.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<Rate>,

    /// Count messages, bytes, gaps and reconnects, and how long apart messages come: print it every
    /// PERIOD, and at the end. As JSON among the messages with `--format json`, else on stderr.
    #[arg(
        long,
        value_name = "PERIOD",
        value_parser = duration,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10s"
    )]
    pub(crate) stats: Option<Duration>,

    /// End after this many messages, all streams together.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// Record streams into a file.
///
/// The file holds each message as it came, with its time, and each gap in its place. It is whole up to
/// the last message whatever happens to the program; Ctrl-C ends it properly. `wsmux replay` prints it,
/// and a program runs on it through `wsmux::record::Replay`.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::RECORD))]
pub(crate) struct Record {
    #[command(flatten)]
    pub(crate) target: Target,

    /// The streams to record. One that begins with `-` stands behind `--`.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// The file to write, which must not exist.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Go on in a file that exists, behind what it has. A torn end is cut off.
    #[arg(long)]
    pub(crate) append: bool,

    /// End after this time, such as `30s`, `5m` or `24h`. It is an error (3 or 4) if nothing was open
    /// by then.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) limit: Option<Duration>,

    /// Retry a lost socket `forever`, `never`, or this many times.
    #[arg(long, value_name = "TIMES", value_parser = retry, default_value = "forever")]
    pub(crate) retry: Retry,
}

/// Print recorded streams as they came.
///
/// Prints as `tail` does, with the recorded times. Where the output is slow, the recording waits:
/// nothing is left out.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::REPLAY))]
pub(crate) struct Replay {
    /// The file that `wsmux record` or a program's recorder wrote.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Only these of its streams.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// So many times faster than it was recorded, such as `10` or `0.5`; `max` waits for nothing but
    /// the output.
    #[arg(short, long, value_name = "TIMES", value_parser = speed, default_value = "1")]
    pub(crate) speed: Speed,

    #[command(flatten)]
    pub(crate) print: Print,
}

/// Find out why a stream does not come, or comes badly.
///
/// Opens one socket, by the same code as all others, and looks at each step: DNS, TCP, TLS,
/// handshake, first message, ping and pong, the server's clock, closing. Each is timed, and what is
/// wrong comes with what to do about it.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::DOCTOR))]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: Target,

    /// The stream to examine.
    pub(crate) name: String,

    /// Print JSON: one object, with an entry per step.
    #[arg(long)]
    pub(crate) json: bool,

    /// Longest time for each step.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// Longest wait for the first message.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) listen: Duration,
}

/// Serve streams to browsers and other languages.
///
/// One upstream socket per name, and any number of clients: WebSocket (`/ws`, `/ws/NAME`), events
/// (`/sse/NAME`), and the latest message (`/snapshot/NAME`). SIGTERM closes clients one after the other
/// and ends with 0; SIGHUP reads the configuration again.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::SERVE))]
pub(crate) struct Serve {
    /// The base of the streams: the name becomes the next segment of its path, or takes the place
    /// of `{name}`.
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,

    /// How the upstream speaks.
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) protocol: Option<Speaks>,

    /// Read the rest from this file (TOML). What stands here goes before.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Serve clients here; 127.0.0.1:8080 by default.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Serve operators here; nowhere by default.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) admin: Option<SocketAddr>,

    /// Let in whoever comes.
    #[arg(long)]
    pub(crate) anonymous: bool,

    /// Keep the names that are read in this file, and open them again after a restart.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,

    /// Serve an exchange that makes no money and needs no network, to whoever comes.
    #[arg(long, conflicts_with_all = ["upstream", "protocol"])]
    pub(crate) demo: bool,
}

/// Run a mock exchange, which misbehaves as it is told.
///
/// For tests of whatever reads feeds, without a network. Its URL is the only line on stdout. The same
/// names have the same prices and numbers for the same seed, and faults come by count or by age: only
/// times are those of the clock. SIGTERM and Ctrl-C end it with 0; what its clients did wrong, such as a
/// name asked for twice or a ping without a pong, is told on stderr.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::MOCK))]
pub(crate) struct Mock {
    /// Listen here; port 0 is a free one.
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// How the exchange speaks. `direct` and `binance` have the streams @trade, @depth and @bookTicker
    /// of any symbol; the others have any name.
    #[arg(long, value_name = "NAME", value_enum, default_value = "direct")]
    pub(crate) protocol: Speaks,

    /// Messages per second of each name.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "20")]
    pub(crate) rate: u32,

    /// What all prices and numbers follow from.
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub(crate) seed: u64,

    /// Lose every Nth message of each name: a hole in its numbers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) lose_every: Option<u64>,

    /// End each socket, without a close frame, after so many messages (`100`) or so long (`5s`).
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) drop_after: Option<After>,

    /// Close each socket with 1012 after so many messages or so long.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) close_after: Option<After>,

    /// Send each socket a frame that no server may send after so many messages or so long.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) garbage_after: Option<After>,

    /// Send each socket nothing more after so many messages or so long, and leave it open.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) silence_after: Option<After>,

    /// Refuse dials by this HTTP status, such as 429 or 503, with `Retry-After: 1`.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..=599))]
    pub(crate) refuse: Option<u16>,

    /// Refuse only every Nth dial.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), default_value = "1", requires = "refuse")]
    pub(crate) refuse_every: u64,

    /// Accept slowly: the answer to a dial comes byte by byte, each after this time. It has about 130.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) drip: Option<Duration>,

    /// End after this time, such as `30s` or `5m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) limit: Option<Duration>,
}

/// Measure a feed: rates, regularity, latency.
///
/// Reads streams for a while and prints how many messages and bytes came, how long apart those of one
/// stream were, and what was lost. With --timestamp also how late they were, which is right only as far as
/// the sender's clock and this machine's agree; how much they spread is right in any case. `wsmux doctor`
/// times a dial and a ping.
#[derive(Debug, Group)]
#[command(after_help = examples::EXIT_CODES, after_long_help = examples::and_codes(examples::BENCH))]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) target: Target,

    /// The streams to measure. One that begins with `-` stands behind `--`.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// How the server speaks. But for `direct`, names share a socket.
    #[arg(long, value_name = "NAME", value_enum, default_value = "direct")]
    pub(crate) protocol: Speaks,

    /// Measure for so long. It is an error (3 or 4) if nothing was open by then.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), default_value = "10")]
    pub(crate) seconds: u64,

    /// Read each name so many times, over as many sockets. Mind what the venue allows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), default_value = "1")]
    pub(crate) connections: u16,

    /// The field of a message that has the time when it was sent, such as `E` or `data.0.ts`: a number of
    /// seconds, milliseconds, microseconds or nanoseconds since 1970, which its size tells apart.
    #[arg(long, value_name = "FIELD", value_parser = field)]
    pub(crate) timestamp: Option<Field>,

    /// Print JSON: one object. Times in it are in microseconds where their name ends in `_us`.
    #[arg(long)]
    pub(crate) json: bool,

    /// Retry a lost socket `forever`, `never`, or this many times.
    #[arg(long, value_name = "TIMES", value_parser = retry, default_value = "10")]
    pub(crate) retry: Retry,
}

/// Print what a shell needs to complete commands.
#[derive(Debug, Group)]
#[command(after_long_help = examples::COMPLETIONS)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Print the manual, for `man`.
#[derive(Debug, Group)]
#[command(after_long_help = examples::MAN)]
pub(crate) struct Man {
    /// The page of this command; without one, that of the program.
    #[arg(value_name = "COMMAND", value_parser = crate::manual::command)]
    pub(crate) command: Option<String>,

    /// Write all pages into this directory instead, which is made if there is none.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

/// How an upstream speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Speaks {
    /// Binance's combined streams.
    Binance,
    /// Bybit's streams.
    Bybit,
    /// Coinbase Advanced Trade's channels.
    Coinbase,
    /// Deribit's JSON-RPC.
    Deribit,
    /// A socket for each name.
    Direct,
    /// Subscriptions of a GraphQL server (graphql-transport-ws); a name is a document.
    Graphql,
    /// Hyperliquid's feeds.
    Hyperliquid,
    /// Subscriptions of an Ethereum node.
    JsonRpc,
    /// Kraken's channels, v2.
    Kraken,
    /// OKX's public channels.
    Okx,
    /// Phoenix's channels.
    Phoenix,
    /// TradingView's quotes.
    #[value(name = "tradingview")]
    TradingView,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// Time, name and payload on one line.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
    /// The payload and a newline.
    Raw,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    pub(crate) fn write_global(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["wsmux"], arguments].concat())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_tells_the_exit_codes_and_gives_examples() {
        for command in ["tail", "record", "replay", "doctor", "serve", "mock", "bench"] {
            let help = parsed(&[command, "--help"]).unwrap_err().render().to_string();
            assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
            let short = parsed(&[command, "-h"]).unwrap_err().render().to_string();
            assert!(short.contains("Exit codes:") && !short.contains("Examples:"), "{short}");
        }
    }

    #[test]
    fn stats_take_a_period_only_behind_an_equals_sign() {
        let stats = |arguments: &[&str]| {
            let Command::Tail(tail) = parsed(arguments).unwrap().command else { panic!() };
            (tail.print.stats, tail.names.len())
        };
        assert_eq!(stats(&["tail", "ws://h", "x"]), (None, 1));
        let ten = Some(Duration::from_secs(10));
        assert_eq!(stats(&["tail", "--stats", "ws://h", "x"]), (ten, 1));
        let one = Some(Duration::from_secs(1));
        assert_eq!(stats(&["tail", "--stats=1s", "ws://h", "x"]), (one, 1));
    }
}
