//! What an allowed request experiences: an honest reverse proxy, over HTTP/1.1, HTTP/2, in clear and TLS.

mod announced;
mod balance;
mod bodies;
mod burden;
mod grpc;
mod headers;
mod http2;
mod names;
pub(crate) mod streams;
mod tunnel;
mod upstreams;
mod websocket;
