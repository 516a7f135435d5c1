//! statsd: once an interval, what has been added since the last one goes out over UDP.
//!
//! `metrics-exporter-statsd` formats and sends each call's line by itself, which costs more than a request; so it is
//! called here only, with the differences of an interval. Counters go first: what still waits for its packet to fill up
//! when the interval is over are gauges, which the next interval says again.

use std::collections::HashMap;
use std::time::Duration;

use metrics::{Counter, Gauge, Key, Level, Metadata, Recorder as _};
use metrics_exporter_statsd::{StatsdBuilder, StatsdRecorder};
use tracing::{info, warn};

use crate::config::model::{PoolId, ServerId, StatsdSettings};
use crate::failure::Failure;
use crate::health::tracker::State;
use crate::io::{Observed, rounds};
use crate::outcome::{Class, Outcome};
use crate::stats::histogram::Snapshot;
use crate::stats::prometheus::Sources;
use crate::stats::table::{self, Kind};
use crate::topology::Topology;

/// Bytes of a packet: what an Ethernet frame takes.
const PACKET: usize = 1432;

/// How often it is looked whether there is somebody to be told now.
const LOOK: Duration = Duration::from_secs(1);

/// A counter, and what was told of it.
struct CounterReading {
    of: Subject,
    metric: String,
    counter: Counter,
    value: Box<dyn Fn(&Sources<'_>) -> u64 + Send>,
    last: u64,
}

/// Something that goes up and down.
struct GaugeReading {
    gauge: Gauge,
    value: Box<dyn Fn(&Sources<'_>) -> f64 + Send>,
}

/// The latencies of a pool or a server: told as quantiles of the interval.
struct Latency {
    of: Subject,
    quantiles: [(f64, Gauge); 3],
    take: Box<dyn Fn(&Sources<'_>) -> Snapshot + Send>,
    last: Snapshot,
}

/// Whom something is told of: the process, a pool, or a server by the first id that its name had. Those never are another's.
type Subject = Option<(PoolId, Option<ServerId>)>;

/// What was told of everything that ever was: a server that comes back goes on where it left.
struct Told {
    /// Nobody was told anything yet.
    is_new: bool,
    /// There was something before anything could be told.
    goes_on: bool,
    counters: HashMap<(Subject, String), u64>,
    latencies: HashMap<Subject, Snapshot>,
}

/// Everything that is told: of the pools and servers of one topology, to one server.
struct Series {
    topology: u64,
    settings: StatsdSettings,
    counters: Vec<CounterReading>,
    gauges: Vec<GaugeReading>,
    latencies: Vec<Latency>,
}

/// Starts a thread that tells statsd, whenever the configuration names one, until the process ends. One that goes on with what
/// another process has counted tells nothing of that.
///
/// # Errors
///
/// When the thread cannot be started.
pub fn start(observed: Observed, goes_on: bool) -> std::io::Result<()> {
    let (mut series, mut told, mut complained) =
        (None, Told { is_new: true, goes_on, counters: HashMap::new(), latencies: HashMap::new() }, false);
    rounds::spawn_rounds("statsd", move || {
        round(&observed, &mut series, &mut told, &mut complained);
        Ok(())
    })
}

/// One interval.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, that does nothing but wait and tell")]
fn round(observed: &Observed, series: &mut Option<Series>, told: &mut Told, complained: &mut bool) {
    let interval = observed.topology().config.settings.statsd.as_ref().map(|statsd| statsd.interval);
    std::thread::sleep(interval.unwrap_or(LOOK));
    let topology = observed.topology();
    let sources = observed.sources(&topology);
    let Some(settings) = topology.config.settings.statsd.as_ref().filter(|_| interval.is_some()) else {
        series.take().into_iter().for_each(|old| told.note(old));
        return;
    };
    let is_current = |series: &Series| series.topology == topology.version && series.settings == *settings;
    if !series.as_ref().is_some_and(is_current) {
        match connect(settings, &topology) {
            Ok(mut fresh) => {
                if !series.as_ref().is_some_and(|old| old.settings == *settings) {
                    info!(host = settings.host, port = settings.port, "statsd is told");
                }
                series.take().into_iter().for_each(|old| told.note(old));
                // Whoever is told only now is not told of everything since the start as of one interval.
                let is_late = std::mem::replace(&mut told.is_new, false) && (topology.version > 0 || told.goes_on);
                fresh.go_on(told, is_late.then_some(&sources));
                (*series, *complained) = (Some(fresh), false);
            }
            Err(error) => {
                series.take().into_iter().for_each(|old| told.note(old)); // that is told what it was to be told no more
                if !std::mem::replace(complained, true) {
                    warn!(host = settings.host, port = settings.port, %error, "cannot tell statsd, trying on");
                }
            }
        }
    }
    if let Some(series) = series {
        series.tell(&sources);
    }
}

fn connect(settings: &StatsdSettings, topology: &Topology) -> anyhow::Result<Series> {
    // More than everything that is told in one interval: what does not fit is dropped.
    let pools = &topology.config.pools;
    let servers: usize = pools.iter().map(|pool| pool.servers.len()).sum();
    let room = 64 + pools.len() * 192 + servers * 96;
    let recorder = StatsdBuilder::from(settings.host.clone(), settings.port)
        .with_queue_size(room)
        .with_buffer_size(PACKET)
        .build(Some(&settings.prefix))?;
    Ok(Series::new(settings, &recorder, topology))
}

impl Told {
    fn note(&mut self, series: Series) {
        self.counters.extend(series.counters.into_iter().map(|one| ((one.of, one.metric), one.last)));
        self.latencies.extend(series.latencies.into_iter().map(|one| (one.of, one.last)));
    }
}

/// Whom metrics are registered for, and the path of their names.
struct Place<'a> {
    recorder: &'a StatsdRecorder,
    of: Subject,
    path: String,
}

impl Place<'_> {
    fn name(&self, metric: &str) -> String {
        if self.path.is_empty() { metric.to_owned() } else { format!("{}.{metric}", self.path) }
    }
}

impl Series {
    fn new(settings: &StatsdSettings, recorder: &StatsdRecorder, topology: &Topology) -> Self {
        let settings = settings.clone();
        let mut series = Self {
            topology: topology.version,
            settings,
            counters: Vec::new(),
            gauges: Vec::new(),
            latencies: Vec::new(),
        };
        let place = Place { recorder, of: None, path: String::new() };
        for metric in table::PROCESS {
            let value = metric.value;
            series.add(&place, metric.name, metric.kind, move |of| of.sum(value));
        }
        for pool in &topology.config.pools {
            let (id, of) = (pool.id, topology.pool(pool.id));
            let place = Place { recorder, of: Some((id, None)), path: word(&pool.name) };
            for metric in table::POOL {
                let value = metric.value;
                series.add(&place, metric.name, metric.kind, move |of| of.sum(|worker| value(worker.pool(id))));
            }
            for failure in Failure::ALL {
                series.add(&place, &format!("degraded.{}", failure.name()), Kind::Counter, move |of| {
                    of.sum(|worker| &worker.pool(id).degraded[failure as usize])
                });
            }
            for class in Class::ALL {
                for outcome in Outcome::OF_REQUESTS.into_iter().filter(|outcome| class.may_end(*outcome)) {
                    let metric = format!("outcomes.{}.{}", class.name(), outcome.name());
                    series.add(&place, &metric, Kind::Counter, move |of| {
                        of.sum(|worker| &worker.pool(id).outcomes[class as usize][outcome as usize])
                    });
                }
            }
            series.add_latency(&place, move |of| of.pool_latency(id));
            for server in &pool.servers {
                let path = format!("{}.{}", place.path, word(&server.name));
                let place = Place { recorder, of: Some((id, Some(of.first_of_name(server.id)))), path };
                series.add_server(&place, id, server.id);
            }
        }
        series
    }

