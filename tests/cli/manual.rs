//! `wsmux completions` and `wsmux man`, read by the programs that they are for.

use std::io::Write as _;
use std::path::Path;

use super::*;

const COMMANDS: [&str; 9] =
    ["bench", "completions", "doctor", "man", "mock", "record", "replay", "serve", "tail"];

/// A directory of this test, which goes with it.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wsmux-manual-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether there is such a program. A test that cannot do without one says so, past the harness.
fn is_here(program: &str, argument: &str) -> bool {
    let here = std::process::Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !here {
        let line = format!("SKIPPED manual_{program}: {program} is not installed\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    here
}

/// What a program says to `arguments`, on stdout and on stderr.
fn says(program: &str, arguments: &[&str]) -> (String, String) {
    let ran = std::process::Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ran = ran.unwrap();
    let [out, err] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(ran.status.success(), "{program} {arguments:?}: {out}{err}");
    (out, err)
}

#[tokio::test]
async fn bash_completes_commands_options_and_values() {
    let directory = Directory::new("bash");
    let ran = run(&["completions", "bash"]).await;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    if !is_here("bash", "--version") {
        return;
    }
    let script = directory.file("wsmux.bash", &ran.stdout);
    // What bash does when TAB is struck behind the last of `words`.
    let complete = |words: &[&str]| {
        let ask = r#"
            set -u
            source "$1"; shift
            complete -p wsmux >/dev/null || exit 1
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _wsmux wsmux "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let arguments = [&["--norc", "-c", ask, "bash", &script], words].concat();
        let (out, err) = says("bash", &arguments);
        assert_eq!(err, "", "{words:?}");
        let mut found: Vec<_> = out.lines().map(ToOwned::to_owned).collect();
        found.sort();
        found
    };
    let commands = complete(&["wsmux", ""]);
    for command in COMMANDS {
        assert!(commands.iter().any(|found| found == command), "{command}: {commands:?}");
    }
    assert_eq!(complete(&["wsmux", "re"]), ["record", "replay"]);
    assert_eq!(complete(&["wsmux", "mock", "--drop"]), ["--drop-after"]);
    assert_eq!(complete(&["wsmux", "mock", "--protocol", "d"]), ["deribit", "direct"]);
    assert_eq!(complete(&["wsmux", "tail", "--format", ""]), ["json", "pretty", "raw"]);
    assert_eq!(
        complete(&["wsmux", "nonsense", "--dr"]),
        [""],
        "it completes nothing of no command"
    );
}

#[tokio::test]
async fn every_shell_has_a_script_that_knows_all_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(&["completions", shell]).await;
        assert_eq!(ran.code, Some(0), "{shell}");
        let text = ran.text();
        for command in COMMANDS {
            assert!(text.contains(command), "{shell}: {command}");
        }
    }
    for wrong in [&["completions"][..], &["completions", "csh"], &["man", "dance"]] {
        let ran = run(wrong).await;
        assert_eq!((ran.code, ran.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
}

#[tokio::test]
async fn zsh_and_fish_take_their_scripts() {
    let directory = Directory::new("shells");
    for shell in ["zsh", "fish"] {
        if is_here(shell, "--version") {
            let script = directory.file(shell, &run(&["completions", shell]).await.stdout);
            assert_eq!(says(shell, &["-n", &script]).1, "", "{shell}");
        }
    }
}

#[tokio::test]
async fn each_command_has_a_page_that_man_shows_without_a_complaint() {
    let directory = Directory::new("man");
    let path = directory.0.to_str().unwrap();
    let ran = run(&["man", "--dir", path]).await;
    assert_eq!((ran.code, ran.stdout.len(), &*ran.stderr), (Some(0), 0, ""));
    let has_man = is_here("man", "--version");
    let names = COMMANDS.map(|command| format!("wsmux-{command}"));
    for name in names.iter().map(|name| &**name).chain(["wsmux"]) {
        let page = directory.0.join(format!("{name}.1"));
        let text = std::fs::read_to_string(&page).unwrap();
        let title = text.lines().find(|line| line.starts_with(".TH")).unwrap();
        assert!(title.starts_with(&format!(".TH {name} 1")), "{title}");
        assert!(title.contains("\"wsmux "), "of which program it is: {title}");
        if has_man {
            looks_well(name, &page);
        }
    }
    let written = std::fs::read_dir(&directory.0).unwrap().count();
    assert_eq!(written, COMMANDS.len() + 1, "each command is in the list above");

    let alone = run(&["man", "tail"]).await;
    assert_eq!(alone.stdout, std::fs::read(directory.0.join("wsmux-tail.1")).unwrap());
    assert_eq!(run(&["man"]).await.stdout, std::fs::read(directory.0.join("wsmux.1")).unwrap());
    let made = directory.0.join("is/made");
    assert_eq!(run(&["man", "--dir", made.to_str().unwrap()]).await.code, Some(0));
    assert!(made.join("wsmux.1").is_file());
    let nowhere = format!("{path}/wsmux.1/at/all");
    let ran = run(&["man", "--dir", &nowhere]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(&nowhere), "{ran:?}");
}

fn looks_well(name: &str, page: &Path) {
    let page = page.to_str().unwrap();
    let arguments = ["-E", "UTF-8", "--warnings=w", "-l", page];
    let ran = std::process::Command::new("man")
        .args(arguments)
        .env("MANWIDTH", "100")
        .env("MAN_KEEP_FORMATTING", "")
        .env("LC_ALL", "C.UTF-8")
        .env("PAGER", "cat")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let [shown, said] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(ran.status.success() && said.is_empty(), "{name}: {said}");
    for section in ["NAME", "SYNOPSIS", "OPTIONS"] {
        assert!(shown.contains(section), "{name}: {section}: {shown}");
    }
    if name == "wsmux-tail" {
        let example =
            "    wsmux tail --format json --count 100 wss://host/ws trades | jq .payload.p\n";
        assert!(shown.contains(example), "an example can be copied: {shown}");
    }
}
