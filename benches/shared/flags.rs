//! What cargo, and runners of tests, say to every bench.

/// Nobody types them.
#[derive(clap::Args, Debug)]
pub(crate) struct Flags {
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Test runners ask for a list of tests; there are none.
    #[arg(long, hide = true)]
    pub(crate) list: bool,
    /// Goes with `--list`.
    #[arg(long, hide = true)]
    format: Option<String>,
    /// Goes with `--list`.
    #[arg(long, hide = true)]
    ignored: bool,
}
