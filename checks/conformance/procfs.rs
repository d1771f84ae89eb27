//! PR: the files under `/proc/sysvipc`.

use crate::harness::{Outcome, PAGE, Statement, Target, statement};
use crate::memory::poke;
use crate::or_skip;
use crate::process::{as_user, child, keep_capabilities};
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("PR-1", shm),
    statement("PR-2", msg),
    statement("PR-3", sem),
    statement("PR-4", for_everyone),
];

/// The header's words, and those of each line.
fn table(name: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let path = format!("/proc/sysvipc/{name}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect();
    let mut lines = text.lines().map(words);
    (lines.next().expect("a header"), lines.collect())
}

/// The only line with this id.
#[track_caller]
fn line(name: &str, id: i32) -> Vec<String> {
    let (header, lines) = table(name);
    assert!(
        lines.iter().all(|line| line.len() == header.len()),
        "{name}: {lines:?}"
    );
    let id = id.to_string();
    let mut found: Vec<_> = lines.into_iter().filter(|line| line[1] == id).collect();
    assert_eq!(found.len(), 1, "lines with id {id}");
    found.remove(0)
}

fn header(name: &str) -> String {
    table(name).0.join(" ")
}

fn owners(perm: &ipc_perm) -> [String; 4] {
    [perm.uid, perm.gid, perm.cuid, perm.cgid].map(|number| number.to_string())
}

fn shm(t: &Target) -> Outcome {
    or_skip!(t.needs_files());
    let expected = "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss \
                    swap";
    assert_eq!(header("shm"), expected);
    let key = t.key();
    let id = t
        .shmget(key, 5 * PAGE - 3, IPC_CREAT | 0o640)
        .expect("shmget");
    let base = t.shmat(id, 0).expect("shmat");
    t.shmat(id, SHM_RDONLY).expect("shmat");
    poke(base, 1);
    poke(base.wrapping_add(3 * PAGE), 1);
    // The last one to attach and detach is not the creator.
    child(|| ()).join();
    t.wait_attaches(id, 2);
    let check = |key: key_t, perms: &str| {
        let status = t.shm_stat(id).expect("IPC_STAT");
        let line = line("shm", id);
        assert_eq!(line[0], key.to_string());
        assert_eq!(line[2], perms);
        assert_eq!(line[3], (5 * PAGE - 3).to_string());
        assert_eq!(line[4], std::process::id().to_string());
        assert_eq!(line[5], status.shm_lpid.to_string());
        assert_ne!(status.shm_lpid, status.shm_cpid);
        assert_eq!(line[6], "2");
        assert_eq!(line[7..11], owners(&status.shm_perm));
        let times = [status.shm_atime, status.shm_dtime, status.shm_ctime];
        assert_eq!(line[11..14], times.map(|time| time.to_string()));
        assert!(times.iter().all(|&time| time > 0));
        let held: u64 = line[14..]
            .iter()
            .map(|bytes| bytes.parse::<u64>().expect("bytes"))
            .sum();
        assert_eq!(held, 2 * PAGE as u64, "rss and swap together");
    };
    check(key, "640");
    t.shmctl(id, SHM_LOCK).expect("SHM_LOCK");
    check(key, "2640");
    t.shmctl(id, SHM_UNLOCK).expect("SHM_UNLOCK");
    t.shm_remove(id).expect("IPC_RMID");
    check(0, "1640");
    t.shmdt(base).expect("shmdt");
    Outcome::Pass
}

fn msg(t: &Target) -> Outcome {
    or_skip!(t.needs_files());
    let expected = "key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime";
    assert_eq!(header("msg"), expected);
    let key = t.key();
    let id = t.msgget(key, IPC_CREAT | 0o642).expect("msgget");
    for text in [b"one".as_slice(), b"three", b"seventeen"] {
        t.msgsnd(id, 1, text, 0).expect("msgsnd");
    }
    let receiver = child(|| drop(t.msgrcv(id, 10, 0, 0).expect("msgrcv")));
    let pid = receiver.pid();
    receiver.join();
    let status = t.msg_stat(id).expect("IPC_STAT");
    let line = line("msg", id);
    assert_eq!(line[0], key.to_string());
    assert_eq!(line[2..5], ["642", "14", "2"]);
    assert_eq!(
        line[5..7],
        [std::process::id().to_string(), pid.to_string()]
    );
    assert_eq!(line[7..11], owners(&status.msg_perm));
    let times = [status.msg_stime, status.msg_rtime, status.msg_ctime];
    assert_eq!(line[11..], times.map(|time| time.to_string()));
    assert!(times.iter().all(|&time| time > 0));
    t.msg_remove(id).expect("IPC_RMID");
    Outcome::Pass
}

fn sem(t: &Target) -> Outcome {
    or_skip!(t.needs_files());
    assert_eq!(
        header("sem"),
        "key semid perms nsems uid gid cuid cgid otime ctime"
    );
    let key = t.key();
    let id = t.semget(key, 13, IPC_CREAT | 0o624).expect("semget");
    t.semop(id, &[(0, 1, 0)]).expect("semop");
    let status = t.sem_stat(id).expect("IPC_STAT");
    let line = line("sem", id);
    assert_eq!(line[0], key.to_string());
    assert_eq!(line[2..4], ["624", "13"]);
    assert_eq!(line[4..8], owners(&status.sem_perm));
    assert_eq!(
        line[8..],
        [status.sem_otime, status.sem_ctime].map(|time| time.to_string())
    );
    assert!(status.sem_otime > 0 && status.sem_ctime > 0);
    t.sem_remove(id).expect("IPC_RMID");
    Outcome::Pass
}

fn for_everyone(t: &Target) -> Outcome {
    or_skip!(t.needs_files());
    let key = t.key() | i32::MIN;
    assert!(key < 0);
    let id = t.shmget(key, PAGE, IPC_CREAT).expect("shmget");
    let queue = t.msgget(key, IPC_CREAT).expect("msgget");
    let set = t.semget(key, 1, IPC_CREAT).expect("semget");
    let see = || {
        for (name, id) in [("shm", id), ("msg", queue), ("sem", set)] {
            assert_eq!(line(name, id)[0], key.to_string(), "{name}");
        }
    };
    child(|| {
        keep_capabilities(&[]);
        see();
    })
    .join();
    // Elsewhere a name space is nothing that a process leaves.
    if t.own_name_space && t.is_kernel {
        child(|| {
            // SAFETY: takes a number; the process has one thread.
            let left = unsafe { libc::unshare(libc::CLONE_NEWIPC) };
            assert_eq!(left, 0, "unshare: {}", std::io::Error::last_os_error());
            for name in ["shm", "msg", "sem"] {
                assert_eq!(table(name).1.len(), 0, "the reader's name space is empty");
            }
            t.segment(PAGE);
            assert_eq!(table("shm").1.len(), 1);
        })
        .join();
        assert_eq!(table("shm").1.len(), 1);
    }
    or_skip!(as_user(61_001, 62_001, &[], see));
    t.shm_remove(id).expect("IPC_RMID");
    t.msg_remove(queue).expect("IPC_RMID");
    t.sem_remove(set).expect("IPC_RMID");
    Outcome::Pass
}
