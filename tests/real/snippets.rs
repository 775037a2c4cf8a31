//! The snippets in `docs/guide/clients.md` but for those of browsers, each as somebody copies it: against the demo, and over streams
//! of which the test sends each message when the one before it has been shown.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use tokio::process::Command;
use wsmux::test_util::{MockServer, Peer};

use crate::fronts::{Front, Kind};
use crate::gateway::{Gateway, KEY};
use crate::program::{Program, installed};
use crate::within;

const PAGE: &str = include_str!("../../docs/guide/clients.md");
const ANYBODY: &str = "[auth]\nanonymous = true";

/// The language of what `scripts/browser` runs.
const BROWSERS: &str = "html";

/// What a snippet needs to run.
#[derive(Clone, Copy, Debug)]
enum Needs {
    Command(&'static str),
    Npm(&'static str),
    Pip(&'static str),
}

/// What a snippet shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shows {
    /// The latest message.
    Latest,
    /// Messages until its socket is closed.
    Messages,
    /// Messages, and where some are missing.
    MessagesAndGaps,
}

#[derive(Clone, Copy, Debug)]
struct Snippet {
    title: &'static str,
    needs: Needs,
    shows: Shows,
}

/// The blocks of the page, each below its title.
fn blocks(page: &str) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    for section in page.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        let mut parts = section.split("\n```");
        while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
            let (language, text) = block.split_once('\n').unwrap();
            found.push((title, language, text));
        }
    }
    found
}

/// Those that run here.
fn ours(page: &str) -> Vec<(&str, &str, &str)> {
    blocks(page).into_iter().filter(|(_, language, _)| *language != BROWSERS).collect()
}

