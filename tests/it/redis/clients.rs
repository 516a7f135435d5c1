//! Real Redis clients with their default settings, as applications use them, through a pool of three servers.
//!
//! The scripts know nothing of the proxy: they say what Redis does, and pass on a single server as well.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::clients::node_program;
use super::super::support::process::{Process, Proxy};

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

fn ordinary_use(program: PathBuf, script: &str, python_path: Option<&str>, what: &[&str]) {
    let servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    // The keys of most clients have no tag.
    let proxy = Proxy::start(&addresses, &["redis: true", "timeout: 2000", "hash_tag: \"{}\""]);
    assert!(program.exists(), "{} is not there: run tests/setup.sh", program.display());
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(script));
    command.args(["127.0.0.1", &proxy.address.port().to_string()]).args(what).stdin(Stdio::null());
    if let Some(place) = python_path {
        command.env("PYTHONPATH", target().join(place));
    }
    let output = command.output().expect("the client");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("fine\n"), "{script} {what:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
}

fn python(script: &str, place: Option<&str>, what: &[&str]) {
    ordinary_use(target().join("venv/bin/python"), script, place, what);
}

fn node(which: &str) {
    let modules = target().join("node");
    ordinary_use(node_program(), "redis_node.mjs", None, &[which, &modules.to_string_lossy()]);
}

#[test]
fn redis_py_8_works_as_it_is() {
    python("redis_py.py", None, &["default"]);
}

#[test]
fn redis_py_8_works_with_resp2() {
    python("redis_py.py", None, &["2"]);
}

#[test]
fn redis_py_7_works() {
    python("redis_py.py", Some("redis-py-7.4.0"), &["default"]);
    python("redis_py.py", Some("redis-py-7.4.0"), &["3"]);
}

#[test]
fn redis_py_5_works() {
    python("redis_py.py", Some("redis-py-5.2.1"), &["default"]);
    python("redis_py.py", Some("redis-py-5.2.1"), &["3"]);
}

#[test]
fn django_works() {
    python("redis_django.py", None, &["django"]);
}

#[test]
fn django_redis_works() {
    python("redis_django.py", None, &["django-redis"]);
}

/// Queue systems have keys that must be together, so they are given a prefix that is a tag.
#[test]
fn rq_works() {
    python("queue_rq.py", Some("queues"), &[]);
}

#[test]
fn celery_works() {
    python("queue_celery.py", Some("queues"), &[]);
}

#[test]
fn bullmq_works() {
    let (script, modules) = ("queue_bullmq.mjs", target().join("node"));
    ordinary_use(node_program(), script, None, &[&modules.to_string_lossy()]);
}

#[test]
fn ioredis_works() {
    node("ioredis");
}

#[test]
fn node_redis_works() {
    node("node-redis");
}
