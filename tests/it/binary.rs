//! memcached's binary protocol, as clients speak it: what a memcached itself answers is the measure.

mod admitted;
mod bad;
mod differential;
mod failing;
mod hogs;
mod packet;
mod sasl;
mod split;
