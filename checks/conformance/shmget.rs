//! SG: `shmget`.

use crate::caller::{has_capability, in_first_user_name_space};
use crate::harness::{Outcome, PAGE, Statement, Target, now, statement};
use crate::kinds::{set_sysctl, sysctl};
use crate::memory::{mapping, peek};
use crate::or_skip;
use crate::process::{CAP_IPC_LOCK, as_user, child, keep_capabilities};
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("SG-1", create),
    statement("SG-2", size_as_asked),
    statement("SG-3", lookup_with_smaller_size),
    statement("SG-4", lookup_with_larger_size),
    statement("SG-5", size_out_of_range),
    statement("SG-6", exclusive),
    statement("SG-7", absent),
    statement("SG-8", exclusive_alone),
    statement("SG-9", initial_state),
    statement("SG-10", zero_bytes),
    statement("SG-11", huge_pages),
    statement("SG-12", no_reserve),
    statement("SG-13", size_before_permission),
    statement("SG-14", exhausted),
    statement("SG-15", unknown_flags),
];

fn create(t: &Target) -> Outcome {
    let key = t.key();
    assert_eq!(t.shmget(key, 1, 0), Err(Errno::NOENT));
    let id = t.shmget(key, 100, IPC_CREAT | 0o600).expect("shmget");
    assert_eq!(t.shm_stat(id).expect("IPC_STAT").shm_segsz, 100);
    let private = t.shmget(IPC_PRIVATE, 200, 0o600).expect("shmget");
    assert_ne!(id, private);
    assert_eq!(t.shm_stat(private).expect("IPC_STAT").shm_segsz, 200);
    Outcome::Pass
}

fn size_as_asked(t: &Target) -> Outcome {
    for (size, pages) in [
        (1, 1),
        (PAGE - 1, 1),
        (PAGE, 1),
        (PAGE + 1, 2),
        (5 * PAGE - 7, 5),
    ] {
        let id = t.segment(size);
        assert_eq!(t.shm_stat(id).expect("IPC_STAT").shm_segsz, size as u64);
        let base = t.shmat(id, 0).expect("shmat");
        let mapped = mapping(base).expect("a mapping");
        assert_eq!(mapped.end - base as usize, pages * PAGE, "{size}");
        assert_eq!(peek(base.wrapping_add(pages * PAGE - 1)), 0, "{size}");
        t.shmdt(base).expect("shmdt");
        t.shm_remove(id).expect("IPC_RMID");
    }
    Outcome::Pass
}

fn lookup_with_smaller_size(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, 5000, IPC_CREAT | 0o600).expect("shmget");
    for size in [0, 1, PAGE, 4999, 5000] {
        for flags in [0, 0o600, IPC_CREAT | 0o600] {
            assert_eq!(t.shmget(key, size, flags), Ok(id), "{size} {flags:o}");
        }
    }
    assert_eq!(t.shm_stat(id).expect("IPC_STAT").shm_segsz, 5000);
    Outcome::Pass
}

fn lookup_with_larger_size(t: &Target) -> Outcome {
    let key = t.key();
    t.shmget(key, 5000, IPC_CREAT | 0o600).expect("shmget");
    for size in [5001, 2 * PAGE, 2 * PAGE + 1, usize::MAX] {
        for flags in [0, IPC_CREAT | 0o600] {
            assert_eq!(
                t.shmget(key, size, flags),
                Err(Errno::INVAL),
                "{size} {flags:o}"
            );
        }
    }
    Outcome::Pass
}

fn size_out_of_range(t: &Target) -> Outcome {
    let mut limits = shminfo::default();
    t.shmctl_with(0, IPC_INFO, &mut limits).expect("IPC_INFO");
    let key = t.key();
    for size in [0, limits.shmmax as usize + 1, usize::MAX] {
        assert_eq!(
            t.shmget(key, size, IPC_CREAT | 0o600),
            Err(Errno::INVAL),
            "{size}"
        );
        assert_eq!(
            t.shmget(IPC_PRIVATE, size, 0o600),
            Err(Errno::INVAL),
            "{size}"
        );
    }
    assert_eq!(t.shmget(key, 0, 0), Err(Errno::NOENT), "nothing was made");
    or_skip!(set_sysctl(t, "shmmax", "10000"));
    assert_eq!(t.shmget(key, 10001, IPC_CREAT | 0o600), Err(Errno::INVAL));
    t.shmget(key, 10000, IPC_CREAT | 0o600).expect("shmget");
    Outcome::Pass
}

