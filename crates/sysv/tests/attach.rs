//! Attaches: where, how, and that none is left behind.

mod harness;

use harness::*;
use std::sync::atomic::Ordering::SeqCst;
use sysv::procfs::{self, Mapping};
use sysv::{Attach, AttachOptions, AttachReadOnly, Errno, Segment};

/// Our own attaches of a segment.
fn mine(segment: Segment) -> Vec<Mapping> {
    let pid = std::process::id().cast_signed();
    let mut all = procfs::attached(segment.id()).expect("/proc").mappings;
    all.retain(|mapping| mapping.pid == pid);
    all
}

fn attaches(segment: Segment) -> u64 {
    segment.status_any().expect("SHM_STAT_ANY").attaches
}

/// Where a segment of this size fits at the moment.
fn free_range(size: usize) -> usize {
    let made = segment(size, 0o600);
    let attach = made.attach().expect("shmat");
    attach.as_ptr().addr()
}

fn attach_with(segment: Segment, options: AttachOptions) -> sysv::Result<Attach> {
    // SAFETY: the tests take addresses that the system once chose, apart from any stack, and
    // replace only by hand.
    unsafe { segment.attach_with(&options) }
}

fn attach_read_only_with(segment: Segment, options: AttachOptions) -> sysv::Result<AttachReadOnly> {
    // SAFETY: as above.
    unsafe { segment.attach_read_only_with(&options) }
}

/// Attaches at a free address. Another thread may take it first: then another is tried.
fn attach_at(segment: Segment, size: usize, options: AttachOptions, offset: usize) -> Attach {
    for _ in 0..100 {
        let at = free_range(size);
        match attach_with(segment, options.address(at + offset)) {
            Ok(attach) => {
                assert_eq!(attach.as_ptr().addr(), at);
                return attach;
            }
            Err(error) => assert_eq!(error, Errno::INVAL),
        }
    }
    panic!("no address stayed free");
}

#[test]
fn attaches_go_when_they_are_dropped_or_detached() {
    let made = segment(5000, 0o600);
    let first = made.attach().expect("shmat");
    let second = made.attach_read_only().expect("shmat");
    assert_eq!((first.len(), second.len()), (5000, 5000));
    assert_eq!((first.segment(), second.segment()), (made.0, made.0));
    assert_ne!(first.as_ptr().cast_const(), second.as_ptr());
    assert_eq!(attaches(made.0), 2);
    drop(first);
    assert_eq!(attaches(made.0), 1);
    second.detach().expect("shmdt");
    assert_eq!(attaches(made.0), 0);
}

#[test]
fn both_kinds_show_the_same_bytes() {
    let made = segment(1, 0o600);
    let writer = made.attach().expect("shmat");
    let reader = made.attach_read_only().expect("shmat");
    // SAFETY: the attach has a byte, and no other process has it.
    unsafe { writer.as_ptr().write_volatile(42) };
    // SAFETY: as above.
    assert_eq!(unsafe { reader.as_ptr().read_volatile() }, 42);
}

#[test]
fn proc_tells_the_kinds_apart() {
    let made = segment(5000, 0o700);
    let plain = made.attach().expect("shmat");
    let executable = AttachOptions::new().exec(true);
    let executable = attach_read_only_with(made.0, executable).expect("shmat");
    let mut seen = mine(made.0);
    seen.sort_by_key(|mapping| mapping.executable);
    let [first, second] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(first.address, plain.as_ptr().addr() as u64);
    assert_eq!(second.address, executable.as_ptr().addr() as u64);
    assert!(!first.read_only && !first.executable);
    assert!(second.read_only && second.executable);
    assert_eq!((first.length, second.length), (8192, 8192));
    assert!(first.same_name_space);
    assert_eq!(first.segment, made.id());
    // SAFETY: has no preconditions.
    assert_eq!(first.uid, unsafe { libc::geteuid() });
    let comm = std::fs::read_to_string("/proc/self/comm").expect("comm");
    assert_eq!(first.command, comm.trim_end());
}

#[test]
fn executable_needs_the_bit() {
    let made = segment(1, 0o600);
    as_other_user(|| {
        let made = segment(1, 0o600);
        let options = AttachOptions::new().exec(true);
        assert_eq!(attach_with(made.0, options).err(), Some(Errno::ACCESS));
    });
    assert_eq!(attaches(made.0), 0);
}

#[test]
fn an_address_is_used_exactly_or_rounded_down() {
    let made = segment(5000, 0o600);
    attach_at(made.0, 5000, AttachOptions::new(), 0);
    attach_at(made.0, 5000, AttachOptions::new().round(true), 4095);
    let unaligned = AttachOptions::new().address(free_range(5000) + 1);
    assert_eq!(attach_with(made.0, unaligned).err(), Some(Errno::INVAL));
    assert_eq!(attaches(made.0), 0);
}

