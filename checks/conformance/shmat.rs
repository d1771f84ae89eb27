//! SA: `shmat`.

use crate::harness::{Outcome, PAGE, Statement, Target, now, statement};
use crate::memory::{
    free_range, map, mapping, mappings, peek, poke, protect, reading_faults, unmap, writing_faults,
};
use crate::or_skip;
use crate::process::{Gate, as_user, child, keep_capabilities, shared_words, wait_past};
use std::os::unix::process::ExitStatusExt;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("SA-1", anywhere),
    statement("SA-2", at_an_address),
    statement("SA-3", unaligned),
    statement("SA-4", remap_of_nothing),
    statement("SA-5", overlap),
    statement("SA-6", remap),
    statement("SA-7", read_only),
    statement("SA-8", permission),
    statement("SA-9", executable),
    statement("SA-10", many_attaches),
    statement("SA-11", success),
    statement("SA-12", unknown_id),
    statement("SA-13", marked),
    statement("SA-14", destroyed),
    statement("SA-15", whole_pages),
    statement("SA-16", same_bytes),
    statement("SA-17", program_break),
    statement("SA-18", unknown_flags),
    statement("SA-19", page_rules),
    statement("SA-20", address_space_limit),
    statement("SA-21", process_map),
];

fn anywhere(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    assert!(!base.is_null());
    assert_eq!(base as usize % PAGE, 0);
    poke(base, 7);
    assert_eq!(peek(base), 7);
    assert_eq!(&mapping(base).expect("a mapping").permissions[..2], "rw");
    Outcome::Pass
}

fn at_an_address(t: &Target) -> Outcome {
    let id = t.segment(2 * PAGE);
    let free = free_range(2);
    for flags in [0, SHM_RND, SHM_RDONLY] {
        assert_eq!(t.shmat_at(id, free, flags), Ok(free), "{flags:#o}");
        assert_eq!(peek(free.wrapping_add(2 * PAGE - 1)), 0);
        t.shmdt(free).expect("shmdt");
    }
    Outcome::Pass
}

fn unaligned(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let free = free_range(2);
    for offset in [1, 8, 2048, PAGE - 1] {
        let address = free.wrapping_add(offset);
        assert_eq!(t.shmat_at(id, address, 0), Err(Errno::INVAL), "{offset}");
        assert_eq!(
            t.shmat_at(id, address, SHM_RDONLY),
            Err(Errno::INVAL),
            "{offset}"
        );
        assert_eq!(t.shmat_at(id, address, SHM_RND), Ok(free), "{offset}");
        t.shmdt(free).expect("shmdt");
    }
    assert_eq!(t.attaches(id), 0);
    Outcome::Pass
}

fn remap_of_nothing(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let nothing = ptr::null();
    assert_eq!(t.shmat_at(id, nothing, SHM_REMAP), Err(Errno::INVAL));
    assert_eq!(
        t.shmat_at(id, nothing, SHM_REMAP | SHM_RND),
        Err(Errno::INVAL)
    );
    let rounded_to_0 = ptr::without_provenance(PAGE - 1);
    assert_eq!(
        t.shmat_at(id, rounded_to_0, SHM_REMAP | SHM_RND),
        Err(Errno::INVAL)
    );
    assert_eq!(t.attaches(id), 0);
    Outcome::Pass
}

fn overlap(t: &Target) -> Outcome {
    let id = t.segment(2 * PAGE);
    let other = t.segment(2 * PAGE);
    let mine = map(4);
    poke(mine.wrapping_add(PAGE), 9);
    let stack = 0u8;
    let stack = ptr::from_ref(&stack).map_addr(|address| address & !(PAGE - 1));
    let code = (overlap as *const u8).map_addr(|address| address & !(PAGE - 1));
    let attach = t.shmat(other, 0).expect("shmat");
    let all = [
        mine.cast_const(),
        mine.wrapping_add(PAGE),
        stack,
        code,
        attach,
    ];
    for address in all {
        assert_eq!(t.shmat_at(id, address, 0), Err(Errno::INVAL), "{address:p}");
        assert_eq!(
            t.shmat_at(id, address, SHM_RDONLY),
            Err(Errno::INVAL),
            "{address:p}"
        );
    }
    // One page of two in the way: at the end, at the beginning.
    unmap(mine, 1);
    unmap(mine.wrapping_add(2 * PAGE), 2);
    assert_eq!(t.shmat_at(id, mine, 0), Err(Errno::INVAL));
    assert_eq!(
        t.shmat_at(id, mine.wrapping_add(PAGE), 0),
        Err(Errno::INVAL)
    );
    assert_eq!(
        peek(mine.wrapping_add(PAGE)),
        9,
        "what was there is untouched"
    );
    let after = mine.wrapping_add(2 * PAGE);
    assert_eq!(t.shmat_at(id, after, 0), Ok(after));
    assert_eq!((t.attaches(id), t.attaches(other)), (1, 1));
    Outcome::Pass
}

