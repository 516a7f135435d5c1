//! The tests of the whole: one module a capability.

mod sim;
