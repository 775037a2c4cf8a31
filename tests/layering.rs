//! Imports go downward: reads `src/` and refuses an upward import, a cycle, or a detour by the root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What may import what: a module imports modules of lower levels and of its own tree.
const LEVELS: &[&[&str]] = &[
    &["message", "name"],
    &["config", "decode", "batch"],
    &["protocol"],
    &["transport"],
    &["error"],
    &["test_util"],
    &["observe"],
    &["engine"],
    &["stream"],
    &["ext", "manager"],
    &["compat", "doctor", "record"],
    &["requests"],
    &["gateway"],
];

/// The same, inside `engine/`. Its `mod.rs` has no level; cycles with it are refused all the same.
const ENGINE: &[&[&str]] = &[
    &["defect"],
    &["moment", "small", "sync"],
    &["request"],
    &["outgoing"],
    &["bases", "dedicated", "events", "flight", "limiter", "neighbours", "penalty", "topic"],
    &["registry", "tokens", "tools"],
    &["core"],
    &["sweeper"],
    &["connection", "seat"],
];

/// Pairs that are one concept in two files, and import each other.
const PAIRS: &[(&str, &str)] = &[("batch", "decode"), ("message::pack", "message::text")];

#[test]
fn every_import_of_the_crate_goes_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read(&root, &root, &mut sources);
    assert!(sources.len() > 10, "found only {} files", sources.len());
    let faults = check(&sources);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn imports_that_go_downward_are_accepted() {
    let faults = check_texts(&[
        ("lib.rs", "mod message; mod decode; mod batch; mod protocol; pub use message::Message;"),
        ("message.rs", "//! See [`crate::engine::Core`].\npub struct Message;"),
        ("batch.rs", "use crate::decode::Shared;"),
        ("decode.rs", "use crate::{batch::Entry, message::Message};"),
        (
            "protocol/mod.rs",
            "mod url; pub use url::Url; fn f(u: Url) -> crate::message::Message {}",
        ),
        ("protocol/url.rs", "use super::Protocol; pub(in crate::protocol) struct Url;"),
        ("engine/mod.rs", "mod sync; mod core; pub(crate) use self::core::Core;"),
        ("engine/sync.rs", "use crate::protocol::Url; fn f() -> impl Sized + use<'_> {}"),
        ("engine/core.rs", "use super::sync::Mutex; use core::time::Duration;"),
        ("bin/tool.rs", "use wsmux::Message; use crate::Options;"),
    ]);
    assert_eq!(faults, [""; 0]);
}

#[test]
fn comments_strings_and_tests_are_no_imports() {
    let faults = check_texts(&[
        ("lib.rs", "mod name; mod engine; pub use engine::Core;"),
        ("engine/mod.rs", ""),
        (
            "name.rs",
            r##"
            // use crate::engine::Core;
            /* crate::engine /* crate::engine::Core */ crate::Core */
            /// A [`Core`](crate::Core).
            const S: &str = "crate::engine::Core";
            const R: &str = r#"" crate::engine::Core"#;
            const C: [char; 3] = ['"', '\'', '\\'];
            fn life<'a>(x: &'a str) {}
            #[cfg(test)]
            use crate::engine::{Core, Other};
            #[cfg(all(test, not(other)))]
            mod tests { fn f() { use crate::Core; } }
            #[cfg(test)]
            mod races;
            struct S { #[cfg(test)] probe: crate::engine::Probe, rest: u8 }
            "##,
        ),
        ("name/races.rs", "use crate::engine::Core;"),
    ]);
    assert_eq!(faults, [""; 0]);
}

#[test]
fn an_upward_import_is_refused_however_it_is_written() {
    for text in [
        "use crate::engine::Core;",
        "use crate::engine;",
        "use crate::{\n    message::{Message, Text},\n    engine::{self, Core},\n};",
        "fn f() -> Option<crate::engine::Core> {}",
        "fn f() { for x in crate::engine::all() {} }",
        "use super::engine::Core;",
        "mod inner { fn f() { super::super::engine::f() } }",
        "macro_rules! m { () => { $crate::engine::f() } }",
        "#[cfg(any(test, feature = \"test-util\"))] use crate::engine::Core;",
        "#[cfg(not(test))] use crate::engine::Core;",
        "#[cfg(test)] mod tests { } use crate::engine::Core;",
        "const Q: char = '\"'; use crate::engine::Core; const P: char = '\"';",
    ] {
        let faults = check_texts(&[("lib.rs", ""), ("engine/mod.rs", ""), ("name.rs", text)]);
        assert_eq!(faults, ["name.rs imports engine/mod.rs, which is above it"], "{text}");
    }
}

