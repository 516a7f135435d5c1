//! `softmiss demo`: the whole thing in one process, with nothing to install.
//!
//! Three small cache nodes, the proxy in front of them, a load that checks every byte, and a monkey that kills, hangs and
//! revives the nodes. What is to be seen: errors stay at 0.

mod chaos;
mod clock;
mod load;
mod meta;
mod node;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::admin::{self, Admin};
use crate::config::model::{
    Address, Config, Listen, LogFormat, LogLevel, LogSettings, Pool, Port, Server, ServerId, Settings, Stall,
};
use crate::io::Inherited;
use crate::io::terminal::say;
use crate::io::{Operator, Proxy, log, signal};
use load::Seen;
use node::Node;
use table::{Table, View};

/// Options of the demo.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11211")]
    listen: SocketAddr,

    /// Where the dashboard is (default 127.0.0.1:22223, or a free port if that is taken), or none
    #[arg(long, value_name = "ADDR")]
    admin: Option<Port>,

    /// No load of its own: a cache for local development
    #[arg(long)]
    no_load: bool,

    /// Leave the nodes alone
    #[arg(long)]
    no_chaos: bool,

    /// End after so many seconds; Ctrl-C ends it otherwise
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,

    /// What the monkey does, and when
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

const NAMES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// Runs the demo until it is ended.
///
/// # Errors
///
/// When an address cannot be used, and when the load met an error or a wrong value.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut nodes = Vec::new();
    for name in NAMES {
        nodes.push(Node::start(name).context("cannot start a node on the loopback interface")?);
    }
    let _log = log::start(LogSettings { level: LogLevel::Error, format: LogFormat::Text }, None)?;
    let proxy = Proxy::start(config(options.listen, &nodes), None, Inherited::default()).map_err(|error| {
        let error = anyhow::Error::new(error);
        anyhow::anyhow!("{error:#}: is {} taken? Choose another with --listen 127.0.0.1:PORT", options.listen)
    })?;
    let address = proxy.addresses().first().copied().flatten().unwrap_or(options.listen);
    let watched = watch(options.admin, proxy.operator(None))?;
    say(&opening(address, watched, options));
    let registry = proxy.shared_board();
    let seen = Arc::new(Seen::default());
    let stop = Arc::new(AtomicBool::new(false));
    if !options.no_load {
        load::start(address, &seen, &stop);
    }
    let ends_load = EndsLoad(Arc::clone(&stop));
    let start = clock::now();
    let mut monkey = chaos::Monkey::new(options.seed);
    let mut table = Table::new();
    let mut acts_at = Duration::from_secs(3);
    let show = async {
        // What ends the show, a signal too, ends the load before the proxy: its end is no failure to be seen.
        let _ends_load = ends_load;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let elapsed = start.elapsed();
            if !options.no_chaos && elapsed >= acts_at {
                acts_at = elapsed + monkey.rest();
                table.tell(elapsed, &monkey.act(&nodes));
            }
            if !(options.no_load && options.no_chaos) {
                table.draw(&View { elapsed, nodes: &nodes, registry: &registry, seen: &seen });
            }
            if options.seconds.is_some_and(|seconds| elapsed.as_secs() >= seconds) {
                break;
            }
        }
    };
    signal::Signals::catch()?.run_until(proxy, None, show);
    let view = View { elapsed: start.elapsed(), nodes: &nodes, registry: &registry, seen: &seen };
    if !options.no_load {
        say(&table::summary(&view, monkey.deeds));
        if seen.wrong.load(Ordering::Relaxed) > 0 || seen.errors.load(Ordering::Relaxed) > 0 {
            bail!("the application saw errors or wrong values; that must not happen");
        }
    }
    Ok(())
}

/// Serves the dashboard, if it is wanted; says where.
fn watch(wanted: Option<Port>, operator: Operator) -> anyhow::Result<Option<SocketAddr>> {
    let listener = match wanted {
        Some(Port::Off) => return Ok(None),
        Some(Port::At(address)) => {
            Admin::bind(address).with_context(|| format!("cannot serve the dashboard on {address}"))?
        }
        // Another process may be where it usually is.
        Some(Port::Unsaid) | None => Admin::bind(admin::USUAL)
            .or_else(|_| Admin::bind((admin::USUAL.ip(), 0).into()))
            .context("cannot serve the dashboard on the loopback interface")?,
    };
    Ok(Some(Admin::start(listener, operator)?))
}

/// Ends the load when it is dropped.
struct EndsLoad(Arc<AtomicBool>);

impl Drop for EndsLoad {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is said first: with the table below it, it fits a terminal of 80x24.
fn opening(address: SocketAddr, watched: Option<SocketAddr>, options: &Options) -> String {
    let mut text = format!(
        "A memcached proxy at {address} and three cache nodes run in this process.\n\n\
         \x20 try it   telnet {} {}   then: set a 0 0 5 / hello / get a\n\
         \x20 Django   \"BACKEND\": \"django.core.cache.backends.memcached.PyMemcacheCache\",\n\
         \x20          \"LOCATION\": \"{address}\"\n",
        address.ip(),
        address.port()
    );
    if let Some(watched) = watched {
        text.push_str(&format!(
            "  watch    http://{watched}/ in a browser: the dashboard\n\
             \x20          softmiss top {watched} in another terminal\n"
        ));
    }
    text.push_str(if options.no_chaos {
        "Ctrl-C ends it.\n\n"
    } else {
        "A monkey kills, hangs and revives the nodes; errors stay at 0. Ctrl-C ends it.\n\n"
    });
    text
}

fn config(listen: SocketAddr, nodes: &[Node]) -> Config {
    let servers = nodes.iter().enumerate().map(|(position, node)| Server {
        name: node.name.to_owned(),
        ring_name: None,
        address: Address::Tcp { host: node.address.ip().to_string(), port: node.address.port() },
        weight: 1,
        id: ServerId(0),
        position,
    });
    let listen = Listen::Tcp { text: listen.to_string(), address: listen };
    let timeout = Duration::from_millis(400);
    let pool = Pool {
        timeout: Some(timeout),
        auto_eject_hosts: true,
        server_retry_timeout: Duration::from_secs(2),
        server_failure_limit: 3,
        stall: Some(Stall { least: timeout / 10, most: timeout }),
        flap_limit: None, // the monkey would soon be without prey
        ..Pool::new("demo", listen, servers.collect())
    };
    Config { settings: Settings { stats: Port::Off, ..Settings::default() }, pools: vec![pool] }
}
