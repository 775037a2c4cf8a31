//! What the help ends with.

/// Examples, and the exit codes behind them.
pub(super) fn and_codes(examples: &str) -> String {
    format!("{examples}\n\n{EXIT_CODES}")
}

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked (Ctrl-C, SIGTERM, --count, --for, the output's reader went
     away); doctor: all is well
  1  a stream that had been open was lost for good; doctor: the WebSocket opens
     and does not last; record, replay: the file cannot be written, or is damaged;
     serve, mock: the address is not to be had
  2  the command line makes no sense
  3  no connection: DNS, TCP, a proxy, TLS, or no answer in time
  4  the server refuses: an HTTP status, or it is no WebSocket server
  5  doctor: the stream works, with something worth a look";

pub(super) const TAIL: &str = "\
Examples:
  Two streams, for people:
    wsmux tail wss://stream.binance.com:9443/ws btcusdt@trade ethusdt@trade
  The name elsewhere in the URL, here in the query:
    wsmux tail 'wss://host/feed?stream={name}' book
  A hundred messages for a program:
    wsmux tail --format json --count 100 wss://host/ws trades | jq .payload.p
  A busy feed on a slow terminal, twice a second, the latest only:
    wsmux tail --conflate --rate 2 wss://host/ws book
  How busy is it? Ten seconds of counting:
    wsmux tail --stats --for 10s --format raw wss://host/ws trades > /dev/null

With --format json each line is an object. A message:
  {\"name\":…,\"received\":…,\"type\":\"json\"|\"text\"|\"binary\",\"payload\":…}
whose payload is the message itself, a string, or base64. All else has \"notice\":
gap, status, closed, stats.";

pub(super) const RECORD: &str = "\
Examples:
  A day of two streams, to be had tomorrow:
    wsmux record --for 24h -o monday.rec wss://stream.binance.com:9443/ws \\
        btcusdt@trade ethusdt@trade
  Each day into one file, whatever happens to the machine:
    wsmux record --append -o feed.rec wss://host/ws trades";

pub(super) const REPLAY: &str = "\
Examples:
  As it was, for people:
    wsmux replay monday.rec
  A day in an hour, one stream of it:
    wsmux replay --speed 24 monday.rec btcusdt@trade
  All of it for a program, as fast as it reads:
    wsmux replay --speed max --format json monday.rec | jq .payload.p";

pub(super) const DOCTOR: &str = "\
Examples:
  Why does it not connect?
    wsmux doctor wss://stream.binance.com:9443/ws btcusdt@trade
  A private CA and a token, without the token in the list of processes:
    wsmux doctor --ca ca.pem --header @token.txt wss://host/ws orders
  As a check of a monitor:
    wsmux doctor --json --timeout 3s --listen 5s wss://host/ws ticks";

pub(super) const SERVE: &str = "\
Examples:
  Something to look at, without a network:
    wsmux serve --demo
  One venue for everybody on this machine, and what operators see:
    wsmux serve --anonymous --upstream wss://stream.binance.com:9443/ws \\
        --admin 127.0.0.1:9090
  For the world, behind a proxy; who may come in is in the file:
    wsmux serve --config /etc/wsmux/serve.toml --state /var/lib/wsmux/state.json";

pub(super) const MOCK: &str = "\
Examples:
  Does it come back, and does it tell of what it missed? In two terminals:
    wsmux mock --listen 127.0.0.1:9001 --rate 200 --drop-after 5s
    wsmux tail ws://127.0.0.1:9001/ws btcusdt@trade
  In a script, on a free port:
    coproc wsmux mock --rate 1000 --lose-every 50
    read -r url <&\"${COPROC[0]}\"
  A venue on a bad day, behind a gateway:
    wsmux mock --protocol binance --listen 127.0.0.1:9001 --refuse 503 --refuse-every 2
    wsmux serve --anonymous --protocol binance --upstream ws://127.0.0.1:9001";

pub(super) const BENCH: &str = "\
Examples:
  How busy is it, and how late? `E` is the time of Binance's events:
    wsmux bench --timestamp E wss://stream.binance.com:9443/ws btcusdt@trade
  What does a gateway bear? A hundred sockets for a minute, for a program:
    wsmux bench --connections 100 --seconds 60 --json ws://127.0.0.1:8080/ws book";

pub(super) const COMPLETIONS: &str = "\
Examples:
  For this user, from the next shell on:
    wsmux completions bash > ~/.local/share/bash-completion/completions/wsmux
    wsmux completions fish > ~/.config/fish/completions/wsmux.fish
  zsh, into a directory of its $fpath:
    wsmux completions zsh > ~/.zfunc/_wsmux";

pub(super) const MAN: &str = "\
Examples:
  One page, now:
    wsmux man tail | man -l -
  All of them, for this user:
    wsmux man --dir ~/.local/share/man/man1";
