//! What is told of requests to those who run the gate: the access log's lines, traces, metrics.

mod away;
mod config;
mod ends;
mod lines;
mod metrics;
mod secrets;
mod traces;
