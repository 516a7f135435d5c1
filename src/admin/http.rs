//! The HTTP server of the admin port: a handful of routes over what [`super::view`] and the renderers give.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::history::{self, History, Reading};
use super::operate::{self, AdminAction};
use super::page::DASHBOARD;
use super::query::Query;
use super::recent::{Recent, Sample};
use super::refusal::Refusal;
use super::{guard, hot, pools, ready, route, view};
use crate::config;
use crate::config::model::{Pool, PoolId, ServerId};
use crate::io::files::ADVICE;
use crate::io::readers::{Reader, Readers};
use crate::io::rounds;
use crate::io::{Operator, accept, listener};
use crate::stats::json::{self as stats, Moment};
use crate::stats::prometheus;
use crate::topology::Topology;

/// How long a reader may take to say what it wants, from when it connected or had its last answer.
const HEAD_LIMIT: Duration = Duration::from_secs(20);

/// How long one connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// How long a worker may take to turn its loop. Those who ask for it often wait no longer than a second.
const TURN_LIMIT: Duration = Duration::from_millis(800);

/// How often the recent figures are kept.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What a browser may do with an answer: run what stands in the page itself, ask this port, and nothing else; and no page
/// may show it inside of itself.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What can be asked for, with whom it is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Dashboard,
    Metrics,
    Servers,
    History,
    HotKeys,
    Pools,
    Route,
    Config,
    Stats,
    Health,
    Readiness,
    /// Something is to be changed.
    Action(AdminAction),
}

/// Everything that there is: the path, what it is, its parameters, what it gives.
const PAGES: &[(&str, Page, &str, &str)] = &[
    ("/", Page::Dashboard, "", "the dashboard"),
    ("/metrics", Page::Metrics, "", "Prometheus"),
    ("/servers", Page::Servers, "", "pools and servers, states, rates and latencies (JSON)"),
    ("/history", Page::History, "", "the last 30 minutes: figures, states and events (JSON)"),
    ("/hotkeys", Page::HotKeys, "", "keys that are asked for most, and the largest values (JSON)"),
    ("/pools", Page::Pools, "", "pools, their settings and what they counted (JSON)"),
    ("/route", Page::Route, "?pool=&key=", "where a key goes now, and why (JSON)"),
    ("/config", Page::Config, "", "the configuration in force, without secrets (YAML)"),
    ("/stats", Page::Stats, "", "twemproxy's statistics (JSON)"),
    ("/healthz", Page::Health, "", "200 while every worker serves, 503 otherwise"),
    (
        "/readyz",
        Page::Readiness,
        "",
        "200 while every worker serves, and 503 while a pool with on_failure: error has no server",
    ),
    ("/servers/eject", Page::Action(AdminAction::Eject), "?pool=&server=", "take a server out of the ring at once"),
    (
        "/servers/drain",
        Page::Action(AdminAction::Drain),
        "?pool=&server=",
        "the same, but what it was asked it may answer",
    ),
    ("/servers/restore", Page::Action(AdminAction::Restore), "?pool=&server=", "let a server back"),
    ("/flush_all", Page::Action(AdminAction::Flush), "?pool=", "flush every server of a memcached pool"),
    ("/reload", Page::Action(AdminAction::Reload), "", "read the configuration again and take it up"),
    ("/upgrade", Page::Action(AdminAction::Upgrade), "", "have another process, of a new binary say, take over"),
    ("/log", Page::Action(AdminAction::Log), "?level=", "error, warn, info, debug or trace"),
];

impl Page {
    const fn method(self) -> &'static str {
        if let Self::Action(_) = self { "POST" } else { "GET" }
    }
}

/// What there is, for whoever asked for something else.
fn pages() -> String {
    PAGES.iter().fold(String::new(), |mut text, (path, page, parameters, gives)| {
        let address = format!("{path}{parameters}");
        let _ = writeln!(text, "{:<4} {address:<32} {gives}", page.method());
        text
    })
}

type Answer = Response<Full<Bytes>>;

/// The admin port.
#[derive(Debug)]
pub struct Admin {
    operator: Operator,
    past: Mutex<Past>,
    host: String,
}

/// What is kept of the last seconds and of the last half hour, by the order of a topology's pools and servers.
#[derive(Debug)]
struct Past {
    version: u64,
    /// The pools and servers, in that order.
    of: Vec<(PoolId, Vec<ServerId>)>,
    recent: Recent,
    history: History,
}