fn remap(t: &Target) -> Outcome {
    let id = t.segment(2 * PAGE);
    let mine = map(4);
    for page in 0..4 {
        poke(mine.wrapping_add(page * PAGE), 9);
    }
    let middle = mine.wrapping_add(PAGE);
    assert_eq!(t.shmat_at(id, middle, SHM_REMAP), Ok(middle));
    let bytes: Vec<u8> = (0..4)
        .map(|page| peek(mine.wrapping_add(page * PAGE)))
        .collect();
    assert_eq!(bytes, [9, 0, 0, 9]);
    // In place of an attach, of another segment and of the same.
    let other = t.segment(2 * PAGE);
    assert_eq!(t.shmat_at(other, middle, SHM_REMAP), Ok(middle));
    assert_eq!((t.attaches(id), t.attaches(other)), (0, 1));
    assert_eq!(
        t.shmat_at(other, middle.wrapping_add(9), SHM_REMAP | SHM_RND),
        Ok(middle)
    );
    assert_eq!(t.attaches(other), 1);
    t.shmdt(middle).expect("shmdt");
    assert_eq!(t.shmdt(middle), Err(Errno::INVAL));
    assert_eq!(t.attaches(other), 0);
    Outcome::Pass
}

fn read_only(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let writable = t.shmat(id, 0).expect("shmat");
    let base = t.shmat(id, SHM_RDONLY).expect("shmat");
    poke(writable, 42);
    assert_eq!(peek(base), 42);
    assert!(writing_faults(base));
    assert!(!writing_faults(writable));
    let more = libc::PROT_READ | libc::PROT_WRITE;
    assert_eq!(protect(base, 1, more), libc::EACCES);
    assert!(writing_faults(base));
    Outcome::Pass
}

fn permission(t: &Target) -> Outcome {
    for (mode, read, write) in [
        (0o400, true, false),
        (0o200, false, false),
        (0o600, true, true),
        (0o000, false, false),
        (0o100, false, false),
        (0o300, false, false),
    ] {
        let id = t.shmget(IPC_PRIVATE, PAGE, mode).expect("shmget");
        child(|| {
            keep_capabilities(&[]);
            let answer = |allowed: bool| if allowed { Ok(()) } else { Err(Errno::ACCESS) };
            let attach = |flags| t.shmat(id, flags).and_then(|base| t.shmdt(base));
            assert_eq!(attach(SHM_RDONLY), answer(read), "{mode:o} reading");
            assert_eq!(attach(0), answer(write), "{mode:o} writing");
        })
        .join();
        t.shm_remove(id).expect("IPC_RMID");
    }
    let id = t.shmget(IPC_PRIVATE, PAGE, 0o604).expect("shmget");
    or_skip!(as_user(61_001, 62_001, &[], || {
        let base = t.shmat(id, SHM_RDONLY).expect("shmat");
        t.shmdt(base).expect("shmdt");
        assert_eq!(t.shmat(id, 0), Err(Errno::ACCESS));
    }));
    Outcome::Pass
}

fn executable(t: &Target) -> Outcome {
    for (mode, flags, allowed) in [
        (0o700, 0, true),
        (0o500, SHM_RDONLY, true),
        (0o600, 0, false),
        (0o400, SHM_RDONLY, false),
        (0o677, 0, false),
        (0o100, SHM_RDONLY, false),
    ] {
        let id = t.shmget(IPC_PRIVATE, PAGE, mode).expect("shmget");
        child(|| {
            keep_capabilities(&[]);
            match t.shmat(id, flags | SHM_EXEC) {
                Ok(base) => {
                    assert!(allowed, "{mode:o} was let in");
                    let permissions = mapping(base).expect("a mapping").permissions;
                    let expected = if flags == 0 { "rwx" } else { "r-x" };
                    assert_eq!(&permissions[..3], expected, "{mode:o}");
                }
                Err(errno) => {
                    assert_eq!(errno, Errno::ACCESS, "{mode:o}");
                    assert!(!allowed, "{mode:o} was refused");
                }
            }
        })
        .join();
        t.shm_remove(id).expect("IPC_RMID");
    }
    let id = t.shmget(IPC_PRIVATE, PAGE, 0o700).expect("shmget");
    let base = t.shmat(id, SHM_EXEC).expect("shmat");
    // mov eax, 42; ret
    for (offset, byte) in [0xb8, 42, 0, 0, 0, 0xc3].into_iter().enumerate() {
        poke(base.wrapping_add(offset), byte);
    }
    // SAFETY: the bytes at `base` are a function of this type, in executable memory.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(base) };
    assert_eq!(function(), 42);
    // Without the flag the same bytes are no code.
    let data = t.shmat(id, 0).expect("shmat");
    let runner = child(|| {
        // SAFETY: running it is what has to end the process.
        let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(data) };
        function();
    });
    assert_eq!(runner.join_status().signal(), Some(libc::SIGSEGV));
    Outcome::Pass
}