    fn add_server(&mut self, place: &Place<'_>, id: PoolId, server: ServerId) {
        for metric in table::SERVER {
            let value = metric.value;
            self.add(place, metric.name, metric.kind, move |of| of.sum(|worker| value(worker.server(id, server))));
        }
        for outcome in Outcome::OF_SERVERS {
            self.add(place, &format!("outcomes.{}", outcome.name()), Kind::Counter, move |of| {
                of.sum(|worker| &worker.server(id, server).outcomes[outcome as usize])
            });
        }
        let gauge = gauge(place.recorder, place.name("up"));
        let up = move |of: &Sources<'_>| f64::from(u8::from(matches!(of.registry.state(id, server), State::Up { .. })));
        self.gauges.push(GaugeReading { gauge, value: Box::new(up) });
        self.add_latency(place, move |of| of.server_latency(id, server));
    }

    fn add(
        &mut self,
        place: &Place<'_>,
        metric: &str,
        kind: Kind,
        value: impl Fn(&Sources<'_>) -> u64 + Send + 'static,
    ) {
        match kind {
            Kind::Counter => {
                let counter = place.recorder.register_counter(&Key::from_name(place.name(metric)), &metadata());
                let (of, metric) = (place.of, metric.to_owned());
                self.counters.push(CounterReading { of, metric, counter, value: Box::new(value), last: 0 });
            }
            Kind::Gauge | Kind::Timestamp => {
                let gauge = gauge(place.recorder, place.name(metric));
                #[expect(clippy::cast_precision_loss, reason = "figures below 2^53")]
                let value = move |of: &Sources<'_>| value(of) as f64;
                self.gauges.push(GaugeReading { gauge, value: Box::new(value) });
            }
        }
    }

    fn add_latency(&mut self, place: &Place<'_>, take: impl Fn(&Sources<'_>) -> Snapshot + Send + 'static) {
        let quantiles = [(0.5, "p50"), (0.99, "p99"), (0.999, "p999")]
            .map(|(quantile, name)| (quantile, gauge(place.recorder, place.name(&format!("latency_{name}_us")))));
        let (of, last) = (place.of, Snapshot::default());
        self.latencies.push(Latency { of, quantiles, take: Box::new(take), last });
    }

