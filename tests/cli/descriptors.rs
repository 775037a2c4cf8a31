//! `wsmux serve` in a process that may open few descriptors, and is out of them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::serve::{Gateway, ask};
use super::*;

/// How many descriptors it may have.
const LIMIT: usize = 64;

/// The program, of which the shell has taken the right to more.
async fn limited(arguments: &[&str]) -> Gateway {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_wsmux")]);
    let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
    Gateway::spawn(command_by(shell, &arguments)).await
}

impl Gateway {
    /// How many descriptors it has now.
    fn open(&self) -> usize {
        let pid = self.program.child.id().expect("it is alive");
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }

    /// A client that reads `numbers` byte for byte, or the status by which it is refused.
    async fn relay(&self) -> Result<TcpStream, String> {
        let mut socket = TcpStream::connect(&self.at).await.unwrap();
        let request = format!(
            "GET /ws/numbers HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.at
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(socket.read_u8()).await.unwrap());
        }
        let status = String::from_utf8(head[9..12].to_vec()).unwrap();
        if status == "101" { Ok(socket) } else { Err(status) }
    }
}

/// Waits for a text of that end in what `socket` is sent.
async fn until(socket: &mut TcpStream, end: &str) {
    let mut came = Vec::new();
    while !came.ends_with(end.as_bytes()) {
        came.push(within(socket.read_u8()).await.unwrap());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_that_is_out_of_descriptors_refuses_serves_who_is_in_and_recovers() {
    let upstream = MockServer::start().await.unwrap();
    let url = upstream.url();
    let arguments = ["--anonymous", "--upstream", &url, "--admin", "127.0.0.1:0"];
    let mut gateway = limited(&arguments).await;
    let mut clients = vec![gateway.relay().await.unwrap()];
    let peer = within(upstream.accept()).await;

    // Clients get nine tenths of them at most, and then an answer.
    let refused = loop {
        match gateway.relay().await {
            Ok(client) => clients.push(client),
            Err(status) => break status,
        }
        assert!(clients.len() < LIMIT, "nobody is refused");
    };
    assert_eq!(refused, "503");
    assert!(clients.len() > LIMIT / 4, "only {} came in", clients.len());

    // Who says nothing takes the others, and `accept` fails.
    let mut silent = Vec::new();
    while gateway.open() < LIMIT {
        assert!(silent.len() < 4 * LIMIT, "{} are open", gateway.open());
        silent.push(TcpStream::connect(&gateway.at).await.unwrap());
        tokio::task::yield_now().await;
    }
    let mut waiting = TcpStream::connect(&gateway.at).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    waiting.write_all(request.as_bytes()).await.unwrap();
    for number in ["one", "two", "three"] {
        assert!(peer.send(number).await);
        until(&mut clients[0], number).await;
    }

    drop(silent);
    let mut answer = String::new();
    within(waiting.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    clients.truncate(1);
    // It looks at its descriptors once a second.
    let again = within(async {
        loop {
            match gateway.relay().await {
                Ok(client) => break client,
                Err(status) => assert_eq!(status, "503"),
            }
        }
    });
    clients.push(again.await);
    assert!(peer.send("four").await);
    until(&mut clients[0], "four").await;
    let (_, metrics) = ask(gateway.admin.as_deref().unwrap(), "GET", "/metrics", "").await;
    let full = metrics.lines().find_map(|line| {
        line.strip_prefix("ws_gateway_refused_total{reason=\"full\"} ")?.parse::<u64>().ok()
    });
    assert!(full >= Some(1), "{metrics}");
    assert_eq!(gateway.program.child.try_wait().unwrap(), None, "it is alive");
}