fn many_attaches(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let mut bases = Vec::new();
    for round in 0..100 {
        let flags = if round % 2 == 0 { 0 } else { SHM_RDONLY };
        let base = t.shmat(id, flags).expect("shmat");
        assert!(!bases.contains(&base));
        bases.push(base);
        assert_eq!(t.attaches(id), bases.len() as u64);
    }
    poke(bases[98], 3);
    assert!(bases.iter().all(|&base| peek(base) == 3));
    for (gone, base) in bases.iter().enumerate() {
        t.shmdt(*base).expect("shmdt");
        assert_eq!(t.attaches(id), 99 - gone as u64);
    }
    Outcome::Pass
}

fn success(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let first = t.shmat(id, 0).expect("shmat");
    t.shmdt(first).expect("shmdt");
    let created = t.shm_stat(id).expect("IPC_STAT");
    wait_past(created.shm_dtime);
    let pid = shared_words(1);
    let attached = Gate::new();
    let holder = child(|| {
        t.shmat(id, 0).expect("shmat");
        pid[0].store(i64::from(std::process::id()), Relaxed);
        attached.open();
        loop {
            std::thread::park();
        }
    });
    let before = now();
    attached.wait();
    let after = now();
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!(status.shm_nattch, 1);
    assert!(
        (created.shm_dtime + 1..=after).contains(&status.shm_atime),
        "{before} {status:?}"
    );
    assert_eq!(status.shm_lpid, holder.pid());
    assert_eq!(pid[0].load(Relaxed), i64::from(holder.pid()));
    assert_eq!(status.shm_dtime, created.shm_dtime);
    assert_eq!(
        (status.shm_ctime, status.shm_cpid),
        (created.shm_ctime, created.shm_cpid)
    );
    let base = t.shmat(id, SHM_RDONLY).expect("shmat");
    let status = t.shm_stat(id).expect("IPC_STAT");
    assert_eq!(
        (status.shm_nattch, status.shm_lpid),
        (2, std::process::id() as i32)
    );
    t.shmdt(base).expect("shmdt");
    Outcome::Pass
}

fn unknown_id(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    for unknown in [id + 1, id + IPCMNI, i32::MAX, -1] {
        assert_eq!(t.shmat(unknown, 0), Err(Errno::INVAL), "{unknown}");
        assert_eq!(t.shmat(unknown, SHM_RDONLY), Err(Errno::INVAL), "{unknown}");
        if t.uses_errno {
            // SAFETY: no segment, so nothing is mapped.
            let answer = unsafe { libc::shmat(unknown, ptr::null(), 0) };
            assert_eq!(answer as isize, -1, "{unknown}");
        }
    }
    Outcome::Pass
}

fn marked(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    poke(base, 4);
    t.shm_remove(id).expect("IPC_RMID");
    let second = t.shmat(id, SHM_RDONLY).expect("shmat");
    assert_eq!(peek(second), 4);
    child(|| {
        let third = t.shmat(id, 0).expect("shmat");
        assert_eq!(peek(third), 4);
    })
    .join();
    t.shmdt(base).expect("shmdt");
    let fourth = t.shmat(id, 0).expect("shmat");
    assert_eq!(peek(fourth), 4);
    t.wait_attaches(id, 2);
    Outcome::Pass
}

fn destroyed(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    t.shm_remove(id).expect("IPC_RMID");
    assert_eq!(t.shmat(id, 0), Err(Errno::INVAL));
    let id = t.segment(PAGE);
    let base = t.shmat(id, 0).expect("shmat");
    t.shm_remove(id).expect("IPC_RMID");
    t.shmdt(base).expect("shmdt");
    assert_eq!(t.shmat(id, 0), Err(Errno::INVAL));
    Outcome::Pass
}

fn whole_pages(t: &Target) -> Outcome {
    for (size, pages) in [(1, 1), (PAGE, 1), (PAGE + 1, 2), (10 * PAGE, 10)] {
        let id = t.segment(size);
        let free = free_range(pages);
        let base = t.shmat_at(id, free, 0).expect("shmat");
        let mapped = mapping(base).expect("a mapping");
        assert_eq!(
            (mapped.start, mapped.end),
            (base as usize, base as usize + pages * PAGE)
        );
        poke(base.wrapping_add(pages * PAGE - 1), 1);
        assert!(reading_faults(base.wrapping_add(pages * PAGE)), "{size}");
        assert!(reading_faults(base.wrapping_sub(1)), "{size}");
        // What was written behind the end of the segment is in its last page for everyone.
        let second = t.shmat(id, 0).expect("shmat");
        assert_eq!(peek(second.wrapping_add(pages * PAGE - 1)), 1, "{size}");
        t.shmdt(second).expect("shmdt");
        t.shmdt(base).expect("shmdt");
        t.shm_remove(id).expect("IPC_RMID");
    }
    Outcome::Pass
}