/// A snippet that runs. Its folder goes with it.
#[derive(Debug)]
struct Run {
    folder: PathBuf,
    program: Program,
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Snippet {
    /// The folder of what was installed, if what it needs is there.
    fn installed(&self) -> Option<PathBuf> {
        let (installed, needed) = match self.needs {
            Needs::Command(command) => return installed(&[command]),
            Needs::Npm(package) => return crate::node::package(package),
            Needs::Pip(package) => (installed(&[])?, package),
        };
        let python = Command::new(installed.join("python/bin/python"))
            .as_std_mut()
            .args(["-c", &format!("import {needed}")])
            .output();
        if !python.is_ok_and(|ran| ran.status.success()) {
            crate::skipped(&format!("Python has no `{needed}`"));
            return None;
        }
        Some(installed)
    }

    /// What the page has below its title, run against `at`.
    fn start(&self, at: &str, key: Option<&str>) -> Option<Run> {
        static RUNS: AtomicU16 = AtomicU16::new(0);

        let installed = self.installed()?;
        let blocks = blocks(PAGE);
        let (_, language, text) = blocks.iter().find(|(title, ..)| *title == self.title).unwrap();
        assert!(text.contains("127.0.0.1:8080"), "{text}");
        // Below what npm installed, where node looks for packages.
        let name = format!("run-{}-{}", std::process::id(), RUNS.fetch_add(1, Relaxed));
        let folder = installed.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (program, file) = match *language {
            "js" => ("node".into(), "snippet.mjs"),
            "python" => (installed.join("python/bin/python"), "snippet.py"),
            "sh" => ("sh".into(), "snippet.sh"),
            language => panic!("nobody runs {language}"),
        };
        std::fs::write(folder.join(file), text.replace("127.0.0.1:8080", at)).unwrap();
        let mut command = Command::new(program);
        command.arg(file).current_dir(&folder).env("PATH", path(&installed));
        command.env("PYTHONUNBUFFERED", "1").env_remove("KEY");
        command.envs(key.map(|key| ("KEY", key)));
        Some(Run { program: Program::watched(command), folder })
    }

    async fn reads_the_demo(&self) {
        let Some(gateway) = Gateway::demo().await else { return };
        let Some(mut run) = self.start(&gateway.at, None) else { return };
        let count = if self.shows == Shows::Latest { 1 } else { 3 };
        for _ in 0..count {
            run.program.says("BTCUSDT").await;
        }
    }

    async fn follows(&self, front: Option<Kind>) {
        let upstream = MockServer::start().await.unwrap();
        let Some(gateway) = Gateway::over(&upstream.url(), ANYBODY).await else { return };
        let front = match front {
            None => None,
            Some(kind) => match Front::before(&gateway.at, kind).await {
                None => return,
                front => front,
            },
        };
        let at = front.as_ref().map_or(&gateway.at, |front| &front.at);
        let Some(mut run) = self.start(at, None) else { return };
        let bitcoin = bitcoin(&upstream).await;
        if self.shows == Shows::Latest {
            assert!(bitcoin.send(r#"{"word":"first"}"#).await);
            run.program.says(r#"{"word":"first"}"#).await;
            run.program.says("304").await;
            let latest = std::fs::read_to_string(run.folder.join("latest.json")).unwrap();
            assert_eq!(latest, r#"{"word":"first"}"#);
            return;
        }
        for word in ["first", "second"] {
            assert!(bitcoin.send(format!(r#"{{"word":"{word}"}}"#)).await);
            run.program.says(word).await;
        }
        if self.shows == Shows::MessagesAndGaps {
            bitcoin.reset();
            run.program.says("gap").await;
            assert!(self::bitcoin(&upstream).await.send(r#"{"word":"third"}"#).await);
            run.program.says("third").await;
        }
    }

    async fn shows_its_key(&self) {
        let upstream = MockServer::start().await.unwrap();
        let config =
            "[auth]\nin_band = false\n[[auth.api_keys]]\nuser = \"ann\"\nkey = { env = \"ANN\" }";
        let Some(gateway) = Gateway::over(&upstream.url(), config).await else { return };
        for key in [None, Some("some-other-key-of-that-length-012345")] {
            let Some(mut run) = self.start(&gateway.at, key) else { return };
            run.program.says("401").await;
        }
        let mut run = self.start(&gateway.at, Some(KEY)).unwrap();
        assert!(bitcoin(&upstream).await.send(r#"{"word":"first"}"#).await);
        run.program.says("first").await;
    }
}

/// With the programs of npm's packages and of pip's.
fn path(installed: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let installed = installed.display();
    format!("{installed}/node_modules/.bin:{installed}/python/bin:{path}")
}

/// The next socket of that name: some snippets read another as well.
async fn bitcoin(upstream: &MockServer) -> Peer {
    loop {
        let peer = within(upstream.accept()).await;
        if peer.path().contains("btcusdt") {
            return peer;
        }
    }
}

macro_rules! snippets {
    ($($name:ident: $title:literal, $needs:expr, $shows:expr;)*) => {
        const TITLES: &[&str] = &[$($title),*];

        $(mod $name {
            use super::*;

            const SNIPPET: Snippet = Snippet { title: $title, needs: $needs, shows: $shows };

            #[tokio::test]
            async fn as_it_is_copied_it_reads_the_demo() {
                SNIPPET.reads_the_demo().await;
            }

            #[tokio::test]
            async fn it_shows_each_message_as_it_comes() {
                SNIPPET.follows(None).await;
            }

            #[tokio::test]
            async fn it_does_so_behind_nginx() {
                SNIPPET.follows(Some(Kind::Nginx)).await;
            }

            #[tokio::test]
            async fn it_does_so_behind_haproxy() {
                SNIPPET.follows(Some(Kind::Haproxy)).await;
            }

            #[tokio::test]
            async fn it_does_so_behind_caddy() {
                SNIPPET.follows(Some(Kind::Caddy)).await;
            }

            #[tokio::test]
            async fn with_a_key_it_is_let_in_and_without_it_says_why_not() {
                SNIPPET.shows_its_key().await;
            }
        })*
    };
}

snippets! {
    aiohttp_events: "Python: aiohttp, events", Needs::Pip("aiohttp"), Shows::MessagesAndGaps;
    aiohttp_websocket: "Python: aiohttp, WebSocket", Needs::Pip("aiohttp"), Shows::MessagesAndGaps;
    curl_events: "curl: events", Needs::Command("curl"), Shows::MessagesAndGaps;
    curl_latest: "curl: the latest message", Needs::Command("curl"), Shows::Latest;
    node_eventsource: "Node: eventsource", Needs::Npm("eventsource"), Shows::MessagesAndGaps;
    node_ws: "Node: ws", Needs::Npm("ws"), Shows::MessagesAndGaps;
    python_websockets: "Python: websockets", Needs::Pip("websockets"), Shows::MessagesAndGaps;
    websocat: "websocat", Needs::Command("websocat"), Shows::MessagesAndGaps;
    wscat: "wscat", Needs::Npm("wscat"), Shows::Messages;
}

#[test]
fn each_snippet_on_the_page_is_run() {
    let mut found: Vec<_> = ours(PAGE).into_iter().map(|(title, ..)| title).collect();
    found.sort_unstable_by_key(|title| title.to_lowercase());
    let mut run = TITLES.to_vec();
    run.sort_unstable_by_key(|title| title.to_lowercase());
    assert_eq!(found, run);
}

#[test]
fn a_snippet_that_nobody_runs_is_found() {
    let page = format!("{PAGE}\n## Perl\n\n```perl\nprint 1;\n```\n\n```sh\nperl it\n```\n");
    let blocks = ours(&page);
    assert_eq!(blocks.len(), TITLES.len() + 2);
    assert_eq!(blocks[TITLES.len()..], [("Perl", "perl", "print 1;"), ("Perl", "sh", "perl it")]);
}
