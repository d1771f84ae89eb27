//! Chores of the workspace, run as `cargo xtask CHORE`.
#![forbid(unsafe_code)]

mod arrows;
mod bench;
mod chores;
mod fuzz;
mod layouts;
mod programs;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Fail on a dependency between crates that ARCHITECTURE.md does not draw
    Arrows,
    /// Write docs/layout.md from the tables of the code
    Layouts {
        /// Write nothing; fail if the page is not what the tables say
        #[arg(long)]
        check: bool,
    },
    /// Measure everything (a quarter of an hour; two idle processors), and write
    /// docs/performance.md, its pictures, and the table and picture of README.md
    Bench {
        /// A few minutes; writes to target/bench instead of docs
        #[arg(long)]
        quick: bool,
        /// Leave other projects out
        #[arg(long)]
        no_rivals: bool,
        /// Measure nothing; write the page from this record
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Run the loom models of the algorithms on shared memory (about a minute)
    Loom,
    /// Run under Miri what works on memory of one process
    Miri,
    /// Kill processes at each labelled step and see that the others go on
    Crash {
        /// Many more rounds
        #[arg(long)]
        long: bool,
    },
    /// Make random calls on the kernel and in user space, and compare
    Differential {
        /// A million calls
        #[arg(long)]
        long: bool,
    },
    /// Read segments that are damaged or that a hostile peer writes meanwhile
    Hostile {
        /// Many more rounds
        #[arg(long)]
        long: bool,
    },
    /// Install the real programs that the tests run under `tombolo run`, where that is possible,
    /// and run them
    Programs(programs::Options),
    /// Spoil each channel's memory in ways that mean something, and use it meanwhile
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Arrows => arrows::run(root()),
        Chore::Layouts { check } => layouts::run(root(), check),
        Chore::Bench {
            quick,
            no_rivals,
            from,
        } => bench::run(root(), quick, no_rivals, from),
        Chore::Loom => chores::loom(root()),
        Chore::Miri => chores::miri(root()),
        Chore::Crash { long } => chores::test(root(), "crash", long),
        Chore::Fuzz(options) => fuzz::run(root(), &options),
        Chore::Differential { long } => chores::test(root(), "differential", long),
        Chore::Programs(options) => programs::run(root(), &options),
        Chore::Hostile { long } => chores::test(root(), "hostile", long),
    }
}

/// The folder of the workspace.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask stands in the workspace")
}

/// The cargo that runs this chore, so that `cargo +TOOLCHAIN xtask` goes on with that toolchain.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
