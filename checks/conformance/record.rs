//! What a test made where it has no IPC name space of its own, so that it can be removed however
//! the test ends.
//!
//! The record is a file without a name. The trial makes it and hands it down as standard input;
//! the test's process maps it shared, so that its children write to it too, and the trial reads
//! it when all of them are gone. A word that is not 0 holds the kind and id of an object that was
//! made and not removed again.

use crate::harness::Target;
use std::fs::File;
use std::io::{Read, Seek};
use std::mem::size_of;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use sysv::abi::*;

/// The kinds of objects.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A segment.
    Segment = 1,
    /// A message queue.
    Queue = 2,
    /// A semaphore set.
    Set = 3,
}

/// How many words the record has; the tests that have more objects at once are those that need a
/// name space of their own.
const WORDS: usize = 4096;

static RECORD: OnceLock<&'static [AtomicU64]> = OnceLock::new();

/// Gives a new file the record's size.
pub fn prepare(file: &File) -> std::io::Result<()> {
    file.set_len((WORDS * size_of::<AtomicU64>()) as u64)
}

/// Begins to record, if standard input is a record.
pub fn begin() {
    let length = WORDS * size_of::<AtomicU64>();
    // SAFETY: every bit pattern is a stat.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is valid for writing.
    let got = unsafe { libc::fstat(0, &mut status) };
    if got != 0 || status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return;
    }
    if status.st_size != length as i64 {
        return;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping where there is none.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, 0, 0) };
    if base == libc::MAP_FAILED {
        return;
    }
    // SAFETY: the mapping holds `WORDS` words, is aligned and never unmapped, the file keeps its
    // length, and everybody uses the words atomically until all writers are gone.
    let words = unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), WORDS) };
    RECORD.get_or_init(|| words);
}

/// Notes what a `*get` call answered, if that may be a new object.
pub fn note(kind: Kind, key: key_t, flags: i32, answer: sysv::Result<i32>) {
    let (Some(words), Ok(id)) = (RECORD.get(), answer) else {
        return;
    };
    if key == IPC_PRIVATE || flags & IPC_CREAT != 0 {
        let entry = entry(kind, id);
        // Atomic for the sake of children and threads; the trial reads after all of them have
        // ended.
        let free = words.iter().find(|word| {
            word.compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        });
        assert!(
            free.is_some(),
            "a test that has so many objects needs its own name space"
        );
    }
}

/// Takes what was removed out of the record.
pub fn forget(kind: Kind, id: i32, command: i32, answer: sysv::Result<i32>) {
    let (Some(words), Ok(_), IPC_RMID) = (RECORD.get(), answer, command) else {
        return;
    };
    let entry = entry(kind, id);
    for word in words.iter() {
        // Looking a key up with IPC_CREAT has noted it several times.
        let _ = word.compare_exchange(entry, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The word for an object.
fn entry(kind: Kind, id: i32) -> u64 {
    (kind as u64) << 32 | id as u64
}

/// Removes what was noted and still exists.
pub fn remove_all(mut file: File, target: &Target) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let words = bytes
        .chunks_exact(8)
        .map(|word| word.try_into().map(u64::from_ne_bytes));
    for word in words.filter_map(Result::ok) {
        let id = word as u32 as i32;
        // Most are gone already; of what is left nothing else is known.
        let _ = match word >> 32 {
            1 => target.shm_remove(id),
            2 => target.msg_remove(id),
            3 => target.sem_remove(id),
            _ => Ok(()),
        };
    }
    Ok(())
}
