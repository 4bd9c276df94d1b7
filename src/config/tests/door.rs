//! Who may come in, and how, as people get it wrong.

use super::{check, good};
use crate::config::{ClientWidth, InClear, Rate, ToHttps};
use std::time::Duration;

/// With a line for the one listener, on its third line.
fn listener(line: &str) -> String {
    format!("provider = \"p\"\n[[listener]]\n{line}\naddress = \"127.0.0.1:0\"\n[registry.embedded]\n")
}

fn limits(lines: &str) -> String {
    format!("[limits]\n{lines}\n")
}

#[test]
fn redirects() {
    let redirected = |text: &str| match good(&listener(text)).listeners[0].in_clear {
        InClear::Redirected(ToHttps { status, port }) => Some((status, port)),
        InClear::Served => None,
    };
    assert_eq!(redirected(""), None);
    assert_eq!(redirected("redirect_to_https = false"), None);
    assert_eq!(redirected("redirect_to_https = true"), Some((308, 443)));
    assert_eq!(redirected("redirect_to_https = 301"), Some((301, 443)));
    assert_eq!(redirected("redirect_to_https = { port = 8443 }"), Some((308, 8443)));
    check(
        &listener("redirect_to_https = 303"),
        &[
            "f.toml:3:21: listener.redirect_to_https: 303 is no redirect that keeps the path; use 308 (or 301, 302, 307)",
        ],
    );
    check(
        &listener("redirect_to_https = \"yes\""),
        &["f.toml:3:21: listener.redirect_to_https: this must be true or false, not a string"],
    );
    check(
        &listener("redirect_to_https = { port = 0, to = 1 }"),
        &["f.toml:3:30: listener.redirect_to_https.port: 0 is out of range; use 1 to 65535"],
    );
    check(
        &listener("redirect_to_https = true\nprotocol = \"https\""),
        &[
            "f.toml:3:1: listener.redirect_to_https: clients come by TLS here already; it goes with an http listener or a site",
        ],
    );
}

#[test]
fn networks() {
    let admits = |lines: &str, client: &str| {
        good(&listener(lines)).listeners[0].networks.admits(client.parse().unwrap())
    };
    assert!(admits("", "192.0.2.1"));
    assert!(!admits("deny = [\"::ffff:192.0.2.0/120\"]", "192.0.2.1"));
    assert!(admits("deny = [\"192.0.2.9/24\"]\nallow = [\"192.0.2.1\"]", "192.0.2.1"));
    assert!(!admits("allow = [\"2001:db8::/32\"]", "192.0.2.1"));
    check(
        &listener("allow = []"),
        &[
            "f.toml:3:9: listener.allow: an empty list would let nobody in; leave the key out to let everybody in",
        ],
    );
    check(
        &listener("allow = [\"10.0.0.0/8\", \"office\"]\ndeny = [\"10.1.0.0/8\"]"),
        &[
            "f.toml:3:24: listener.allow: \"office\" is not an address or network; write one like \"10.0.0.0/8\" or \"192.0.2.1\"",
            "f.toml:4:9: listener.deny: 10.0.0.0/8 is allowed as well; leave it out of one of the lists",
        ],
    );
}

#[test]
fn connections_of_one_client() {
    let limits_of = |lines: &str| good(&limits(lines)).limits;
    let plain = limits_of("");
    assert_eq!((plain.connection_rate, plain.connection_age, plain.connection_requests), (None, None, None));
    let set = limits_of(
        "connections_per_second = 10\nclient_prefix_v6 = 56\nconnection_age = \"1h\"\nrequests_per_connection = 1000",
    );
    assert_eq!(set.connection_rate, Some(Rate { per_second: 10, burst: 10 }));
    assert_eq!(set.client, ClientWidth { v4: 32, v6: 56 });
    assert_eq!((set.connection_age, set.connection_requests), (Some(Duration::from_hours(1)), Some(1000)));
    check(
        &limits("connection_burst = 3\nclient_prefix_v4 = 33\nconnection_age = 5"),
        &[
            "f.toml:2:1: limits.connection_burst: a burst goes with connections_per_second; add it, or leave this out",
            "f.toml:3:20: limits.client_prefix_v4: 33 is out of range; use 1 to 32",
            "f.toml:4:18: limits.connection_age: a duration needs a unit, in quotes; write one like \"10s\", \"500ms\", \"30m\" or \"24h\"",
        ],
    );
}

#[test]
fn too_much_to_do() {
    let overload = good("[overload]\nconnections = 0.9\nlag = \"500ms\"\n").limits.overload;
    assert_eq!((overload.connections, overload.descriptors), (Some(0.9), None));
    assert_eq!(overload.lag, Some(Duration::from_millis(500)));
    check(
        "[overload]\ndescriptors = 90\n",
        &["f.toml:2:15: overload.descriptors: 90 is out of range; use 0.01 to 1"],
    );
}