#[test]
fn an_upward_import_inside_the_engine_is_refused_also_through_its_facade() {
    for text in ["use super::core::Core;", "use super::Core;", "use crate::engine::{Core as C};"] {
        let faults = check_texts(&[
            ("engine/mod.rs", "mod core; mod topic; pub(crate) use core::Core;"),
            ("engine/core.rs", ""),
            ("engine/topic.rs", text),
        ]);
        assert_eq!(faults, ["engine/topic.rs imports engine/core.rs, which is above it"], "{text}");
    }
}

#[test]
fn a_neighbour_of_the_same_level_is_refused() {
    let faults = check_texts(&[("config/mod.rs", ""), ("decode.rs", "use crate::config::Config;")]);
    assert_eq!(faults, ["decode.rs imports config/mod.rs, its neighbour of the same level"]);
}

#[test]
fn a_cycle_within_a_folder_is_refused() {
    let faults = check_texts(&[
        ("protocol/mod.rs", "mod a; mod b; mod c;"),
        ("protocol/a.rs", "use super::b::B;"),
        ("protocol/b.rs", "use crate::protocol::c::C;"),
        ("protocol/c.rs", "fn f() { super::a::f() }"),
    ]);
    assert_eq!(faults, ["cycle: protocol/a.rs -> protocol/b.rs -> protocol/c.rs -> protocol/a.rs"]);

    let faults = check_texts(&[
        ("protocol/mod.rs", "mod a; use a::A; pub struct P;"),
        ("protocol/a.rs", "use super::P;"),
    ]);
    assert_eq!(faults, ["cycle: protocol/mod.rs -> protocol/a.rs -> protocol/mod.rs"]);
}

#[test]
fn a_detour_by_the_root_is_refused() {
    for text in ["use crate::Message;", "fn f(m: crate::Message) {}", "use crate::{Message as M};"]
    {
        let faults = check_texts(&[
            ("lib.rs", "mod message; pub use message::Message;"),
            ("message.rs", ""),
            ("engine/sync.rs", text),
        ]);
        assert_eq!(
            faults,
            ["engine/sync.rs takes Message from the crate's root, not from its module"],
            "{text}"
        );
    }
    let faults = check_texts(&[("lib.rs", ""), ("name.rs", "use crate::*;")]);
    assert_eq!(faults, ["name.rs takes * from the crate's root, not from its module"]);
}

#[test]
fn a_module_without_a_level_is_refused() {
    let faults = check_texts(&[("lib.rs", ""), ("misc.rs", ""), ("engine/misc.rs", "")]);
    assert_eq!(
        faults,
        [
            "engine/misc.rs has no level: give it one in tests/layering.rs",
            "misc.rs has no level: give it one in tests/layering.rs",
        ]
    );
}

// Reading.

/// A module's path from the crate's root; empty for the root.
type Module = Vec<String>;

struct Source {
    /// From `src/`, with `/` between.
    file: String,
    text: String,
}

fn read(root: &Path, dir: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            read(root, &path, sources);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let inside = path.strip_prefix(root).expect("a path below src/");
            let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
            let text = fs::read_to_string(&path).expect("readable text");
            sources.push(Source { file: parts.join("/"), text });
        }
    }
}

fn check_texts(texts: &[(&str, &str)]) -> Vec<String> {
    let source = |&(file, text): &(&str, &str)| Source { file: file.into(), text: text.into() };
    check(&texts.iter().map(source).collect::<Vec<_>>())
}

fn module_of(file: &str) -> Module {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Module::new() } else { path.split('/').map(String::from).collect() }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Sep,
    Mark(char),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }
}

/// The words and marks of `text`, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        match (c, at(i + 1)) {
            ('/', '/') => i = (i..chars.len()).find(|&i| at(i) == '\n').unwrap_or(chars.len()),
            ('/', '*') => i = after_block_comment(&chars, i),
            ('"', _) => i = after_quoted(&chars, i, '"'),
            ('\'', '\\') => i = after_quoted(&chars, i, '\''),
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            ('\'', _) => i = after_word(&chars, i + 1),
            (':', ':') => {
                out.push(Token::Sep);
                i += 2;
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let end = after_word(&chars, i);
                let word: String = chars[i..end].iter().collect();
                if let Some(end) = after_raw_string(&chars, &word, end) {
                    i = end;
                } else {
                    i = end;
                    out.push(Token::Word(word));
                }
            }
            _ => {
                if !c.is_whitespace() {
                    out.push(Token::Mark(c));
                }
                i += 1;
            }
        }
    }
    out
}

