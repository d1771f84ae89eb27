//! What other projects reach, by the same bodies, in the same run as Tombolo's channels, the
//! kernel's transports and the bare rings:
//! `cargo run --release --manifest-path rivals/Cargo.toml -- --help`.
//!
//! - iceoryx2 0.10: publish–subscribe and request–response, polling
//! - Boost.Interprocess: `message_queue`, if `libboost-dev` is installed
//! - ZeroMQ: push and pull over `ipc://`
//! - `ipc-channel`: channels of bytes
//! - `rtrb`: between two threads, as the reference within a process
//!
//! Aeron needs a third process and a Java or C driver; it is not built here.

#[cfg(boost)]
mod boost;
mod channel;
mod iceoryx;
mod threads;
mod zeromq;

use bench::body::{Asked, OneWay};
use bench::command::Command;
use bench::transport::Runner;
use clap::Parser;
use std::process::ExitCode;

fn runners() -> Vec<Box<dyn Runner>> {
    let mut all = bench::registry::runners();
    for in_place in [false, true] {
        all.push(Box::new(OneWay(iceoryx::Topic { in_place })));
    }
    for in_place in [false, true] {
        all.push(Box::new(Asked(iceoryx::Requests { in_place })));
    }
    #[cfg(boost)]
    for spin in [true, false] {
        all.push(Box::new(OneWay(boost::Boost { spin })));
    }
    all.push(Box::new(OneWay(zeromq::ZeroMq)));
    all.push(Box::new(OneWay(channel::IpcChannel)));
    all.push(Box::new(threads::Rtrb));
    all
}

fn main() -> ExitCode {
    // It warns that it has no configuration, each time.
    iceoryx2::prelude::set_log_level(iceoryx2::prelude::LogLevel::Error);
    let runners = runners();
    bench::conduct::play_role(&runners);
    let mut command = Command::parse();
    command.absent(
        "Aeron",
        "needs a media driver, a process of its own; see docs/performance.md",
    );
    if !cfg!(boost) {
        command.absent(
            "Boost.Interprocess queue",
            "libboost-dev or a C++ compiler is missing",
        );
    }
    command.run(&runners)
}
