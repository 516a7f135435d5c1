//! softmiss: a fault-tolerant sharding proxy for memcached.
//!
//! It runs beside the application, routes keys over cache servers exactly as twemproxy does, takes servers that fail out
//! of the ring, tests them in the background, and answers for them in the meantime: with misses, not with errors.
//!
//! # The map, from below
//!
//! - [`time`], [`failure`], [`outcome`]: the words that everything shares.
//! - [`config`]: from a file to checked values ([`config::model`]), every problem told at once.
//! - [`proto`]: bytes to requests and responses, and the words in which a failure is told. Pure functions.
//! - [`ring`]: from a key to a server.
//! - [`health`]: whether a server may be used; one opinion for the whole process.
//! - [`stats`]: what is counted, and how it is told.
//! - [`near`]: values that are kept in the process itself.
//! - [`topology`]: which pools and servers there are, one immutable picture after the other, with all of the above.
//! - [`engine`]: the heart. Bytes and events in, bytes and events out; no I/O, no clock.
//! - [`io`]: the shell. Sockets, threads, the clock, signals.
//! - [`admin`]: what the operator sees over HTTP.
//! - [`cli`], [`demo`]: the program's face.
//!
//! Dependencies point downwards only; a test sees to it. Start reading at [`engine::Engine`].

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod engine;
pub mod failure;
pub mod health;
pub mod io;
pub mod near;
pub mod outcome;
pub mod proto;
pub mod ring;
pub mod stats;
pub mod time;
pub mod topology;
