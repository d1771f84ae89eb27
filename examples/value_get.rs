//! The client's job with a channel: `value_get NAME`. It waits for a whole message.

use std::io::Write;
use tombolo::{Patience, value::Reader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name: tombolo::Name = std::env::args().nth(1).ok_or("no NAME")?.parse()?;
    let mut reader = Reader::wait(name, Patience::FOREVER)?;
    let message = reader
        .watch(Patience::FOREVER)?
        .expect("no end to patience");
    std::io::stdout().write_all(&message.bytes)?;
    Ok(())
}
