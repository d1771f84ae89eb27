//! The pulse of a process: a word that the kernel changes when it dies, to wake who waits for it.
//!
//! `presence` tells who is dead to who asks. This tells those who sleep that it is time to ask,
//! within a tenth of a millisecond of a `kill -9`, however large the process is, and at no cost
//! while nothing happens.
//!
//! # Picture
//! ```text
//!   the pulse, a System V segment                  │ private page of the owner
//!   ┌─────────────────────┬──────────┬──────┬──────┼──────┬──────────────────
//!   │                     │ IDENTITY │ BEAT │ BACK │ node │
//!   └─────────────────────┴──────────┴──────┴──────┼──────┴──────────────────
//!   0                     4032       4064   4088   4096
//!     peers have it read-only, and sleep on BEAT   │ nobody else has it
//! ```
//! BEAT is a robust futex of one thread of the owner, its *keeper*; the node by which the kernel
//! finds it is in the keeper's robust list (see `robust`). The kernel follows the node's link when
//! the keeper dies, so that link stands where nobody else can write, behind the segment.
//!
//! | BEAT | means |
//! | --- | --- |
//! | 0 | no keeper: it never had one, or the last one ended in good order |
//! | the keeper's number and `FUTEX_WAITERS` | the keeper lives |
//! | `FUTEX_OWNER_DIED` | the keeper died, and most likely its process with it |
//!
//! # Protocol
//! - A process makes its pulse when it first asks for it: private, attached, removed, its mode set
//!   so that anybody may read it and nobody may attach it for writing. Its word, which says where
//!   it is, is stored beside the identity in the tables of channels.
//! - The thread that asks becomes the keeper. When it ends in good order it takes the node out of
//!   its list, sets BEAT to 0 and wakes everyone; the next thread of the process that opens
//!   a channel or is about to sleep becomes the keeper.
//! - A peer attaches it read-only and believes it only if the kernel says that it was made by the
//!   process of that identity, or one of the same number and user. It sleeps on BEAT beside its
//!   bell (`futex_waitv`). The kernel wakes one sleeper for each death, so who is woken wakes the
//!   others before anything else.
//!
//! - `[PULSE_LINK]` The node is in the list before BEAT has the keeper's number, and the number is
//!   taken back before the node is. Otherwise a thread killed in between would leave a BEAT that
//!   looks alive for ever. The kernel looks from the processor that ran the thread, so the order
//!   of the program suffices; BEAT is stored with release and loaded with acquire, which says so
//!   to the compiler, and IDENTITY is there before.
//!
//! # Crash
//! That is what it is for. Killed between making and removing, a process leaves a private segment
//! that `tombolo rm --orphans` sweeps; killed before it became the keeper, a BEAT of 0, and peers
//! look at presence in slices.
//!
//! # Limits
//! Waking is one system call of Linux 5.16; without it, without glibc's kind of robust list, or
//! with no free segment, there are slices as for everybody without a pulse. A wake-up that goes to
//! a peer that is killed in the same moment is lost to the others, who notice at the end of their
//! slice. A page of shared and one of private memory for each process.

use crate::presence::{self, Identity, Own};
use crate::robust::{BACK_FROM_NODE, List, WORD_FROM_NODE};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::thread::futex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sysv::{Attach, Key, Mode, shm};

/// What stands where in the last 64 bytes of a pulse's page.
pub mod layout {
    crate::layout! {
        "pulse", 64;
        IDENTITY: 8 @ 0, "the owner, once", "the owner's identity";
        BEAT: 4 @ 32, "the keeper; the kernel when it dies [PULSE_LINK]", "the keeper's number and FUTEX_WAITERS; 0: there is none; FUTEX_OWNER_DIED: it died";
        BACK: 8 @ 56, "the keeper and its C library", "back link of the node behind the page; of no meaning to others";
    }
}

