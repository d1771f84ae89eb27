//! The server's job with a channel: `value_put NAME INPUT`.

use tombolo::value::{Options, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name: tombolo::Name = std::env::args().nth(1).ok_or("no NAME")?.parse()?;
    let text = std::fs::read(std::env::args_os().nth(2).ok_or("no INPUT")?)?;
    let mut writer = Writer::open_or_create(name, &Options::default())?;
    writer.grow(text.len())?;
    writer.put(&text)?;
    Ok(())
}
