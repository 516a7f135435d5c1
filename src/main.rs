//! The program: parses its command line and ends with an exit code. Everything else is in the library.

use std::process::ExitCode;

/// What a burst of large values took is given back in seconds. The system's allocator keeps all of it: values lie
/// between small things that live on, and glibc gives back only what is at the end. docs/decisions/0011 has the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    softmiss::cli::main()
}
