//! The program: parses its command line and ends with an exit code. Everything else is in the library.

use std::process::ExitCode;

use tikv_jemalloc_ctl::{Access, AsName as _};

/// What a burst of large values took is given back in seconds. The system's allocator keeps all of it: values lie
/// between small things that live on, and glibc gives back only what is at the end. docs/decisions/0011 has the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    keep_little();
    softmiss::io::give_back_with(give_back);
    softmiss::cli::main()
}

/// Bytes of an allocation that jemalloc takes from a place of its own for large ones (its `oversize_threshold`).
const LARGE: usize = 8 << 20;

/// Has the allocator give back large pieces as soon as they are free, and all others within seconds.
///
/// jemalloc decides about the large ones when the first of them is asked for: it gives them back at once unless threads
/// of its own see to that, which give back everything in the course of ten seconds. So the threads come second.
fn keep_little() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    // Without them, what is free is given back when something else is allocated.
    let _ = tikv_jemalloc_ctl::background_thread::write(true);
}

/// Has the allocator give back at once whatever is free.
///
/// There is a word for that (`arena.<i>.purge`), but none without a value can be said in safe Rust. So each of its arenas
/// is told to keep nothing, and then to keep what it kept before.
fn give_back() {
    let arenas: u32 = tikv_jemalloc_ctl::arenas::narenas::read().unwrap_or(0);
    for arena in 0..arenas {
        let name = format!("arena.{arena}.dirty_decay_ms\0");
        let name = name.as_bytes().name();
        // One that nobody uses has none, and that of the large pieces keeps nothing anyway.
        if let Ok(kept) = Access::<isize>::read(name)
            && kept > 0
            && name.write(0isize).is_ok()
        {
            let _ = name.write(kept);
        }
    }
}