fn same_bytes(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, 3 * PAGE, IPC_CREAT | 0o600).expect("shmget");
    let bases = [
        t.shmat(id, 0).expect("shmat"),
        t.shmat(id, SHM_RDONLY).expect("shmat"),
    ];
    let (there, back) = (Gate::new(), Gate::new());
    let peer = child(|| {
        let own = t
            .shmat(t.shmget(key, 0, 0).expect("shmget"), 0)
            .expect("shmat");
        for offset in [0, PAGE, 3 * PAGE - 1] {
            poke(own.wrapping_add(offset), 17);
            there.open();
            back.wait();
            assert_eq!(peek(own.wrapping_add(offset)), 18);
            assert_eq!(peek(bases[1].wrapping_add(offset)), 18, "inherited");
        }
    });
    for offset in [0, PAGE, 3 * PAGE - 1] {
        there.wait();
        for base in bases {
            assert_eq!(peek(base.wrapping_add(offset)), 17);
        }
        poke(bases[0].wrapping_add(offset), 18);
        back.open();
    }
    peer.join();
    t.shm_remove(id).expect("IPC_RMID");
    Outcome::Pass
}

fn program_break(t: &Target) -> Outcome {
    // SAFETY: asks without changing.
    let end = || unsafe { libc::sbrk(0) };
    let id = t.segment(100 * PAGE);
    let before = end();
    let bases: Vec<*mut u8> = (0..10).filter_map(|_| t.shmat(id, 0).ok()).collect();
    let attached = end();
    let count = bases.len();
    for base in bases {
        t.shmdt(base).expect("shmdt");
    }
    assert_eq!(count, 10);
    assert_eq!((before, before), (attached, end()));
    Outcome::Pass
}

fn unknown_flags(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    for flag in [
        0o1,
        0o777,
        IPC_CREAT,
        IPC_EXCL,
        IPC_NOWAIT,
        1 << 16,
        1 << 30,
        i32::MIN,
    ] {
        let base = t.shmat(id, flag).expect("shmat");
        assert_eq!(
            &mapping(base).expect("a mapping").permissions[..3],
            "rw-",
            "{flag:#o}"
        );
        t.shmdt(base).expect("shmdt");
    }
    Outcome::Pass
}

fn page_rules(t: &Target) -> Outcome {
    // x86-64 is the only architecture this suite is built for: SHMLBA is a page there.
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }, PAGE as i64);
    let id = t.segment(PAGE);
    let free = free_range(8);
    for page in [3, 0, 5, 6, 1] {
        let address = free.wrapping_add(page * PAGE);
        assert_eq!(
            t.shmat_at(id, address.wrapping_add(PAGE - 1), SHM_RND),
            Ok(address),
            "{page}"
        );
    }
    assert_eq!(t.attaches(id), 5);
    Outcome::Pass
}

fn address_space_limit(t: &Target) -> Outcome {
    let id = t.segment(64 << 20);
    child(|| {
        let used: usize = mappings()
            .iter()
            .filter(|mapping| mapping.path != "[vsyscall]")
            .map(|mapping| mapping.end - mapping.start)
            .sum();
        let limit = (used + (80 << 20)) as u64;
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: `limit` is valid for reading.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let base = t.shmat(id, 0).expect("one fits");
        assert_eq!(t.shmat(id, 0), Err(Errno::NOMEM));
        assert_eq!(t.shmat(id, SHM_RDONLY), Err(Errno::NOMEM));
        assert_eq!(t.attaches(id), 1, "the refused ones leave no count");
        t.shmdt(base).expect("shmdt");
        t.shmat(id, 0).expect("one fits again");
    })
    .join();
    t.wait_attaches(id, 0);
    Outcome::Pass
}

fn process_map(t: &Target) -> Outcome {
    or_skip!(t.needs_more_than_a_library());
    for key in [IPC_PRIVATE, t.key(), t.key() | i32::MIN] {
        let id = t.shmget(key, PAGE, IPC_CREAT | 0o600).expect("shmget");
        for flags in [0, SHM_RDONLY] {
            let base = t.shmat(id, flags).expect("shmat");
            let mapped = mapping(base).expect("a mapping");
            assert_eq!(mapped.path, format!("/SYSV{key:08x} (deleted)"));
            assert_eq!(mapped.inode, id as u64);
            t.shmdt(base).expect("shmdt");
        }
        t.shm_remove(id).expect("IPC_RMID");
    }
    Outcome::Pass
}