#[test]
fn nothing_is_mapped_over() {
    let made = segment(8192, 0o600);
    let attach = made.attach().expect("shmat");
    for offset in [0, 4096] {
        let there = AttachOptions::new().address(attach.as_ptr().addr() + offset);
        assert_eq!(attach_with(made.0, there).err(), Some(Errno::INVAL));
        let answer = attach_read_only_with(made.0, there);
        assert_eq!(answer.err(), Some(Errno::INVAL));
    }
    assert_eq!(attaches(made.0), 1);
}

#[test]
fn nothing_is_mapped_at_null() {
    let made = segment(8192, 0o600);
    for address in [0, 1, 4095] {
        for options in [AttachOptions::new(), AttachOptions::new().replace(true)] {
            let low = options.address(address);
            for low in [low, low.round(true)] {
                assert_eq!(attach_with(made.0, low).err(), Some(Errno::INVAL));
            }
        }
    }
    let nowhere = AttachOptions::new().replace(true);
    assert_eq!(attach_with(made.0, nowhere).err(), Some(Errno::INVAL));
    assert_eq!(attaches(made.0), 0);
}

#[test]
fn replacing_replaces() {
    let (old, new) = (segment(4096, 0o600), segment(4096, 0o600));
    let below = old.attach().expect("shmat");
    let there = AttachOptions::new()
        .address(below.as_ptr().addr())
        .replace(true);
    // What lives there is the attach below, which is forgotten.
    let above = attach_with(new.0, there).expect("shmat");
    assert_eq!(above.as_ptr(), below.as_ptr());
    std::mem::forget(below);
    assert_eq!((attaches(old.0), attaches(new.0)), (0, 1));
    // What lives there is the attach above, which is forgotten.
    let top = attach_read_only_with(old.0, there).expect("shmat");
    std::mem::forget(above);
    assert_eq!((attaches(old.0), attaches(new.0)), (1, 0));
    top.detach().expect("shmdt");
    assert_eq!(attaches(old.0), 0);
}

#[test]
fn a_failed_attach_leaves_none() {
    let spy = Spy::default();
    let made = segment(1, 0o600);
    let watched = Segment::from_id_in(&spy, made.id());
    spy.refuse_shmctl.store(true, SeqCst);
    assert_eq!(watched.attach().err(), Some(Errno::ACCESS));
    assert_eq!(watched.attach_read_only().err(), Some(Errno::ACCESS));
    assert!(spy.calls.load(SeqCst) >= 4, "attached and detached");
    assert_eq!(spy.attached.load(SeqCst), 0);
    assert_eq!(attaches(made.0), 0);
}

#[test]
fn what_is_gone_cannot_be_attached_and_what_is_marked_can() {
    let made = segment(1, 0o600);
    let attach = made.attach().expect("shmat");
    made.remove().expect("IPC_RMID");
    let again = made.attach().expect("by id");
    drop(attach);
    drop(again);
    assert_eq!(made.attach().err(), Some(Errno::INVAL));
}

#[test]
fn an_attach_that_was_unmapped_says_so() {
    let made = segment(1, 0o600);
    let attach = made.attach().expect("shmat");
    // SAFETY: nothing in the attach is used afterwards.
    let answer = unsafe { libc::munmap(attach.as_ptr().cast(), 4096) };
    assert_eq!(answer, 0);
    assert_eq!(attach.detach(), Err(Errno::INVAL));
}

#[test]
fn attaches_may_move_between_threads() {
    fn movable<T: Send + Sync>(_: &T) {}
    let made = segment(1, 0o600);
    let attach: Attach = made.attach().expect("shmat");
    let reader: AttachReadOnly = made.attach_read_only().expect("shmat");
    movable(&attach);
    movable(&reader);
    std::thread::spawn(move || drop((attach, reader)))
        .join()
        .expect("dropped there");
    assert_eq!(attaches(made.0), 0);
}

#[test]
fn a_split_attach_counts_once_and_goes_whole() {
    let made = segment(3 * 4096, 0o600);
    let attach = made.attach().expect("shmat");
    // SAFETY: the second page of three; nobody uses it meanwhile.
    let middle = unsafe { attach.as_ptr().add(4096) };
    // SAFETY: as above.
    let answer = unsafe { libc::mprotect(middle.cast(), 4096, libc::PROT_READ) };
    assert_eq!(answer, 0);
    let seen = mine(made.0);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].length, seen[0].read_only), (3 * 4096, false));
    attach.detach().expect("shmdt");
    assert_eq!(mine(made.0), []);
    assert_eq!(attaches(made.0), 0);
}