fn exclusive(t: &Target) -> Outcome {
    let key = t.key();
    let flags = IPC_CREAT | IPC_EXCL | 0o600;
    let id = t.shmget(key, PAGE, flags).expect("shmget");
    for size in [PAGE, 0, 2 * PAGE, usize::MAX] {
        assert_eq!(t.shmget(key, size, flags), Err(Errno::EXIST), "{size}");
    }
    assert_eq!(t.shmget(key, PAGE, IPC_CREAT | 0o600), Ok(id));
    Outcome::Pass
}

fn absent(t: &Target) -> Outcome {
    for size in [0, 1, PAGE, usize::MAX] {
        for flags in [0, 0o600, 0o777] {
            assert_eq!(
                t.shmget(t.key(), size, flags),
                Err(Errno::NOENT),
                "{size} {flags:o}"
            );
        }
    }
    Outcome::Pass
}

fn exclusive_alone(t: &Target) -> Outcome {
    let key = t.key();
    assert_eq!(t.shmget(key, PAGE, IPC_EXCL | 0o600), Err(Errno::NOENT));
    let id = t.shmget(key, PAGE, IPC_CREAT | 0o600).expect("shmget");
    assert_eq!(t.shmget(key, PAGE, IPC_EXCL), Ok(id));
    assert_eq!(t.shmget(key, PAGE, IPC_EXCL | 0o600), Ok(id));
    Outcome::Pass
}

fn check_initial_state(t: &Target, uid: u32, gid: u32) {
    for mode in [0o000, 0o600, 0o421, 0o777] {
        let key = t.key();
        let before = now();
        let id = t.shmget(key, 4321, IPC_CREAT | mode).expect("shmget");
        let after = now();
        // The owner reads its own, whatever the mode.
        let index = id % IPCMNI;
        let mut status = shmid_ds::default();
        assert_eq!(t.shmctl_with(index, SHM_STAT_ANY, &mut status), Ok(id));
        let perm = status.shm_perm;
        assert_eq!(
            (perm.uid, perm.cuid, perm.gid, perm.cgid),
            (uid, uid, gid, gid)
        );
        assert_eq!((perm.__key, perm.mode), (key, mode as u32));
        assert_eq!(status.shm_segsz, 4321);
        assert_eq!((status.shm_lpid, status.shm_nattch), (0, 0));
        assert_eq!((status.shm_atime, status.shm_dtime), (0, 0));
        assert!((before..=after).contains(&status.shm_ctime), "shm_ctime");
        assert_eq!(status.shm_cpid, std::process::id() as i32);
        t.shm_remove(id).expect("IPC_RMID");
    }
}

fn initial_state(t: &Target) -> Outcome {
    // SAFETY: no arguments.
    let (uid, gid) = (unsafe { libc::geteuid() }, unsafe { libc::getegid() });
    check_initial_state(t, uid, gid);
    or_skip!(as_user(61_001, 62_001, &[62_002], || check_initial_state(
        t, 61_001, 62_001
    )));
    // The effective user and group, not the real ones.
    child(|| {
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::setresgid(62_001, 62_002, 62_003) }, 0);
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::setresuid(61_001, 61_002, 61_003) }, 0);
        check_initial_state(t, 61_002, 62_002);
    })
    .join();
    Outcome::Pass
}

fn zero_bytes(t: &Target) -> Outcome {
    // What a removed segment held does not come back.
    for round in 0..3 {
        let id = t.segment(64 * PAGE);
        let base = t.shmat(id, 0).expect("shmat");
        for offset in 0..64 * PAGE {
            assert_eq!(
                peek(base.wrapping_add(offset)),
                0,
                "round {round}, offset {offset}"
            );
            crate::memory::poke(base.wrapping_add(offset), 0xff);
        }
        t.shmdt(base).expect("shmdt");
        t.shm_remove(id).expect("IPC_RMID");
    }
    Outcome::Pass
}

