//! PROXY headers towards upstreams: each connection speaks for its client, and for no other.

use crate::world::{World, wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

const HOST: &str = "announced.filed.cn";

/// A server that keeps what each connection begins with, and answers every request.
fn server() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
    let of_thread = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&of_thread);
            std::thread::spawn(move || {
                let (mut octets, mut chunk) = (Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    octets.extend_from_slice(&chunk[..read]);
                    if octets.ends_with(b"\r\n\r\n") || octets.windows(3).any(|it| it == [22, 3, 1]) {
                        break;
                    }
                }
                seen.lock().unwrap().push(octets);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
                while let Ok(1..) = stream.read(&mut chunk) {}
            });
        }
    });
    (address, seen)
}

fn site(upstream: &str, version: &str, more: &str) -> String {
    format!(
        "[[site]]\nhosts = [\"{HOST}\"]\nupstreams = [\"{upstream}\"]\nproxy_protocol = \"{version}\"\n{more}"
    )
}

/// Two clients behind a balancer: two connections, each with the address that it speaks for.
#[test]
fn version_1_names_the_client() {
    let (address, seen) = server();
    let world = World::with(|setup| {
        let lines = "proxy_protocol = \"required\"\ntrusted_peers = [\"127.0.0.0/8\"]";
        setup.http(lines).toml(&site(&format!("http://{address}"), "v1", ""))
    });
    let port = world.http().port();
    for client in ["192.0.2.1", "192.0.2.2"] {
        let mut wire = world.connect();
        wire.send(format!("PROXY TCP4 {client} 192.0.2.250 1000 80\r\n"));
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(wire.response().unwrap().status, 200);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "no connection speaks for two");
    for (octets, client) in seen.iter().zip(["192.0.2.1", "192.0.2.2"]) {
        let text = String::from_utf8_lossy(octets);
        let expected = format!("PROXY TCP4 {client} 127.0.0.1 1000 {port}\r\nGET / HTTP/1.1\r\n");
        assert!(text.starts_with(&expected), "{text}");
    }
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11";

/// Over TLS the name that was asked for goes along; a check speaks for nobody.
#[test]
fn version_2_names_the_name() {
    let (address, seen) = server();
    let health = "[site.health]\ninterval = \"1h\"";
    let world = World::with(|setup| setup.toml(&site(&format!("http://{address}"), "v2", health)));
    let mut wire = world.tls(Some(HOST), &["http/1.1"]).unwrap();
    wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.response().unwrap().status, 200);
    wait("the check", || (seen.lock().unwrap().len() == 2).then_some(()));
    let seen = seen.lock().unwrap();
    // What was agreed on by ALPN, then the name.
    let agreed = [&[1, 0, 8][..], b"http/1.1"].concat();
    let named = [&agreed[..], &[2, 0, u8::try_from(HOST.len()).unwrap()], HOST.as_bytes()].concat();
    let of_client = seen.iter().find(|octets| octets.starts_with(V2)).expect("the client's");
    assert_eq!(of_client[16..20], [127, 0, 0, 1]);
    assert_eq!(of_client[28..28 + named.len()], named);
    assert!(of_client[28 + named.len()..].starts_with(b"GET / HTTP/1.1\r\n"));
    let of_check = seen.iter().find(|octets| !octets.starts_with(V2)).expect("the check's");
    assert_eq!(of_check[12..16], [0x20, 0, 0, 0]);
    assert!(of_check[16..].starts_with(b"GET / HTTP/1.1\r\n"));
}

/// What passes through unopened is announced as well, in front of its first record.
#[test]
fn passed_through() {
    let (address, seen) = server();
    let world = World::with(|setup| {
        setup.listener("tls_passthrough", "").toml(&site(&format!("tcp://{address}"), "v2", ""))
    });
    let passthrough = world.listener("tls_passthrough", 0);
    // The server is none that speaks TLS: the handshake fails, after the server has seen its begin.
    let _ = world.tls.connect(passthrough, Some(HOST), &[]);
    wait("the hello", || (seen.lock().unwrap().len() == 1).then_some(()));
    let octets = &seen.lock().unwrap()[0];
    let named = [&[2, 0, u8::try_from(HOST.len()).unwrap()][..], HOST.as_bytes()].concat();
    assert!(octets.starts_with(V2) && octets[28..28 + named.len()] == named, "{octets:?}");
    assert_eq!(octets[28 + named.len()], 22, "a handshake record");
}