    /// Goes on where it was left, or, if it is late, where things are.
    fn go_on(&mut self, told: &mut Told, late: Option<&Sources<'_>>) {
        for CounterReading { of, metric, value, last, .. } in &mut self.counters {
            let known = told.counters.remove(&(*of, metric.clone())).unwrap_or_default();
            *last = late.map_or(known, value);
        }
        for Latency { of, take, last, .. } in &mut self.latencies {
            let known = told.latencies.remove(of).unwrap_or_default();
            *last = late.map_or(known, take);
        }
    }

    /// Tells what has been added since the last time, and how things stand.
    fn tell(&mut self, sources: &Sources<'_>) {
        for CounterReading { counter, value, last, .. } in &mut self.counters {
            let now = value(sources);
            let more = now.wrapping_sub(std::mem::replace(last, now));
            if more > 0 {
                counter.increment(more);
            }
        }
        for GaugeReading { gauge, value } in &self.gauges {
            gauge.set(value(sources));
        }
        for Latency { quantiles, take, last, .. } in &mut self.latencies {
            let now = take(sources);
            let fresh = now.since(&std::mem::replace(last, now.clone()));
            for (quantile, gauge) in quantiles {
                if let Some(latency) = fresh.quantile(*quantile) {
                    gauge.set(micros(latency));
                }
            }
        }
    }
}

fn micros(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e6
}

fn gauge(recorder: &StatsdRecorder, name: String) -> Gauge {
    recorder.register_gauge(&Key::from_name(name), &metadata())
}

const fn metadata() -> Metadata<'static> {
    Metadata::new("softmiss", Level::INFO, None)
}

/// A name as one step of a path: dots and what else means something to statsd or Graphite become underscores.
fn word(name: &str) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    name.chars().map(|character| if fits(character) { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_step_of_a_path() {
        assert_eq!(word("10.0.0.1:11211"), "10_0_0_1_11211");
        assert_eq!(word("cache-a_1"), "cache-a_1");
        assert_eq!(word("a|b c:ü"), "a_b_c__");
    }
}
