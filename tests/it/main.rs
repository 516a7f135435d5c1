//! The tests of the whole: one module a capability.

#![expect(clippy::disallowed_methods, reason = "tests play the outside world: they own clocks and may wait")]
#![expect(clippy::cast_possible_truncation, reason = "random numbers below small limits")]
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures and logs belong to a test's report")]

mod admin;
mod behind;
mod binary;
mod bounded;
mod chaos;
mod check;
mod cli;
mod clients;
mod config_errors;
mod conformance;
mod crawl;
mod dashboard;
mod degrade;
mod demo;
mod differential;
mod discovery;
mod django;
mod drain;
mod files;
mod full_server;
mod fuzz;
mod golden;
mod health;
mod hogs;
mod hot;
mod http_requests;
mod joined;
mod latency;
mod layering;
mod leaving;
mod limits;
mod log;
mod log_lines;
mod memory;
mod metrics_page;
mod near;
mod neighbours;
mod operate;
mod pages;
mod proxying;
mod queues;
mod ready_made;
mod recipes;
mod redis;
mod rejoin;
mod reload;
mod replaced;
mod resend;
mod restart;
mod sessions;
mod sim;
mod slow;
mod stall;
mod stampede;
mod stats;
mod suites;
mod support;
mod systemd;
mod too_large;
mod top;
mod twemproxy_compat;
mod upgrade;
mod warmup;
mod weather;
