//! [`Memory`] for loom: the same offsets, over loom's atomics.
//!
//! loom's atomics are larger than real ones and know nothing of addresses, so each offset has an
//! atomic of its own: one vector serves the 32-bit words, another the 64-bit words and the bulk
//! bytes. A layout therefore uses an offset in one of the two ways only, as every layout here
//! does. Futex waits are a condition variable, so that a lost wake-up is a deadlock that loom
//! reports.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

struct Words {
    narrow: Vec<AtomicU32>,
    wide: Vec<AtomicU64>,
    /// How many have gone to sleep; and who sleeps, in that order: a number, and on which word.
    parked: Mutex<(u64, Vec<(u64, usize)>)>,
    woken: Condvar,
}

/// Bytes that other threads of the model can change.
#[derive(Clone)]
pub(crate) struct Memory {
    words: Arc<Words>,
    length: usize,
}

impl Memory {
    pub(crate) fn heap(length: usize) -> Self {
        let words = Words {
            narrow: (0..length.div_ceil(4)).map(|_| AtomicU32::new(0)).collect(),
            wide: (0..length.div_ceil(8)).map(|_| AtomicU64::new(0)).collect(),
            parked: Mutex::new((0, Vec::new())),
            woken: Condvar::new(),
        };
        Self {
            words: Arc::new(words),
            length,
        }
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        &self.words.narrow[offset / 4]
    }

    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        &self.words.wide[offset / 8]
    }

    /// # Safety
    /// `to` is valid for writing `length` bytes.
    pub(crate) unsafe fn read(&self, offset: usize, to: *mut u8, length: usize) {
        let mut i = 0;
        while i < length {
            let at = offset + i;
            let bytes = self.u64(at).load(Ordering::Relaxed).to_ne_bytes();
            let part = (8 - at % 8).min(length - i);
            for (j, byte) in bytes[at % 8..][..part].iter().enumerate() {
                // SAFETY: below `length`.
                unsafe { to.add(i + j).write(*byte) };
            }
            i += part;
        }
    }

    /// # Safety
    /// `from` is valid for reading `length` bytes.
    pub(crate) unsafe fn write(&self, offset: usize, from: *const u8, length: usize) {
        let mut i = 0;
        while i < length {
            let at = offset + i;
            let part = (8 - at % 8).min(length - i);
            let mut bytes = if part == 8 {
                [0; 8]
            } else {
                self.u64(at).load(Ordering::Relaxed).to_ne_bytes()
            };
            for (j, byte) in bytes[at % 8..][..part].iter_mut().enumerate() {
                // SAFETY: below `length`.
                *byte = unsafe { from.add(i + j).read() };
            }
            self.u64(at)
                .store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            i += part;
        }
    }

    pub(crate) fn futex_wait(&self, offset: usize, expected: u32) {
        let mut parked = self.words.parked.lock().unwrap();
        if self.u32(offset).load(Ordering::SeqCst) != expected {
            return;
        }
        parked.0 += 1;
        let me = (parked.0, offset);
        parked.1.push(me);
        while parked.1.contains(&me) {
            parked = self.words.woken.wait(parked).unwrap();
        }
    }

    /// Wakes one who sleeps on that word, or all, whatever they sleep on: who is woken for nothing looks
    /// again.
    pub(crate) fn futex_wake(&self, offset: usize, most: u32) {
        let mut parked = self.words.parked.lock().unwrap();
        if most == 1 {
            let first = parked.1.iter().position(|(_, word)| *word == offset);
            first.map(|first| parked.1.remove(first));
        } else {
            parked.1.clear();
        }
        self.words.woken.notify_all();
    }
}
