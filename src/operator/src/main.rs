//! The operator of Postroad; see the library for what it does.

use clap::Parser as _;
use postroad_operator::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    Args::parse().run()
}
