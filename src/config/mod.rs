//! Configuration: from the text of a file to resolved, checked values.

pub mod model;
