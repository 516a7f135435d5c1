//! Counting: plain cells that workers write and anyone may read.

pub mod carried;
mod cell;
pub mod counters;
pub mod histogram;
pub mod hot;
pub mod json;
pub mod prometheus;
pub mod table;
