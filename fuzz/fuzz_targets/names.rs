//! Names, URLs, and the URLs that are built of both: no name leaves its place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use wsmux::StreamName;
use wsmux::protocol::{Dial, Direct, Protocol as _, Url};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (base, name) = text.split_once('\n').unwrap_or(("ws://host/ws", &text));
    if let Ok(url) = Url::parse(base) {
        check(&url);
    }
    let Ok(name) = StreamName::try_from(name) else { return };
    assert!((1..=4096).contains(&name.as_str().len()));
    assert!(!name.as_str().chars().any(char::is_control));
    let Ok(direct) = Direct::new(base) else { return };
    let names = [name];
    let Ok(lane) = direct.lane(&names[0]) else {
        assert!([".", ".."].contains(&names[0].as_str()));
        return;
    };
    let Ok(request) = direct.request(&Dial::first(&lane, &names)) else { return };
    let url = request.url();
    check(url);
    assert_eq!(request.joins(), names);
    if !base.contains("{name}") {
        let base = Url::parse(base).unwrap();
        assert!(base.same_origin(url));
        assert_eq!(base.query(), url.query());
        let (path, segment) = url.path().rsplit_once('/').unwrap();
        assert_eq!(path, base.path().strip_suffix('/').unwrap_or(base.path()));
        assert_eq!(percent_decode_str(segment).decode_utf8().unwrap(), names[0].as_str());
    }
});

/// It can be said in a request without saying more, and is read again as it is.
fn check(url: &Url) {
    for part in [url.target(), url.host_header()] {
        assert!(!part.contains(|c: char| c.is_ascii_control() || c == ' '), "{part:?}");
    }
    assert!(!url.host().is_empty() && url.port() > 0 && url.path().starts_with('/'));
    assert!(!url.host().bytes().any(|byte| byte.is_ascii_uppercase()));
    let scheme = if url.is_secure() { "wss" } else { "ws" };
    let again = Url::parse(&format!("{scheme}://{}{}", url.origin(), url.target())).unwrap();
    assert!(again.same_origin(url));
    assert_eq!((again.path(), again.query()), (url.path(), url.query()));
}
