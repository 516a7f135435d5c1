//! Counting: plain cells that workers write and anyone may read.

pub mod counters;
pub mod json;
pub mod table;
