//! SD: `shmdt`.

use crate::harness::{Outcome, PAGE, Statement, Target, now, statement};
use crate::memory::{
    free_range, map, mapping, mappings, peek, poke, protect, reading_faults, unmap,
};
use crate::process::{child, wait_past};
use std::ptr;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("SD-1", unmaps),
    statement("SD-2", not_the_start),
    statement("SD-3", twice),
    statement("SD-4", success),
    statement("SD-5", last_of_marked),
    statement("SD-6", partly_unmapped),
    statement("SD-7", no_attach),
    statement("SD-8", unmapped_whole),
    statement("SD-9", split_by_protection),
    statement("SD-10", moved),
];

fn unmaps(t: &Target) -> Outcome {
    let id = t.segment(3 * PAGE);
    for flags in [0, SHM_RDONLY] {
        let base = t.shmat_at(id, free_range(3), flags).expect("shmat");
        assert!(!reading_faults(base));
        assert_eq!(t.shmdt(base), Ok(()));
        for page in 0..3 {
            assert!(reading_faults(base.wrapping_add(page * PAGE)));
        }
    }
    Outcome::Pass
}

fn not_the_start(t: &Target) -> Outcome {
    let id = t.segment(3 * PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    assert_eq!(t.shmdt(ptr::null()), Err(Errno::INVAL));
    for offset in [1, 8, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1] {
        assert_eq!(
            t.shmdt(base.wrapping_add(offset)),
            Err(Errno::INVAL),
            "{offset}"
        );
    }
    assert_eq!(t.attaches(id), 1);
    poke(base, 1);
    poke(base.wrapping_add(3 * PAGE - 1), 1);
    t.shmdt(base).expect("shmdt");
    Outcome::Pass
}

fn twice(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let kept = t.shmat(id, 0).expect("shmat");
    let base = t.shmat(id, 0).expect("shmat");
    t.shmdt(base).expect("shmdt");
    for _ in 0..2 {
        assert_eq!(t.shmdt(base), Err(Errno::INVAL));
        assert_eq!(t.attaches(id), 1);
    }
    t.shmdt(kept).expect("shmdt");
    Outcome::Pass
}

fn success(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, 0).expect("shmat"),
    ];
    let attached = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!((attached.shm_nattch, attached.shm_dtime), (2, 0));
    wait_past(attached.shm_atime);
    let before = now();
    t.shmdt(bases[0]).expect("shmdt");
    let after = now();
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!(
        (status.shm_nattch, status.shm_atime),
        (1, attached.shm_atime)
    );
    assert!(
        (before..=after).contains(&status.shm_dtime),
        "{before} {after} {status:?}"
    );
    assert_eq!(status.shm_lpid, std::process::id() as i32);
    // Another process that detaches what it inherited is the last one then.
    let other = child(|| t.shmdt(bases[1]).expect("shmdt"));
    let pid = other.pid();
    other.join();
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!((status.shm_nattch, status.shm_lpid), (1, pid));
    t.shmdt(bases[1]).expect("shmdt");
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!(
        (status.shm_nattch, status.shm_lpid),
        (0, std::process::id() as i32)
    );
    Outcome::Pass
}

fn last_of_marked(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, SHM_RDONLY).expect("shmat"),
    ];
    t.shm_remove(id).expect("IPC_RMID");
    t.shmdt(bases[0]).expect("shmdt");
    assert_eq!(t.attaches(id), 1);
    assert_eq!(peek(bases[1]), 0);
    t.shmdt(bases[1]).expect("shmdt");
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL));
    Outcome::Pass
}

fn partly_unmapped(t: &Target) -> Outcome {
    let id = t.segment(3 * PAGE);
    let other = t.shmat(id, 0).expect("shmat");
    for page in [0, 2] {
        let base = t.shmat_at(id, free_range(3), 0).expect("shmat");
        unmap(base.wrapping_add(page * PAGE), 1);
        assert!(mapping(base.wrapping_add(PAGE)).is_some());
        t.shmdt(base).expect("shmdt");
        for page in 0..3 {
            assert!(
                reading_faults(base.wrapping_add(page * PAGE)),
                "page {page}"
            );
        }
        t.wait_attaches(id, 1);
        assert_eq!(t.shmdt(base), Err(Errno::INVAL));
    }
    t.shmdt(other).expect("shmdt");
    Outcome::Pass
}

fn no_attach(t: &Target) -> Outcome {
    let mine = map(1);
    poke(mine, 6);
    let heap = Box::new([0u8; 3 * PAGE]);
    let heap = ptr::from_ref(&heap[PAGE]).map_addr(|address| address & !(PAGE - 1));
    let code = (no_attach as *const u8).map_addr(|address| address & !(PAGE - 1));
    let file = mappings()
        .into_iter()
        .find(|mapping| mapping.inode != 0)
        .expect("a file");
    let nowhere = free_range(1);
    let file = ptr::without_provenance(file.start);
    for address in [mine.cast_const(), heap, code, file, nowhere] {
        assert_eq!(t.shmdt(address), Err(Errno::INVAL), "{address:p}");
    }
    assert_eq!(peek(mine), 6, "still there");
    Outcome::Pass
}

fn unmapped_whole(t: &Target) -> Outcome {
    let id = t.segment(2 * PAGE);
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, 0).expect("shmat"),
    ];
    unmap(bases[0], 2);
    assert_eq!(t.attaches(id), 1);
    assert_eq!(t.shmdt(bases[0]), Err(Errno::INVAL));
    t.shm_remove(id).expect("IPC_RMID");
    unmap(bases[1], 2);
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL), "the last detach, too");
    Outcome::Pass
}

fn split_by_protection(t: &Target) -> Outcome {
    let id = t.segment(3 * PAGE);
    let base = t.shmat_at(id, free_range(3), 0).expect("shmat");
    assert_eq!(protect(base.wrapping_add(PAGE), 1, libc::PROT_NONE), 0);
    let count = t.attaches(id);
    assert!(count == 3 || count == 1, "{count} attaches while split");
    t.shmdt(base).expect("shmdt");
    assert_eq!(t.attaches(id), 0);
    for page in 0..3 {
        assert!(
            mapping(base.wrapping_add(page * PAGE)).is_none(),
            "page {page}"
        );
    }
    assert_eq!(t.shmdt(base), Err(Errno::INVAL));
    t.shm_remove(id).expect("IPC_RMID");
    assert_eq!(t.shm_stat(id), Err(Errno::INVAL));
    Outcome::Pass
}

fn moved(t: &Target) -> Outcome {
    let id = t.segment(2 * PAGE);
    let base = t.shmat_at(id, free_range(2), 0).expect("shmat");
    poke(base.wrapping_add(PAGE), 8);
    let target = map(2);
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are the test's own, without references into them.
    let there = unsafe { libc::mremap(base.cast(), 2 * PAGE, 2 * PAGE, how, target) };
    assert_eq!(
        there.cast(),
        target,
        "mremap: {}",
        std::io::Error::last_os_error()
    );
    assert_eq!(t.attaches(id), 1);
    assert_eq!(peek(target.wrapping_add(PAGE)), 8);
    assert_eq!(t.shmdt(base), Err(Errno::INVAL), "the old address");
    t.shmdt(target).expect("the new address");
    assert_eq!(t.attaches(id), 0);
    assert!(reading_faults(target));
    Outcome::Pass
}
