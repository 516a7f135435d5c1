//! What this process counted for a pool, told over the pool's own port: `stats proxy` of memcached pools, the section
//! `softmiss` of Redis's `INFO`.

use std::fmt::Write as _;

use super::Engine;
use super::ids::SessionId;
use crate::config::model::PoolId;
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::reply;
use crate::stats::counters::PoolCounters;
use crate::stats::table;

impl Engine {
    /// Every figure of a pool with its name, added up over the workers.
    fn figures(&self, pool: PoolId, mut row: impl FnMut(&str, u64)) {
        let total = |value: &dyn Fn(&PoolCounters) -> u64| {
            self.topology.counters.iter().map(|worker| value(worker.pool(pool))).fold(0, u64::wrapping_add)
        };
        for metric in table::POOL {
            row(metric.name, total(&metric.value));
        }
        for failure in Failure::ALL {
            row(&format!("degraded_{}", failure.name()), total(&|pool| pool.degraded[failure as usize].value()));
        }
        for class in Class::ALL {
            for outcome in Outcome::OF_REQUESTS.into_iter().filter(|outcome| class.may_end(*outcome)) {
                let name = format!("{}_{}", class.name(), outcome.name());
                row(&name, total(&|pool| pool.outcomes[class as usize][outcome as usize].value()));
            }
        }
    }

    /// `stats proxy`.
    pub(super) fn stats_proxy(&mut self, id: SessionId) {
        let Some(session) = self.session_ref(id) else { return };
        let mut text = String::new();
        self.figures(session.pool(), |name, value| {
            let _ = write!(text, "STAT {name} {value}\r\n");
        });
        self.answer(id, &[text.as_bytes(), reply::END].concat());
    }

    /// The section of `INFO`.
    pub(super) fn info_section(&self, pool: PoolId) -> String {
        let mut text = format!("# Softmiss\r\nsoftmiss_version:{}\r\n", env!("CARGO_PKG_VERSION"));
        self.figures(pool, |name, value| {
            let _ = write!(text, "softmiss_{name}:{value}\r\n");
        });
        text
    }
}
