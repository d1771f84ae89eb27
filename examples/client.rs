//! The client: waits until the text in the segment is complete, and displays it.

use std::io::Write;
use std::{sync::atomic::Ordering, thread::sleep, time::Duration};
use tombolo::shmem::View;
use tombolo::sysv::{Errno, Key, Segment};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key_file = std::env::args_os().nth(1).ok_or("usage: client KEYFILE")?;
    let key = Key::ftok(key_file.as_ref(), b'T')?;
    let segment = loop {
        match Segment::open(key) {
            Err(Errno::NOENT) => sleep(Duration::from_millis(1)),
            found => break found?,
        }
    };
    let view = View::attach(segment.id())?; // read-only
    // Acquire: with the mark come the length and the text.
    while view.load_u32(0, Ordering::Acquire) != 1 {
        sleep(Duration::from_millis(1));
    }
    let mut text = Vec::new();
    let length = view.load_u32(4, Ordering::Relaxed);
    view.append_to(8, length as usize, &mut text)?; // an error if it is not inside the segment
    std::io::stdout().write_all(&text)?;
    Ok(()) // The view detaches here.
}
