//! Everything in this repository that moves messages, beside the bare limit and the kernel's own
//! transports: `cargo bench -p checks --bench transports -- --help`.

use bench::command::Command;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let runners = bench::registry::runners();
    bench::conduct::play_role(&runners);
    Command::parse().run(&runners)
}