/// A number in a file under `/proc/sys/vm`.
fn vm(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/vm/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn huge_pages(t: &Target) -> Outcome {
    let Some(pool) = vm("nr_hugepages") else {
        return Outcome::Skip("the kernel has no huge pages");
    };
    let size = 2 << 20;
    let get = |flags: i32| t.shmget(IPC_PRIVATE, size, SHM_HUGETLB | flags | 0o600);
    // 1 MiB and 16 KiB pages are none of x86-64's.
    for log2 in [20, 14] {
        assert_eq!(get(log2 << SHM_HUGE_SHIFT), Err(Errno::INVAL), "2^{log2}");
    }
    let group = vm("hugetlb_shm_group").expect("hugetlb_shm_group") as u32;
    let other_group = group + 62_001;
    or_skip!(as_user(61_001, other_group, &[], || {
        // What may be locked in memory may also be in huge pages, on some kernels.
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `none` is valid for reading.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &none) }, 0);
        assert_eq!(get(0), Err(Errno::PERM));
    }));
    let check = || {
        if pool == 0 && vm("nr_overcommit_hugepages") == Some(0) {
            assert_eq!(get(0), Err(Errno::NOMEM));
        } else {
            match get(0) {
                Ok(id) => t.shm_remove(id).expect("IPC_RMID"),
                Err(errno) => assert_eq!(errno, Errno::NOMEM),
            }
        }
    };
    if !in_first_user_name_space() {
        return Outcome::Skip("huge pages belong to the first user name space");
    }
    // With the capability, and with the group alone.
    if has_capability(CAP_IPC_LOCK) {
        check();
    }
    or_skip!(as_user(61_001, group, &[], check));
    or_skip!(as_user(61_001, other_group, &[group], check));
    Outcome::Pass
}

fn no_reserve(t: &Target) -> Outcome {
    let id = t
        .shmget(IPC_PRIVATE, PAGE, SHM_NORESERVE | 0o640)
        .expect("shmget");
    assert_eq!(t.shm_stat(id).expect("IPC_STAT").shm_perm.mode, 0o640);
    let base = t.shmat(id, 0).expect("shmat");
    assert_eq!(peek(base), 0);
    Outcome::Pass
}

fn size_before_permission(t: &Target) -> Outcome {
    let key = t.key();
    t.shmget(key, PAGE, IPC_CREAT).expect("shmget");
    child(|| {
        keep_capabilities(&[]);
        assert_eq!(t.shmget(key, PAGE, 0o600), Err(Errno::ACCESS));
        assert_eq!(t.shmget(key, PAGE + 1, 0o600), Err(Errno::INVAL));
        assert_eq!(
            t.shmget(key, PAGE + 1, IPC_CREAT | 0o600),
            Err(Errno::INVAL)
        );
    })
    .join();
    Outcome::Pass
}

fn exhausted(t: &Target) -> Outcome {
    // ENFILE would take every open file of the machine.
    if t.is_kernel && vm("overcommit_memory") != Some(1) {
        let more_than_there_is = 1 << 46;
        assert_eq!(
            t.shmget(IPC_PRIVATE, more_than_there_is, 0o600),
            Err(Errno::NOMEM)
        );
    }
    or_skip!(set_sysctl(t, "shmmni", "1"));
    t.segment(PAGE);
    assert_eq!(t.shmget(IPC_PRIVATE, PAGE, 0o600), Err(Errno::NOSPC));
    assert_eq!(sysctl(t, "shmmni").as_deref(), Ok("1"));
    or_skip!(set_sysctl(t, "shmmni", "4096"));
    or_skip!(set_sysctl(t, "shmall", "3"));
    assert_eq!(t.shmget(IPC_PRIVATE, 3 * PAGE, 0o600), Err(Errno::NOSPC));
    t.segment(2 * PAGE);
    Outcome::Pass
}

fn unknown_flags(t: &Target) -> Outcome {
    let key = t.key();
    for flag in [
        0o20000,
        0o40000,
        0o100_000,
        1 << 20,
        1 << 25,
        21 << SHM_HUGE_SHIFT,
        i32::MIN,
    ] {
        let id = t
            .shmget(key, PAGE, flag | IPC_CREAT | IPC_EXCL | 0o640)
            .expect("shmget");
        assert_eq!(
            t.shm_stat(id).expect("IPC_STAT").shm_perm.mode,
            0o640,
            "{flag:#o}"
        );
        assert_eq!(t.shmget(key, PAGE, flag), Ok(id), "{flag:#o}");
        t.shm_remove(id).expect("IPC_RMID");
    }
    Outcome::Pass
}