fn after_word(chars: &[char], start: usize) -> usize {
    let inside = |c: &char| c.is_alphanumeric() || *c == '_';
    start + chars[start..].iter().take_while(|c| inside(c)).count()
}

fn after_quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn after_block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => i += 1,
        }
    }
    i
}

/// The end of a raw string whose prefix `word` ends at `start`, if it is one.
fn after_raw_string(chars: &[char], word: &str, start: usize) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let hashes = chars[start..].iter().take_while(|&&c| c == '#').count();
    let open = start + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |i: &usize| {
        chars[*i] == '"'
            && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    let close = (open + 1..chars.len()).find(closes).unwrap_or(chars.len());
    Some(close + 1 + hashes)
}

/// The place after the bracket that closes the one at `open`.
fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Whether an attribute's tokens, without its brackets, leave its item to tests only.
fn is_for_tests(attribute: &[Token]) -> bool {
    let has_test = attribute.iter().any(|token| token.is("test"));
    match attribute {
        [cfg, Token::Mark('('), test, Token::Mark(')')] => cfg.is("cfg") && test.is("test"),
        [cfg, Token::Mark('('), all, Token::Mark('('), inner @ ..] => {
            let plain = !inner.windows(3).any(|w| w[0].is("not") && w[2].is("test"));
            cfg.is("cfg") && all.is("all") && plain && has_test
        }
        _ => false,
    }
}

/// `tokens` without what only tests see, and the names of the test modules in files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mut rest = Vec::new();
    let mut test_files = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let inner =
            tokens[i..].starts_with(&[Token::Mark('#'), Token::Mark('!'), Token::Mark('[')]);
        let open = i + if inner { 2 } else { 1 };
        if tokens[i] != Token::Mark('#') || tokens.get(open) != Some(&Token::Mark('[')) {
            rest.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let end = after_group(tokens, open);
        let for_tests = is_for_tests(&tokens[open + 1..end - 1]);
        if inner && for_tests {
            return (Vec::new(), test_files);
        }
        if for_tests {
            i = after_item(tokens, end);
            if let [.., module, Token::Word(name), Token::Mark(';')] = &tokens[end..i] {
                if module.is("mod") {
                    test_files.push(name.clone());
                }
            }
        } else {
            rest.extend_from_slice(&tokens[i..end]);
            i = end;
        }
    }
    (rest, test_files)
}

/// The place after the item, field or match arm that starts at `start`.
fn after_item(tokens: &[Token], start: usize) -> usize {
    let mut i = start;
    while tokens.get(i) == Some(&Token::Mark('#')) {
        i = after_group(tokens, i + 1);
    }
    if tokens.get(i).is_some_and(|token| token.is("pub")) {
        i += 1;
        if tokens.get(i) == Some(&Token::Mark('(')) {
            i = after_group(tokens, i);
        }
    }
    let is_field = matches!(tokens.get(i + 1), Some(Token::Mark(':')));
    while i < tokens.len() {
        match &tokens[i] {
            Token::Mark(';') => return i + 1,
            Token::Mark(',') if is_field => return i + 1,
            Token::Mark('}') => return i,
            Token::Mark('{') => return after_group(tokens, i),
            Token::Mark('(' | '[') => i = after_group(tokens, i),
            _ => i += 1,
        }
    }
    i
}

// Imports.

struct Import {
    /// From the crate's root, down to the item.
    path: Module,
    /// What a `pub use` calls it.
    exported_as: Option<String>,
}

struct Scan<'a> {
    tokens: &'a [Token],
    modules: &'a BTreeMap<Module, String>,
    imports: Vec<Import>,
}

