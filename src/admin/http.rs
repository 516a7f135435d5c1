//! The HTTP server of the admin port: a handful of routes over what [`super::view`] and the renderers give.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::recent::{Recent, Sample};
use super::view;
use crate::io::{Observed, listener};
use crate::stats::json::{self, Moment};
use crate::stats::prometheus;

/// Readers served at the same time; further ones wait.
const READERS: usize = 32;

/// How long one connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// How often the recent figures are kept.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const ROUTES: &str = "\
GET /           the dashboard
GET /metrics    Prometheus
GET /servers    pools and servers, states, rates and latencies (JSON)
GET /stats      twemproxy's statistics (JSON)
GET /healthz    200 while the process runs
GET /readyz     200 while every pool has a server in its ring, 503 otherwise
";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The page; it fetches `/servers`.
const DASHBOARD: &str = include_str!("dashboard.html");

/// The admin port.
#[derive(Debug)]
pub struct Admin {
    observed: Observed,
    recent: Mutex<Recent>,
    host: String,
}

impl Admin {
    /// Binds the port and serves it on a thread of its own until the process ends.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound or the thread cannot be started.
    pub fn start(address: SocketAddr, observed: Observed) -> std::io::Result<SocketAddr> {
        let listener = listener::bind_tcp(address, 128, false)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let admin = Arc::new(Self { observed, recent: Mutex::default(), host });
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(Arc::clone(&admin).sample());
                admin.serve(listener).await;
            });
        })?;
        info!(listen = %address, "admin port is served");
        Ok(address)
    }

    async fn sample(self: Arc<Self>) {
        // Until the first sample, figures are compared with zeros.
        let mut period = tokio::time::interval_at(tokio::time::Instant::now() + SAMPLE_PERIOD, SAMPLE_PERIOD);
        loop {
            period.tick().await;
            let sample = Sample::take(&self.observed.sources(), self.moment().uptime);
            self.recent.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
    }

    async fn serve(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot serve the admin port"),
        };
        let places = Arc::new(Semaphore::new(READERS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        let service = service_fn(|request| {
                            let admin = Arc::clone(&admin);
                            async move { Ok::<_, Infallible>(admin.answer(&request)) }
                        });
                        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                        // A reader that leaves early, or says what is not HTTP, has had what it can get.
                        let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a reader of the admin port");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn moment(&self) -> Moment<'_> {
        let now = self.observed.clock.now();
        Moment { host: &self.host, uptime: Duration::from_nanos(now.as_nanos()), wall: self.observed.clock.wall(now) }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, ROUTES.to_owned());
        }
        let moment = self.moment();
        match request.uri().path() {
            "/" => respond(StatusCode::OK, HTML, DASHBOARD.to_owned()),
            "/metrics" => {
                respond(StatusCode::OK, prometheus::CONTENT_TYPE, prometheus::render(&self.observed.sources(), &moment))
            }
            "/servers" => {
                let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                let overview = view::overview(&self.observed.sources(), &recent, &self.observed.events, &moment);
                match serde_json::to_string(&overview) {
                    Ok(text) => respond(StatusCode::OK, JSON, text),
                    Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
                }
            }
            "/stats" => {
                let Observed { config, board, counters, .. } = &self.observed;
                respond(StatusCode::OK, JSON, json::render(config, board, counters, &moment))
            }
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => self.ready(),
            _ => respond(StatusCode::NOT_FOUND, TEXT, ROUTES.to_owned()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let sources = self.observed.sources();
        let bare: Vec<&str> = sources
            .pools()
            .filter(|(id, _)| !self.observed.board.live(*id).contains(&true))
            .map(|(_, pool)| pool.name.as_str())
            .collect();
        if bare.is_empty() {
            respond(StatusCode::OK, TEXT, "ready\n".to_owned())
        } else {
            respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("no server in the ring of: {}\n", bare.join(", ")))
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
