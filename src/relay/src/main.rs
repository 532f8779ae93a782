//! The relay program. Everything is in the library; this is the door.

use clap::Parser as _;
use mimalloc::MiMalloc;
use postroad_relay::args::Args;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    Args::parse().run()
}
