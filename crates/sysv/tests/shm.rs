//! Segments: making, finding, looking at, changing, removing.

mod harness;

use harness::*;
use std::time::SystemTime;
use sysv::shm::{self, Options};
use sysv::{Change, Errno, HugePages, Kernel, Key, Segment};

#[test]
fn a_key_finds_what_was_made_with_it() {
    let (key, made) = keyed(|key| Segment::create(key, 5000, mode(0o640)));
    assert_eq!(Segment::open(key), Ok(made.0));
    assert_eq!(Segment::open_or_create(key, 5000, mode(0o600)), Ok(made.0));
    assert_eq!(Segment::create(key, 5000, mode(0o600)), Err(Errno::EXIST));
    assert_eq!(Options::new(5001).open(key), Err(Errno::INVAL));
    assert_eq!(Options::new(5000).open(key), Ok(made.0));
    made.remove().expect("IPC_RMID");
    assert_eq!(Segment::open(key), Err(Errno::NOENT));
    let made = Guard(Segment::open_or_create(key, 1, mode(0o600)).expect("made again"));
    assert_eq!(made.status().expect("IPC_STAT").size, 1);
}

#[test]
fn the_private_key_finds_nothing_and_makes_nothing() {
    let spy = Spy::default();
    assert_eq!(
        Segment::open_in(&spy, Key::PRIVATE).err(),
        Some(Errno::NOENT)
    );
    let options = Options::new(1);
    assert_eq!(
        options.open_in(&spy, Key::PRIVATE).err(),
        Some(Errno::NOENT)
    );
    assert_eq!(spy.calls.into_inner(), 0);
}

#[test]
fn size_zero_and_sizes_beyond_the_limit_are_refused() {
    for size in [0, usize::MAX] {
        assert_eq!(
            Segment::create(Key::PRIVATE, size, mode(0o600)),
            Err(Errno::INVAL)
        );
    }
}

#[test]
fn status_has_every_field() {
    let now = || {
        let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        i64::try_from(since.as_secs()).expect("seconds")
    };
    let before = now();
    let (key, made) = keyed(|key| Segment::create(key, 5000, mode(0o640)));
    let status = made.status().expect("IPC_STAT");
    let (pid, after) = (std::process::id().cast_signed(), now());
    assert_eq!(status.id, made.id());
    assert_eq!(status.perm.key, key);
    assert_eq!(status.perm.mode, mode(0o640));
    assert_eq!(status.perm.uid, status.perm.cuid);
    assert_eq!(status.perm.gid, status.perm.cgid);
    assert_eq!(i32::from(status.perm.sequence), made.id() / 32768);
    assert_eq!(status.size, 5000);
    assert_eq!((status.creator_pid, status.last_pid), (pid, 0));
    assert_eq!(status.attaches, 0);
    assert_eq!((status.attached, status.detached), (0, 0));
    assert!((before - 1..=after).contains(&status.changed), "{status:?}");
    assert!(!status.marked && !status.locked);

    let attach = made.attach().expect("shmat");
    let status = made.status().expect("IPC_STAT");
    assert_eq!((status.attaches, status.last_pid), (1, pid));
    assert!(status.attached >= before - 1);
    made.remove().expect("IPC_RMID");
    let status = made.status().expect("still attached");
    assert!(status.marked);
    assert_eq!(status.perm.key, Key::PRIVATE);
    attach.detach().expect("shmdt");
    assert_eq!(made.status(), Err(Errno::INVAL));
}

#[test]
fn the_three_ways_to_ask_agree() {
    let made = segment(100, 0o604);
    let status = made.status().expect("IPC_STAT");
    assert_eq!(made.status_any(), Ok(status));
    let index = made.id() % sysv::abi::IPCMNI;
    assert_eq!(shm::at_index(Kernel, index), Ok(status));
    assert_eq!(shm::at_index_any(Kernel, index), Ok(status));
}

