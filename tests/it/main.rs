//! The tests of the whole: one module a capability.

mod conformance;
mod degrade;
mod differential;
mod drain;
mod golden;
mod layering;
mod limits;
mod sim;
mod stats;
mod support;
