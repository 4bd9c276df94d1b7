//! attacks.md, sections 1 to 6: (bytes, what must come of them), and the upstream is the judge.
//!
//! In tables `⏎` is CRLF, `␊` a bare LF, `␍` a bare CR, `␀` NUL, `␁` the control octet 1, `⇥` a tab, `⍰` the
//! octet FF. `‖` vanishes; `{n}` is the number of octets after it, `{x}` the same in hex. `{U}` is a whole
//! request for the unfiled host, `{F}` one for the filed host, both for /hidden.

mod alerts;
mod framing;
mod h2_faults;
mod h2_upstreams;
mod http2;
mod keepalive;
mod many;
mod names;
mod passthrough;
mod request_line;
mod resources;
mod slow;
mod strangers;
mod tls;
mod upstream_faults;
mod waits;

use crate::world::wire::{Lost, Response, Wire};
use crate::world::{F, World};

/// What must come of a request.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// Served by the upstream, which saw it once, under that Host.
    Forward(&'static str),
    /// The block page; over TLS also 421, where the name is not the connection's.
    Block,
    /// As `Block` with `ip_literal`, or 400.
    Ip,
    /// The gate's own answer with that status, and the connection ends where it is an error of syntax.
    Status(u16),
    /// 400 or 501, then the end.
    Bad,
    /// Any refusal, or the end.
    Refuse,
    /// Served once, or refused.
    ForwardOrRefuse(&'static str),
    /// In this order on one connection.
    Seq(&'static [Expect]),
}

use Expect::{Bad, Block, Forward, ForwardOrRefuse, Ip, Refuse, Seq, Status};

pub type Row = (&'static str, Expect);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Clear,
    Tls,
}

const LANES: [Lane; 2] = [Lane::Clear, Lane::Tls];

/// Every row in clear, and over TLS with F's name in the SNI; afterwards F is served as ever.
#[track_caller]
pub fn check(world: &World, rows: &[Row]) {
    let rows: Vec<_> = rows.iter().map(|(text, expect)| ((*text).to_owned(), *expect)).collect();
    check_made(world, &rows);
}

/// As `check`, for rows that were put together.
#[track_caller]
pub fn check_made(world: &World, rows: &[(String, Expect)]) {
    record(rows);
    let mut wrong = Vec::new();
    for lane in LANES {
        for (text, expect) in rows {
            if let Err(why) = check_one(world, lane, text, *expect) {
                let text: String = text.chars().take(300).collect();
                wrong.push(format!("{lane:?} {text:?}\n    expected {expect:?}: {why}"));
            }
        }
    }
    let total = rows.len() * LANES.len();
    assert!(wrong.is_empty(), "{} of {total} wrong:\n{}", wrong.len(), wrong.join("\n"));
    world.assert_well();
    let foreign: Vec<_> = world.upstream.heads();
    let foreign: Vec<_> =
        foreign.iter().filter(|one| one.host().contains("unfiled") || one.host().is_empty()).collect();
    assert!(foreign.is_empty(), "arrived, but must not: {foreign:?}");
    assert_eq!(world.upstream.doubts(), Vec::<String>::new(), "ambiguous to an upstream");
}

/// Leaves the rows, and what becomes of them, where `HOSTILE_CORPUS` says: for tests/conformance/differential.py.
fn record(rows: &[(String, Expect)]) {
    let Some(path) = std::env::var_os("HOSTILE_CORPUS") else { return };
    let line = |(text, expect): &(String, Expect)| {
        let hex: String = expand(text).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{expect:?}\t{hex}\n")
    };
    let lines: String = rows.iter().map(line).collect();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
}

fn check_one(world: &World, lane: Lane, text: &str, expect: Expect) -> Result<(), String> {
    let before = world.upstream.heads().len();
    let mut wire = match lane {
        Lane::Clear => world.connect(),
        Lane::Tls => world.tls(Some(F), &["http/1.1"])?,
    };
    wire.send(expand(text));
    let list = [expect];
    let expected = if let Seq(list) = expect { list } else { &list };
    if let [.., Refuse | ForwardOrRefuse(_)] = expected {
        // What is refused need not be complete: let the gate know that this is all.
        wire.half_close();
    }
    let method = text.split(' ').next().unwrap_or("");
    let mut hosts = Vec::new();
    for (index, one) in expected.iter().enumerate() {
        let got = wire.response_to(if index == 0 { method } else { "GET" });
        hosts.extend(judge(lane, *one, &got)?);
        if index + 1 == expected.len() {
            finish(*one, &got, &mut wire)?;
        }
    }
    let seen = world.upstream.heads().split_off(before);
    let seen: Vec<_> = seen.into_iter().filter(|one| one.complete).collect();
    let seen_hosts: Vec<&str> = seen.iter().map(|one| one.host()).collect();
    if seen_hosts == hosts { Ok(()) } else { Err(format!("the upstream saw {seen:?}")) }
}

/// The Host that the upstream must have seen, where the answer is as expected.
fn judge(lane: Lane, expect: Expect, got: &Result<Response, Lost>) -> Result<Option<&'static str>, String> {
    let wrong = || Err(format!("got {got:?}"));
    let own = |response: &Response| {
        response.header("beian-verdict").is_some() && response.header("beian-verdict-id").is_some()
    };
    let response = match got {
        Ok(response) => response,
        Err(Lost::Closed(_) | Lost::Broken(_)) if matches!(expect, Refuse | ForwardOrRefuse(_)) => {
            return Ok(None);
        }
        Err(_) => return wrong(),
    };
    let forwarded = response.status == 200 && response.headers.iter().all(|(name, _)| !is_ours(name));
    let misdirected = lane == Lane::Tls && response.status == 421 && own(response);
    let refused = (400..500).contains(&response.status) && !matches!(response.status, 404 | 408)
        || matches!(response.status, 501 | 505);
    match expect {
        Forward(host) | ForwardOrRefuse(host) if forwarded => Ok(Some(host)),
        ForwardOrRefuse(_) | Refuse if refused && own(response) => Ok(None),
        Block if response.status == 451 && own(response) || misdirected => Ok(None),
        Ip if response.verdict() == "ip_literal" && response.status == 451 || misdirected => Ok(None),
        Ip if response.status == 400 && own(response) => Ok(None),
        Status(status) if response.status == status && own(response) => Ok(None),
        Bad if matches!(response.status, 400 | 501) && own(response) => Ok(None),
        _ => wrong(),
    }
}

fn is_ours(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("beian-")
}

/// Nothing comes after the last answer; after an error of syntax the connection ends by itself.
fn finish(expect: Expect, got: &Result<Response, Lost>, wire: &mut Wire) -> Result<(), String> {
    let Ok(response) = got else { return Ok(()) };
    let ends = matches!(expect, Status(400 | 431 | 501 | 505) | Bad)
        || response.header("connection") == Some("close");
    if !ends {
        wire.half_close();
    }
    match wire.rest() {
        (surplus, _) if !surplus.is_empty() => {
            Err(format!("surplus {:?}", String::from_utf8_lossy(&surplus)))
        }
        (_, Lost::Silent(_)) => Err("the connection stays open".to_owned()),
        _ => Ok(()),
    }
}

/// A row's text as bytes.
pub fn expand(text: &str) -> Vec<u8> {
    let text = text
        .replace("{U}", "GET /hidden HTTP/1.1⏎Host: unfiled.cn⏎⏎")
        .replace("{F}", "GET /hidden HTTP/1.1⏎Host: filed.cn⏎⏎");
    let after = text.split_once('‖').map_or("", |(_, after)| after);
    let length = octets(after).len();
    octets(&text.replace("{n}", &length.to_string()).replace("{x}", &format!("{length:x}")))
}

fn octets(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for char in text.chars() {
        match char {
            '⏎' => bytes.extend(b"\r\n"),
            '␊' => bytes.push(b'\n'),
            '␍' => bytes.push(b'\r'),
            '␀' => bytes.push(0),
            '␁' => bytes.push(1),
            '⇥' => bytes.push(b'\t'),
            '⍰' => bytes.push(0xff),
            '‖' => {}
            other => bytes.extend(other.to_string().as_bytes()),
        }
    }
    bytes
}
