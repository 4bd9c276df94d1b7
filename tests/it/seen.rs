//! What is told of requests to those who run the gate: the access log's lines.

mod ends;
mod lines;
