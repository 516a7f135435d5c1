//! The program: parses its command line and ends with an exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    softmiss::cli::main()
}
