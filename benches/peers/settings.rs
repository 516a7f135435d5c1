//! What each proxy is told: the same three servers, one thread, the same timeout.
//!
//! Each gets the placement of keys that is nearest to a ring; which key lies where differs, and costs the same, because
//! the load stores every key through the proxy that it will read it from. None waits with its writes for more to
//! come. `TCP_NODELAY` is every proxy's own habit, except that memcached's proxy does not set it towards its servers.

use crate::workload::Workload;

/// A file for nutcracker and softmiss: both read the same one, which is the point of the comparison.
///
/// With two workers, or for what nutcracker does not have, softmiss gets lines more, which nutcracker would not know.
pub(crate) fn twemproxy(address: &str, servers: &[u16], workload: &Workload, workers: u32, is_ours: bool) -> String {
    let option =
        if is_ours && !workload.option.is_empty() { format!("  {}\n", workload.option) } else { String::new() };
    let process = if workers == 1 { String::new() } else { format!("softmiss:\n  workers: {workers}\n") };
    let redis = if workload.redis { "  redis: true\n" } else { "" };
    let servers: String =
        servers.iter().enumerate().map(|(number, port)| format!("   - 127.0.0.1:{port}:1 node-{number}\n")).collect();
    format!(
        "{process}peers:\n  listen: {address}\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: {}\n  \
         preconnect: true\n  server_connections: 1\n{redis}{option}  servers:\n{servers}",
        workload.timeout_ms()
    )
}

/// A file for memcached's proxy: twemproxy's points on its ring, and the hash that it is fastest with.
///
/// In older releases a route is a function that calls the pool; those that know `funcgen_new` want a maker of functions.
pub(crate) fn memcached_proxy(servers: &[u16], workload: &Workload) -> String {
    let servers: Vec<String> =
        servers.iter().map(|port| format!("mcp.backend('node-{port}', '127.0.0.1', {port})")).collect();
    let timeout = f64::from(workload.timeout_ms()) / 1000.0;
    format!(
        "function mcp_config_pools()
  mcp.backend_connect_timeout({timeout})
  mcp.backend_read_timeout({timeout})
  return mcp.pool({{ {} }}, {{ dist = mcp.dist_ring_hash, omode = 'twemproxy' }})
end

function mcp_config_routes(pool)
  local route = function(request) return pool(request) end
  if mcp.funcgen_new then
    route = mcp.funcgen_new()
    local handle = route:new_handle(pool)
    route:ready({{ n = 'peers', f = function(context)
      return function(request) return context:enqueue_and_wait(request, handle) end
    end }})
  end
  mcp.attach(mcp.CMD_ANY_STORAGE, route)
end
",
        servers.join(", ")
    )
}

/// A file for Predixy: each server a group, as its standalone pool wants it.
pub(crate) fn predixy(address: &str, servers: &[u16], workload: &Workload) -> String {
    let groups: String = (servers.iter().enumerate())
        .map(|(number, port)| format!("    Group node-{number} {{\n        + 127.0.0.1:{port}\n    }}\n"))
        .collect();
    format!(
        "Name peers\nBind {address}\nWorkerThreads 1\nClientTimeout 0\nLogInfoSample 0\n\
         Authority {{\n    Auth {{\n        Mode admin\n    }}\n}}\n\
         StandaloneServerPool {{\n    Hash crc16\n    Distribution modula\n    RefreshMethod fixed\n    \
         ServerTimeout {}ms\n    ServerFailureLimit 10\n    ServerRetryTimeout 1\n{groups}}}\n",
        workload.timeout_ms()
    )
}

/// A file for Envoy: one listener with its Redis filter, one cluster with a ring.
pub(crate) fn envoy(port: u16, servers: &[u16], workload: &Workload) -> String {
    let timeout = f64::from(workload.timeout_ms()) / 1000.0;
    let address = |port: u16| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let endpoints: String =
        servers.iter().map(|&port| format!("        - endpoint: {{ address: {} }}\n", address(port))).collect();
    format!(
        "static_resources:
  listeners:
  - name: peers
    address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: peers
          settings: {{ op_timeout: {timeout}s }}
          prefix_routes: {{ catch_all_route: {{ cluster: servers }} }}
  clusters:
  - name: servers
    type: STATIC
    connect_timeout: {timeout}s
    lb_policy: RING_HASH
    load_assignment:
      cluster_name: servers
      endpoints:
      - lb_endpoints:
{endpoints}",
        address(port)
    )
}
