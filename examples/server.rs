//! The server: puts the text of a file into a segment, and marks it complete.

use std::sync::atomic::Ordering;
use tombolo::shmem::Region;
use tombolo::sysv::{Key, Mode, Segment};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let [_, key_file, input] = arguments.as_slice() else {
        return Err("usage: server KEYFILE INPUT".into());
    };
    let text = std::fs::read(input)?;
    let key = Key::ftok(key_file.as_ref(), b'T')?;
    let mode = Mode::from_bits_truncate(0o644);
    let segment = Segment::create(key, 8 + text.len(), mode)?;
    let region = Region::attach(segment.id())?;
    let length = u32::try_from(text.len())?;
    region.u32(4).store(length, Ordering::Relaxed);
    region.copy_in(8, &text)?;
    // Release: whoever sees the mark sees the length and the text.
    region.u32(0).store(1, Ordering::Release);
    println!("segment {}: {length} bytes", segment.id());
    Ok(()) // The region detaches here; the segment stays.
}