impl Scan<'_> {
    fn run(&mut self, file: &Module) {
        let mut here = file.clone();
        let mut depth = 0;
        let mut opened = Vec::new();
        let mut i = 0;
        while i < self.tokens.len() {
            match &self.tokens[i..] {
                [module, Token::Word(name), Token::Mark('{'), ..] if module.is("mod") => {
                    here.push(name.clone());
                    depth += 1;
                    opened.push(depth);
                    i += 2;
                }
                [Token::Mark('{'), ..] => depth += 1,
                [Token::Mark('}'), ..] => {
                    if opened.last() == Some(&depth) {
                        opened.pop();
                        here.pop();
                    }
                    depth -= 1;
                }
                [word, next, ..] if word.is("use") && *next != Token::Mark('<') => {
                    let exports = i > 0
                        && (self.tokens[i - 1].is("pub") || self.tokens[i - 1] == Token::Mark(')'));
                    i = self.tree(i + 1, &[], &here, exports);
                    continue;
                }
                [Token::Word(_), Token::Sep, ..] => {
                    i = self.inline(i, &here);
                    continue;
                }
                _ => {}
            }
            i += 1;
        }
    }

    /// Takes the tree of a `use` that starts at `i`; the place after it.
    fn tree(&mut self, mut i: usize, before: &[String], here: &Module, exports: bool) -> usize {
        let mut path = before.to_vec();
        loop {
            match self.tokens.get(i) {
                Some(Token::Word(word)) => path.push(word.clone()),
                Some(Token::Mark('*')) => path.push("*".into()),
                Some(Token::Sep) if path.is_empty() => path.push(String::new()),
                Some(Token::Mark('{')) => {
                    let end = after_group(self.tokens, i);
                    i += 1;
                    while i < end - 1 {
                        i = self.tree(i, &path, here, exports);
                        i += usize::from(self.tokens.get(i) == Some(&Token::Mark(',')));
                    }
                    return end;
                }
                _ => return i + 1,
            }
            i += 1;
            match self.tokens.get(i) {
                Some(Token::Sep) => i += 1,
                Some(Token::Word(word)) if word == "as" => {
                    let alias = self.tokens.get(i + 1).and_then(Token::word).map(String::from);
                    self.add(&path, here, alias.filter(|_| exports));
                    return i + 2;
                }
                _ => {
                    let last = path.last().cloned();
                    self.add(&path, here, last.filter(|_| exports));
                    return i;
                }
            }
        }
    }

    /// Takes a path in the code that starts at `i`; the place after it.
    fn inline(&mut self, start: usize, here: &Module) -> usize {
        let mut path = Module::new();
        let mut i = start;
        while let Some(Token::Word(word)) = self.tokens.get(i) {
            path.push(word.clone());
            i += 1;
            if self.tokens.get(i) != Some(&Token::Sep) {
                break;
            }
            i += 1;
        }
        let goes_on = start > 0 && self.tokens[start - 1] == Token::Sep;
        // As in `pub(in crate::engine)`; not as in `for x in crate::engine::all()`.
        let is_visibility =
            matches!(&self.tokens[..start], [.., Token::Mark('('), word] if word.is("in"));
        if !goes_on && !is_visibility {
            self.add(&path, here, None);
        }
        i
    }

    fn add(&mut self, path: &[String], here: &Module, exported_as: Option<String>) {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let mut full = match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [here, &path[1..]].concat(),
            "super" => [&here[..here.len().saturating_sub(supers)], &path[supers..]].concat(),
            _ => {
                let full = [here, path].concat();
                if !self.modules.contains_key(&full[..=here.len()]) {
                    return;
                }
                full
            }
        };
        if full.last().is_some_and(|part| part == "self") {
            full.pop();
        }
        self.imports.push(Import { path: full, exported_as });
    }
}

/// What a path from the crate's root leads to.
#[derive(Debug, PartialEq)]
enum Target {
    Module(Module),
    /// An item of the root.
    Root(String),
}

/// The module that holds the last of `path`, found through the re-exports of the facades.
fn resolve(
    path: &[String],
    modules: &BTreeMap<Module, String>,
    exports: &BTreeMap<Module, BTreeMap<String, Module>>,
) -> Option<Target> {
    let mut path = path.to_vec();
    for _ in 0..8 {
        let known = (0..=path.len()).rev().find(|&len| modules.contains_key(&path[..len]))?;
        let module = path[..known].to_vec();
        let item = path.get(known);
        let exported = item.and_then(|item| exports.get(&module)?.get(item));
        if module.is_empty() {
            let item = item?;
            let is_type = item.starts_with(|c: char| c.is_uppercase() || c == '*');
            return (is_type || exported.is_some()).then(|| Target::Root(item.clone()));
        }
        match exported {
            Some(further) if *further != path => path.clone_from(further),
            _ => return Some(Target::Module(module)),
        }
    }
    None
}

// Judging.

