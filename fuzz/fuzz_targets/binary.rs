//! Run with `cargo fuzz run binary` (`-s none` on a stable toolchain). The body is shared with the ordinary tests.
#![no_main]

#[path = "../../tests/it/fuzz/bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::binary(data));