/// Bytes of a page, behind which the node stands.
const NODE: usize = 4096;
const START: usize = NODE - layout::LAYOUT.size;
/// Bytes from the page's start to the owner's identity.
pub(crate) const IDENTITY: usize = START + layout::IDENTITY;
/// Bytes from the page's start to the beat.
pub(crate) const BEAT: usize = START + layout::BEAT;
const _: () = assert!(
    NODE.wrapping_add_signed(WORD_FROM_NODE) == BEAT
        && NODE.wrapping_add_signed(BACK_FROM_NODE) == START + layout::BACK
);
/// Bytes of the segment: two pages, of which the second gives its place to the private page. A
/// number by which it is recognised, and no presence's.
const SIZE: usize = 0x17ad;
/// How it is made: for its owner alone.
const MADE: u32 = 0o600;
/// How it stays: everybody may read, nobody write.
pub(crate) const MODE: u32 = 0o444;
/// Tells the word of a pulse from 0; the rest is the segment's id.
pub(crate) const THERE: u32 = 1 << 31;

/// This process's pulse, made when first asked for: the word to store beside one's identity in
/// shared tables. 0 if it has none, which is no error: peers then look more often.
pub fn mine() -> u32 {
    let Ok(me) = presence::mine() else { return 0 };
    let Ok(own) = presence::own() else { return 0 };
    // Acquire: a thread that sees the word sees the base. [PULSE_LINK]
    if own.pulse.load(Ordering::Acquire) == 0 && make(own, me).is_err() {
        return 0;
    }
    keep();
    // Relaxed: only the number is used.
    own.pulse.load(Ordering::Relaxed) as u32
}

/// Makes the calling thread the keeper of this process's pulse, if it has a pulse without one. Two
/// loads if not.
#[inline]
pub(crate) fn keep() {
    let Some(own) = presence::own_if_any() else {
        return;
    };
    // Acquire: the page is whole before its address is published.
    let base = own.pulse_base.load(Ordering::Acquire);
    if base == 0 {
        return;
    }
    // Acquire: [PULSE_LINK].
    let beat = own_beat(base).load(Ordering::Acquire);
    if is_orphaned(beat) {
        become_keeper(own, base, beat);
    }
}

/// Whether the segment is a pulse that lives as long as somebody has it.
pub fn is_pulse(status: &shm::Status) -> bool {
    status.perm.key == Key::PRIVATE && status.marked && status.size == SIZE as u64
}

/// Whether a segment is what a process left that died while it made its pulse.
pub(crate) fn is_orphan(status: &shm::Status) -> bool {
    status.perm.key == Key::PRIVATE
        && !status.marked
        && status.attaches == 0
        && status.perm.mode.bits() == MADE
        && status.size == SIZE as u64
}

/// Whether nobody keeps it.
pub(crate) fn is_orphaned(beat: u32) -> bool {
    beat == 0 || has_died(beat)
}

/// Whether its keeper died.
pub(crate) fn has_died(beat: u32) -> bool {
    beat & futex::OWNER_DIED != 0
}

fn own_beat(base: usize) -> &'static AtomicU32 {
    let word = std::ptr::with_exposed_provenance_mut(base + BEAT);
    // SAFETY: a base that is published in `Own` is that of this process's pulse, which is never
    // unmapped; a child by fork, which does not have it, does not have the address either.
    unsafe { AtomicU32::from_ptr(word) }
}