/// What is wrong with `sources`, in the order of the files.
fn check(sources: &[Source]) -> Vec<String> {
    // A binary is a crate of its own, above all others.
    let own = sources.iter().filter(|s| !s.file.starts_with("bin/") && s.file != "main.rs");
    let mut modules = BTreeMap::from([(Module::new(), "lib.rs".into())]);
    let mut texts = BTreeMap::new();
    let mut test_files = BTreeSet::new();
    for source in own {
        let module = module_of(&source.file);
        let (tokens, tests) = without_tests(&tokens(&source.text));
        test_files.extend(tests.into_iter().map(|name| [module.clone(), vec![name]].concat()));
        modules.insert(module.clone(), source.file.clone());
        texts.insert(module, tokens);
    }
    let in_tests =
        |module: &Module| (0..=module.len()).any(|len| test_files.contains(&module[..len]));
    modules.retain(|module, _| !in_tests(module));
    texts.retain(|module, _| !in_tests(module));

    let mut imports = BTreeMap::new();
    let mut exports = BTreeMap::new();
    for (module, tokens) in &texts {
        let mut scan = Scan { tokens, modules: &modules, imports: Vec::new() };
        scan.run(module);
        let named =
            scan.imports.iter().filter_map(|i| Some((i.exported_as.clone()?, i.path.clone())));
        exports.insert(module.clone(), named.collect::<BTreeMap<_, _>>());
        imports.insert(module, scan.imports);
    }

    let mut faults = Vec::new();
    let mut edges: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, imports) in imports.into_iter().filter(|(module, _)| !module.is_empty()) {
        let file = &modules[module];
        if level_of(module).is_none() {
            faults.push(format!("{file} has no level: give it one in tests/layering.rs"));
            continue;
        }
        for import in imports {
            // A facade re-exports its own; that is no use of it.
            let is_facade = import.exported_as.is_some() && import.path.starts_with(module);
            match resolve(&import.path, &modules, &exports) {
                Some(Target::Root(item)) => faults.push(format!(
                    "{file} takes {item} from the crate's root, not from its module"
                )),
                Some(Target::Module(to)) if to != *module && !is_facade => {
                    edges.entry(module).or_default().insert(to);
                }
                _ => {}
            }
        }
    }
    for (from, targets) in &edges {
        faults.extend(targets.iter().filter_map(|to| fault(from, to, &modules)));
    }
    faults.extend(cycle(&edges, &modules));
    faults
}

/// A module's level in the crate, and in the engine; `None` if it was given none.
fn level_of(module: &[String]) -> Option<(usize, Option<usize>)> {
    let find = |levels: &[&[&str]], name: &String| {
        levels.iter().position(|level| level.contains(&name.as_str()))
    };
    let level = find(LEVELS, module.first()?)?;
    match module {
        [engine, part, ..] if engine == "engine" => Some((level, Some(find(ENGINE, part)?))),
        _ => Some((level, None)),
    }
}

fn is_pair(from: &[String], to: &[String]) -> bool {
    let (from, to) = (from.join("::"), to.join("::"));
    PAIRS.iter().any(|&(a, b)| (a == from && b == to) || (b == from && a == to))
}

/// What is wrong with the import of `to` by `from`, cycles aside.
fn fault(from: &Module, to: &Module, modules: &BTreeMap<Module, String>) -> Option<String> {
    let (own, other) = (level_of(from)?, level_of(to)?);
    // Which part of the path the levels are of: the crate's, or the engine's.
    let (own, other, part) = match (own, other) {
        ((a, Some(own)), (b, Some(other))) if a == b => (own, other, 1),
        ((own, _), (other, _)) => (own, other, 0),
    };
    let (importer, imported) = (&modules[from], &modules[to]);
    if own < other {
        return Some(format!("{importer} imports {imported}, which is above it"));
    }
    let neighbours = own == other && from[part] != to[part];
    (neighbours && !is_pair(from, to))
        .then(|| format!("{importer} imports {imported}, its neighbour of the same level"))
}

/// A cycle, if there is one.
fn cycle(
    edges: &BTreeMap<&Module, BTreeSet<Module>>,
    modules: &BTreeMap<Module, String>,
) -> Option<String> {
    fn visit<'a>(
        at: &'a Module,
        edges: &'a BTreeMap<&Module, BTreeSet<Module>>,
        trail: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> bool {
        if let Some(start) = trail.iter().position(|module| *module == at) {
            trail.drain(..start);
            trail.push(at);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        trail.push(at);
        for to in edges.get(at).into_iter().flatten().filter(|to| !is_pair(at, to)) {
            if visit(to, edges, trail, done) {
                return true;
            }
        }
        trail.pop();
        false
    }
    let mut done = BTreeSet::new();
    for module in edges.keys() {
        let mut trail = Vec::new();
        if visit(module, edges, &mut trail, &mut done) {
            let files: Vec<_> = trail.iter().map(|module| modules[*module].as_str()).collect();
            return Some(format!("cycle: {}", files.join(" -> ")));
        }
    }
    None
}