#[test]
fn an_id_of_another_time_finds_nothing() {
    let made = segment(1, 0o600);
    let other = made.id() ^ sysv::abi::IPCMNI;
    assert_eq!(Segment::from_id(other).status_any(), Err(Errno::INVAL));
    assert_eq!(Segment::from_id(other).status(), Err(Errno::INVAL));
    for negative in [-1, i32::MIN, made.id() - i32::MAX] {
        let segment = Segment::from_id(negative);
        assert_eq!(segment.status_any(), Err(Errno::INVAL));
        assert_eq!(segment.remove(), Err(Errno::INVAL));
    }
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let made = segment(1, 0o640);
    let before = made.status().expect("IPC_STAT");
    let change = Change {
        mode: Some(mode(0)),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    let now = made.status_any().expect("SHM_STAT_ANY");
    assert_eq!(now.perm.mode, mode(0));
    assert_eq!(
        (now.perm.uid, now.perm.gid),
        (before.perm.uid, before.perm.gid)
    );

    // An owner without read permission can change it still.
    let change = Change {
        mode: Some(mode(0o604)),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    assert_eq!(made.status().expect("IPC_STAT").perm.mode, mode(0o604));
    let nobody = Change {
        gid: Some(u32::MAX),
        ..Change::default()
    };
    assert_eq!(made.set(&nobody), Err(Errno::INVAL));
}

#[test]
fn owner_and_creator_may_differ() {
    if !is_root() {
        return eprintln!("skipped: only root can give an object away");
    }
    let made = segment(1, 0o600);
    let change = Change {
        uid: Some(OTHER),
        gid: Some(OTHER),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    let perm = made.status().expect("IPC_STAT").perm;
    assert_eq!((perm.uid, perm.gid, perm.cuid), (OTHER, OTHER, 0));
    as_other_user(|| made.attach().map(drop).expect("its owner"));
}

#[test]
fn others_may_what_the_mode_says() {
    let made = segment(1, 0o604);
    let closed = segment(1, 0o600);
    as_other_user(|| {
        assert_eq!(made.attach().err(), Some(Errno::ACCESS));
        made.attach_read_only().expect("read permission");
        made.status().expect("read permission");
        assert_eq!(made.set(&Change::default()), Err(Errno::PERM));
        assert_eq!(made.remove(), Err(Errno::PERM));
        assert_eq!(made.lock(), Err(Errno::PERM));
        assert_eq!(closed.attach_read_only().err(), Some(Errno::ACCESS));
        assert_eq!(closed.status(), Err(Errno::ACCESS));
        let index = closed.id() % sysv::abi::IPCMNI;
        assert_eq!(shm::at_index(Kernel, index), Err(Errno::ACCESS));
        let status = closed.status_any().expect("whatever the mode");
        assert_eq!((status.id, status.perm.mode), (closed.id(), mode(0o600)));
        assert!(shm::list(Kernel).expect("list").contains(&status));
    });
}

#[test]
fn opening_with_a_mode_asks_for_it() {
    let (key, made) = keyed(|key| Segment::create(key, 1, mode(0o600)));
    as_other_user(|| {
        assert_eq!(Segment::open(key), Ok(made.0));
        let options = Options::new(1).mode(mode(0o666));
        assert_eq!(options.open(key), Err(Errno::ACCESS));
        assert_eq!(options.open_or_create(key), Err(Errno::ACCESS));
    });
}

#[test]
fn locking_shows() {
    let made = segment(4096, 0o600);
    match made.lock() {
        Err(error @ (Errno::PERM | Errno::NOMEM)) => {
            return eprintln!("skipped: may not lock memory: {error}");
        }
        answer => answer.expect("SHM_LOCK"),
    }
    assert!(made.status().expect("IPC_STAT").locked);
    made.unlock().expect("SHM_UNLOCK");
    assert!(!made.status().expect("IPC_STAT").locked);
}

#[test]
fn huge_pages_of_a_size_that_no_machine_has() {
    let pages = HugePages::of_size(1 << 40).expect("a power of two");
    let options = Options::new(1).huge_pages(pages);
    assert_eq!(options.create(Key::PRIVATE), Err(Errno::INVAL));
}

#[test]
fn huge_pages() {
    for pages in [HugePages::DEFAULT, HugePages::MIB_2] {
        match Options::new(1).huge_pages(pages).create(Key::PRIVATE) {
            Err(error @ (Errno::PERM | Errno::NOMEM | Errno::INVAL)) => {
                eprintln!("skipped: {pages:?}: {error}");
            }
            answer => {
                let made = Guard(answer.expect("shmget"));
                let attach = made.attach().expect("shmat");
                assert_eq!(attach.len(), 1);
                assert_eq!(attach.as_ptr().addr() % (2 << 20), 0);
            }
        }
    }
}

#[test]
fn no_reserve_leaves_no_trace_in_the_mode() {
    let options = Options::new(1).mode(mode(0o640)).no_reserve(true);
    let made = Guard(options.create(Key::PRIVATE).expect("shmget"));
    assert_eq!(made.status().expect("IPC_STAT").perm.mode, mode(0o640));
}

#[test]
fn limits_and_usage() {
    let made = segment(4097, 0o600);
    let limits = shm::limits(Kernel).expect("IPC_INFO");
    assert_eq!(limits.shmmin, 1);
    let usage = shm::usage(Kernel).expect("SHM_INFO");
    assert!(usage.segments >= 1 && usage.segments <= limits.shmmni);
    assert!(usage.pages >= 2);
    assert!(usage.highest_index >= made.id() % sysv::abi::IPCMNI);
}

#[test]
fn other_calls_than_the_kernels() {
    let spy = Spy::default();
    let calls: &dyn sysv::Calls = &spy;
    let made = Options::new(8)
        .create_in(calls, Key::PRIVATE)
        .expect("shmget");
    let _guard = Guard(Segment::from_id(made.id()));
    assert_eq!(made.attach().expect("shmat").len(), 8);
    assert_eq!(made.status().expect("IPC_STAT").size, 8);
    assert_eq!(shm::list(calls).map(|all| all.is_empty()), Ok(false));
    assert!(spy.calls.into_inner() >= 5);
}