#[cold]
fn make(own: &Own, me: Identity) -> sysv::Result<()> {
    let segment = shm::Options::new(SIZE)
        .mode(Mode::from_bits_truncate(MADE))
        .create(Key::PRIVATE)?;
    let attach = segment.attach();
    let removed = segment.remove();
    let attach = attach?;
    removed?;
    // Before anybody may read it, and before it is mapped by halves.
    segment.set(&sysv::Change {
        mode: Some(Mode::from_bits_truncate(MODE)),
        ..sysv::Change::default()
    })?;
    let base = split(&attach)?;
    let identity = std::ptr::with_exposed_provenance_mut(base + IDENTITY);
    // SAFETY: an aligned word of the attach, which nobody else writes.
    unsafe { AtomicU64::from_ptr(identity) }.store(me.word(), Ordering::Release);
    // One thread wins: the base goes first, because `keep` asks for it alone. Release: the page is
    // whole. Relaxed on failure: nothing is read.
    let won = own
        .pulse_base
        .compare_exchange(0, base, Ordering::Release, Ordering::Relaxed);
    if won.is_ok() {
        std::mem::forget(attach);
        let word = THERE | segment.id() as u32;
        // Release: as above.
        own.pulse.store(word.into(), Ordering::Release);
        return Ok(());
    }
    let node = std::ptr::with_exposed_provenance_mut(base + NODE);
    // SAFETY: the private page that `split` made; nobody has its address.
    unsafe { rustix::mm::munmap(node, NODE) }?;
    Ok(())
}

/// Replaces the second page of the attach by a private one, and keeps both from children. Answers
/// the address of the first.
fn split(attach: &Attach) -> sysv::Result<usize> {
    let base = attach.as_ptr().expose_provenance();
    let node = std::ptr::with_exposed_provenance_mut(base + NODE);
    // SAFETY: the second page of an attach that is longer than one, and of which nothing is used.
    unsafe {
        rustix::mm::mmap_anonymous(
            node,
            NODE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
        )
    }?;
    // SAFETY: both pages are ours, and the advice changes only what a fork does.
    unsafe { rustix::mm::madvise(attach.as_ptr().cast(), 2 * NODE, Advice::LinuxDontFork) }?;
    Ok(base)
}

/// Lets go of the pulse when the thread ends that keeps it.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(own) = presence::own_if_any() else {
            return;
        };
        // Acquire: as in `keep`.
        let base = own.pulse_base.load(Ordering::Acquire);
        // Relaxed: only this thread stores or removes its own number.
        if base == 0 || own.pulse_keeper.load(Ordering::Relaxed) != my_number().into() {
            return;
        }
        let beat = own_beat(base);
        // [PULSE_LINK] before the node goes.
        beat.store(0, Ordering::Release);
        if let Some(list) = List::mine() {
            // SAFETY: glibc keeps the list whole, and our node is never unmapped.
            unsafe { list.remove(base + NODE) };
        }
        // Release: the next keeper finds the node free.
        own.pulse_keeper.store(0, Ordering::Release);
        wake(beat);
    }
}

thread_local! {
    static GUARD: Guard = const { Guard };
}

#[cold]
fn become_keeper(own: &Own, base: usize, beat: u32) {
    // No list, no keeper. And a thread that is at its end would not let go.
    let Some(list) = List::mine() else { return };
    if GUARD.try_with(|_| ()).is_err() {
        return;
    }
    let me = my_number();
    let keeper = &own.pulse_keeper;
    if has_died(beat) {
        // The last keeper died and its process lives: it left by the bare system call. Its list is
        // gone with it. Of those who see this one takes its place; acquire, relaxed: as below.
        let word = own_beat(base);
        if word
            .compare_exchange(beat, 0, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        // Relaxed: until now nobody else stores here, because it is not 0.
        keeper.store(me.into(), Ordering::Relaxed);
    } else if keeper
        .compare_exchange(0, me.into(), Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        // Acquire: the last keeper has let go of the node. Relaxed on failure: somebody else is
        // becoming it, or letting go.
        return;
    }
    // SAFETY: node and back link are pages of ours that are never unmapped; by the exchange this
    // thread alone has them, and `Guard` takes the node out before the thread ends.
    unsafe { list.insert(base + NODE) };
    // [PULSE_LINK] after the node.
    own_beat(base).store(me | futex::WAITERS, Ordering::Release);
}

fn my_number() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// Wakes everyone who sleeps on a beat.
pub(crate) fn wake(beat: &AtomicU32) {
    let _ = futex::wake(beat, futex::Flags::empty(), i32::MAX as u32);
}
