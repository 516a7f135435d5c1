//! `softmiss demo`.
use clap::Args;

/// Options of the demo.
#[derive(Debug, Args)]
pub struct Options {}

/// Runs it.
///
/// # Errors
///
/// Always.
pub fn run(_: &Options) -> anyhow::Result<()> {
    anyhow::bail!("not here yet")
}
