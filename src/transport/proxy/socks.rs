//! SOCKS5 (RFC 1928), with user name and password (RFC 1929) or without.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Credentials;
use super::failure::Refusal;

/// What is to be connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Target<'a> {
    Address(IpAddr),
    /// At most 255 bytes.
    Name(&'a str),
}

const VERSION: u8 = 5;
const CONNECT: u8 = 1;

/// Methods of authentication (RFC 1928 §3).
const NONE: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

/// Kinds of addresses (RFC 1928 §5).
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// Asks for a tunnel to `target`. Reads no byte of what comes through it.
pub(super) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: Target<'_>,
    port: u16,
    credentials: Option<&Credentials>,
) -> Result<(), Refusal> {
    let methods: &[u8] = if credentials.is_some() { &[NONE, PASSWORD] } else { &[NONE] };
    say(stream, &[&[VERSION, methods.len() as u8], methods]).await?;
    let [version, method] = hear(stream).await?;
    if version != VERSION {
        return Err(NOT_SOCKS5);
    }
    match (method, credentials) {
        (NONE, _) => {}
        (PASSWORD, Some(credentials)) => log_in(stream, credentials).await?,
        (NO_METHOD, _) => return Err(Refusal::Credentials(None)),
        _ => return Err(Refusal::Violation("a method of authentication that was not offered")),
    }
    ask(stream, target, port).await?;
    answered(stream).await
}

const NOT_SOCKS5: Refusal = Refusal::Violation("an answer that is no SOCKS5");

/// RFC 1929 §2.
async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    Credentials { password, user }: &Credentials,
) -> Result<(), Refusal> {
    // Lengths were checked when the credentials were given.
    let (users, passwords) = (user.len() as u8, password.len() as u8);
    say(stream, &[&[1, users], user.as_bytes(), &[passwords], password.as_bytes()]).await?;
    let [_, status] = hear(stream).await?;
    if status == 0 { Ok(()) } else { Err(Refusal::Credentials(None)) }
}

async fn ask(
    stream: &mut (impl AsyncWrite + Unpin),
    target: Target<'_>,
    port: u16,
) -> Result<(), Refusal> {
    let head = |kind| [VERSION, CONNECT, 0, kind];
    let port = port.to_be_bytes();
    match target {
        Target::Address(IpAddr::V4(ip)) => say(stream, &[&head(V4), &ip.octets(), &port]).await,
        Target::Address(IpAddr::V6(ip)) => say(stream, &[&head(V6), &ip.octets(), &port]).await,
        Target::Name(name) => {
            say(stream, &[&head(NAME), &[name.len() as u8], name.as_bytes(), &port]).await
        }
    }
}

/// Reads the reply with its address, which is of no use to us.
async fn answered(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Refusal> {
    // Some end a refusal here: what was refused is known by then.
    let [version, code] = hear(stream).await?;
    if version != VERSION {
        return Err(NOT_SOCKS5);
    }
    if code != 0 {
        return Err(Refusal::Reply(code));
    }
    let [_reserved, kind] = hear(stream).await?;
    let len = match kind {
        V4 => 4,
        V6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(NOT_SOCKS5),
    };
    let mut bound = [0; 255 + 2];
    stream.read_exact(&mut bound[..len + 2]).await?;
    Ok(())
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), parts: &[&[u8]]) -> Result<(), Refusal> {
    stream.write_all(&parts.concat()).await?;
    stream.flush().await?;
    Ok(())
}

async fn hear<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::super::testing::{Scripted, pieces};
    use super::*;

    const V4_REPLY: &[u8] = b"\x05\0\0\x01\x0a\0\0\x01\x1f\x90";
    const FEED: Target<'_> = Target::Name("feed.example");

    fn credentials() -> Credentials {
        Credentials { password: "pass".into(), user: "ann".into() }
    }

    async fn opened(answer: &[u8], piece: usize) -> (Result<(), Refusal>, Scripted) {
        let mut stream = Scripted::new(pieces(answer, piece));
        let result = open(&mut stream, FEED, 443, Some(&credentials())).await;
        (result, stream)
    }

    #[tokio::test]
    async fn each_kind_of_target_is_said_as_the_rfc_says() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let six = [
            &b"\x05\x01\0\x04"[..],
            &"2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            b"\x01\xbb",
        ]
        .concat();
        for (target, expected) in [
            (
                Target::Address("10.1.2.3".parse().unwrap()),
                &b"\x05\x01\0\x01\x0a\x01\x02\x03\x01\xbb"[..],
            ),
            (Target::Address(v6), &six),
            (FEED, b"\x05\x01\0\x03\x0cfeed.example\x01\xbb"),
        ] {
            let answer = [b"\x05\0", V4_REPLY].concat();
            let mut stream = Scripted::new(pieces(&answer, 3));
            open(&mut stream, target, 443, None).await.unwrap();
            assert_eq!(stream.written, [b"\x05\x01\0", expected].concat());
        }
    }

    #[tokio::test]
    async fn user_and_password_are_said_only_where_they_are_asked_for() {
        let (result, stream) = opened(&[b"\x05\x02\x01\0", V4_REPLY].concat(), 1).await;
        result.unwrap();
        assert!(stream.written.starts_with(b"\x05\x02\0\x02\x01\x03ann\x04pass\x05\x01"));
        let (result, stream) = opened(&[b"\x05\0", V4_REPLY].concat(), 1).await;
        result.unwrap();
        assert!(!stream.written.windows(4).any(|bytes| bytes == b"pass"), "{stream:?}");
    }

    #[tokio::test]
    async fn a_reply_opens_the_tunnel_however_it_arrives_and_nothing_behind_it_is_read() {
        let six = [&b"\x05\0\0\x04"[..], &[7; 18]].concat();
        let name = [&b"\x05\0\0\x03\xff"[..], &[b'x'; 257]].concat();
        for reply in [V4_REPLY, &six, &name] {
            let answer = [b"\x05\0", reply, b"tunnel"].concat();
            for piece in 1..=answer.len() {
                let (result, mut stream) = opened(&answer, piece).await;
                result.unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"tunnel", "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn refusals_are_told_apart() {
        for code in 1..=255 {
            let (result, _) = opened(&[5, 0, 5, code], 1).await;
            assert!(matches!(result, Err(Refusal::Reply(said)) if said == code), "{result:?}");
        }
        for answer in [&b"\x05\xff"[..], b"\x05\x02\x01\x01"] {
            let (result, _) = opened(answer, 1).await;
            assert!(matches!(result, Err(Refusal::Credentials(None))), "{result:?}");
        }
        for answer in
            [&b"\x04\0"[..], b"HTTP/1.1 400", b"\x05\x01", b"\x05\0\x04\0", b"\x05\0\x05\0\0\x02"]
        {
            let (result, _) = opened(answer, 1).await;
            assert!(matches!(result, Err(Refusal::Violation(_))), "{answer:?}: {result:?}");
        }
        // What was not offered is not to be chosen.
        let mut stream = Scripted::new(pieces(b"\x05\x02", 1));
        let result = open(&mut stream, FEED, 443, None).await;
        assert!(matches!(result, Err(Refusal::Violation(_))), "{result:?}");
    }

    #[tokio::test]
    async fn an_end_at_each_byte_is_an_end() {
        let answer = [b"\x05\x02\x01\0", V4_REPLY].concat();
        for end in 0..answer.len() {
            let (result, _) = opened(&answer[..end], 2).await;
            let Err(Refusal::Io(e)) = result else { panic!("at {end}: {result:?}") };
            assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
        }
    }
}