impl Past {
    fn of(topology: &Topology) -> Self {
        let pools = &topology.config.pools;
        let history = History::new(pools.len(), pools.iter().map(|pool| pool.servers.len()).sum());
        Self { version: topology.version, of: order(topology), recent: Recent::default(), history }
    }
}

/// The pools and servers of a topology, in their order.
fn order(topology: &Topology) -> Vec<(PoolId, Vec<ServerId>)> {
    let servers = |pool: &Pool| pool.servers.iter().map(|server| server.id).collect();
    topology.config.pools.iter().map(|pool| (pool.id, servers(pool))).collect()
}

impl Admin {
    /// Binds the port: who comes from then on waits until it is served.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
        listener::bind_tcp(address, 128, false, false)
    }

    /// Serves the port on a thread of its own until the process ends.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(listener: std::net::TcpListener, operator: Operator) -> std::io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let past = Mutex::new(Past::of(&operator.observed().topology()));
        let admin = Arc::new(Self { operator, past, host });
        rounds::spawn_rounds("admin", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let listener = listener.try_clone()?;
            runtime.block_on(async {
                // In one task, so that neither ends without the other.
                tokio::select! {
                    () = Arc::clone(&admin).sample() => Ok(()),
                    served = Arc::clone(&admin).serve(listener) => served,
                }
            })
        })?;
        info!(listen = %address, "admin port is served");
        Ok(address)
    }

    /// What is kept of a topology. Of one with other servers nothing is: its places are theirs.
    fn past(&self, topology: &Topology) -> MutexGuard<'_, Past> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.version != topology.version {
            if past.of == order(topology) {
                past.version = topology.version;
            } else {
                *past = Past::of(topology);
            }
        }
        past
    }

    async fn sample(self: Arc<Self>) {
        // Until the first sample, figures are compared with zeros.
        let mut period = tokio::time::interval_at(tokio::time::Instant::now() + SAMPLE_PERIOD, SAMPLE_PERIOD);
        // After a pause of the whole process there is one sample to take, not one for each second of it.
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let observed = self.operator.observed();
            let topology = observed.topology();
            let sources = observed.sources(&topology);
            let sample = Sample::take(&sources, self.moment().uptime);
            let reading = Reading::take(&sources, &sample);
            let mut past = self.past(&topology);
            past.history.push(reading);
            past.recent.push(sample);
        }
    }

    async fn serve(self: Arc<Self>, listener: std::net::TcpListener) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let readers = Readers::new(self.operator.observed().files.readers());
        let mut is_told = false;
        let mut serves = self.operator.serves();
        loop {
            match accept(&listener, &mut serves).await {
                Ok((stream, peer)) => {
                    is_told = false;
                    let reader = readers.admit().await;
                    let id = reader.id();
                    readers.spawn(id, Arc::clone(&self).serve_reader(stream, peer.ip(), reader));
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(%error, "cannot accept a reader of the admin port; {ADVICE}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_reader(self: Arc<Self>, stream: TcpStream, peer: IpAddr, reader: Reader) {
        let (admin, reader) = (&self, &reader);
        let service = service_fn(|request| async move {
            reader.is_busy(true);
            let mut answer = admin.answer(&request, peer).await;
            if !*admin.operator.serves().borrow() {
                // Whoever asks next is to ask the process that has taken over.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            reader.is_busy(false);
            Ok::<_, Infallible>(answer)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        // A reader that leaves early, or says what is not HTTP, has had what it can get.
        let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
    }

    fn moment(&self) -> Moment<'_> {
        let clock = self.operator.observed().clock;
        let now = clock.now();
        Moment { host: &self.host, uptime: Duration::from_nanos(now.as_nanos()), wall: clock.wall(now) }
    }

    async fn answer(&self, request: &Request<Incoming>, peer: IpAddr) -> Answer {
        match self.page(request, peer).await {
            Ok(answer) => answer,
            Err(Refusal { status, text, allow }) => {
                let mut answer = respond(status, TEXT, text + "\n");
                if let Some(allow) = allow {
                    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                }
                if status == StatusCode::UNAUTHORIZED {
                    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                answer
            }
        }
    }

    async fn page(&self, request: &Request<Incoming>, peer: IpAddr) -> Result<Answer, Refusal> {
        let (path, query) = (request.uri().path(), request.uri().query());
        let Some((_, page, ..)) = PAGES.iter().find(|(known, ..)| *known == path) else {
            return Err(Refusal::missing(format!("{path} is not there; there are:\n\n{}", pages().trim_end())));
        };
        let allow = if let Page::Action(_) = page { "POST" } else { "GET, HEAD" };
        if !allow.split(", ").any(|method| method == request.method().as_str()) {
            let text = format!("{path} is for {allow}, not for {}", request.method());
            return Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, text, allow: Some(allow) });
        }
        // Whether it is alive may be asked by any name: that tells nobody anything.
        if !matches!(page, Page::Health | Page::Readiness | Page::Action(_)) {
            guard::check_reader(peer, request.headers(), &self.host)?;
        }
        let observed = self.operator.observed();
        let topology = observed.topology();
        let sources = observed.sources(&topology);
        let moment = self.moment();
        Ok(match *page {
            Page::Dashboard => respond(StatusCode::OK, HTML, DASHBOARD.to_owned()),
            Page::Metrics => respond(StatusCode::OK, prometheus::CONTENT_TYPE, prometheus::render(&sources, &moment)),
            Page::Servers => json(&view::overview(&sources, &self.past(&topology).recent, &observed.events, &moment)),
            Page::History => json(&history::answer(&sources, &self.past(&topology).history, &observed.events, &moment)),
            Page::HotKeys => json(&hot::hot_keys(&sources, view::instant(&moment))),
            Page::Pools => json(&pools::summaries(&sources)),
            Page::Route => json(&route::live(&Query::parse(query, &["pool", "key"])?, &topology)?),
            Page::Config => respond(StatusCode::OK, TEXT, config::write(&topology.config)),
            Page::Stats => {
                let Topology { config, registry, counters, .. } = &*topology;
                respond(StatusCode::OK, JSON, stats::render(config, registry, counters, &moment))
            }
            Page::Health => self.alive().await.unwrap_or_else(|| match self.operator.discovery_stopped() {
                // Whoever ends it for that takes from its clients what they have.
                Some(why) => {
                    let text = format!("ok, but servers are not looked for at present: {why}\n");
                    respond(StatusCode::OK, TEXT, text)
                }
                None => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
            }),
            Page::Readiness => self.alive().await.unwrap_or_else(|| {
                let (is_ready, text) = ready::readiness(&sources, view::instant(&moment));
                let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                respond(status, TEXT, text)
            }),
            Page::Action(action) => {
                let token = topology.config.settings.admin_token.as_deref();
                guard::check(peer, request.headers(), token)?;
                if !*self.operator.serves().borrow() {
                    let text = "another process has taken over: connect anew, and say it to that one".to_owned();
                    return Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, text, allow: None });
                }
                let query = Query::parse(query, action.parameters())?;
                let (status, told) = operate::act(&self.operator, action, &query, peer.to_canonical()).await?;
                respond(status, JSON, format!("{told}\n"))
            }
        })
    }

    /// What is wrong, unless every worker turns its loop.
    async fn alive(&self) -> Option<Answer> {
        let silent = self.operator.silent_workers(TURN_LIMIT).await;
        if silent.is_empty() {
            return None;
        }
        let names: Vec<_> = silent.iter().map(|index| format!("worker-{index}")).collect();
        let limit = TURN_LIMIT.as_millis();
        let text = format!("no sign of life within {limit} ms of: {}\n", names.join(", "));
        Some(respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text))
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => respond(StatusCode::OK, JSON, text),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::mpsc::channel;

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn health_is_that_of_the_workers() {
        let proxy = crate::io::Proxy::of_two_workers();
        let operator = proxy.operator(None);
        let address = Admin::start(Admin::bind(([127, 0, 0, 1], 0).into()).unwrap(), operator.clone()).unwrap();
        let ok = |path| get(address, path).starts_with("HTTP/1.1 200");
        assert!(ok("/healthz") && ok("/readyz"));
        let (release, released) = channel::<()>();
        operator.have_worker_do(1, move || Ok(released.recv()?));
        for path in ["/healthz", "/readyz"] {
            let answer = get(address, path);
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("worker-1"), "{answer}");
            assert!(!answer.contains("worker-0"), "{answer}");
        }
        assert!(ok("/servers"), "whoever looks sees what there is");
        release.send(()).unwrap();
        assert!(ok("/healthz") && ok("/readyz"));
        operator.stop_discovery("too many open files");
        let answer = get(address, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("too many open files"), "{answer}");
        assert!(ok("/readyz"), "those that are known are served");
    }
}
