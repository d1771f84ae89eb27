//! Who counts as alive.

use crate::operations::KEEP;
use checks::process::{
    BOUND, Child, as_user, can_switch_users, child, exec_and_stay, shared_words, wait_exec,
    wait_until,
};
use checks::suite::{Case, Outcome, case};
use shmem::Region;
use shmem::barrier;
use shmem::presence::{self, Identity};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use sysv::{Errno, Segment};
use tombolo::value::{self, Options, Reader, Writer};

pub const CASES: &[Case] = &[
    case("presence::stopped_and_killed", stopped_and_killed),
    case("presence::exec", exec),
    case("presence::forked", forked),
    case("presence::pid_name_space", pid_name_space),
    case("presence::nobody_attaches", nobody_attaches),
    case("presence::forked_writer", forked_writer),
    case("presence::forked_keeper", forked_keeper),
    case("presence::registered", registered),
];

/// Makes this process's identity and tells it.
fn tell(word: &AtomicI64) {
    let me = presence::mine().expect("presence");
    word.store(me.word() as i64, Ordering::SeqCst);
}

fn told(word: &AtomicI64) -> Identity {
    wait_until(BOUND, || word.load(Ordering::SeqCst) != 0);
    Identity::from_word(word.load(Ordering::SeqCst) as u64).expect("an identity")
}

fn sleep() {
    checks::process::stay();
}

fn is_alive(identity: Identity) -> bool {
    identity.is_alive().expect("a look")
}

/// How long the kernel takes to take a small process apart.
fn dies(identity: Identity) -> Duration {
    let start = Instant::now();
    wait_until(BOUND, || !is_alive(identity));
    start.elapsed()
}

fn stopped_and_killed() -> Outcome {
    let word = &shared_words(1)[0];
    let process = child(|| {
        tell(word);
        sleep();
    });
    let identity = told(word);
    assert!(is_alive(identity));
    assert_eq!(identity.pid(), Some(process.pid()));
    process.signal(libc::SIGSTOP);
    wait_until(BOUND, || {
        checks::process::task_state(process.pid()) == Some('T')
    });
    assert!(is_alive(identity), "a stopped process lives");
    process.signal(libc::SIGKILL);
    process.wait_zombie();
    let took = dies(identity);
    assert!(
        took < Duration::from_millis(200),
        "dead, but not reaped: {took:?}"
    );
    assert_eq!(identity.pid(), None);
    drop(process);
    Outcome::Pass(format!("dead {took:?} after it became a zombie"))
}

fn exec() -> Outcome {
    let word = &shared_words(1)[0];
    let process = child(|| {
        tell(word);
        exec_and_stay();
    });
    let identity = told(word);
    wait_exec(process.pid());
    dies(identity);
    assert!(matches!(
        checks::process::task_state(process.pid()),
        Some('R' | 'S')
    ));
    Outcome::Pass(String::new())
}

fn forked() -> Outcome {
    let words = shared_words(3);
    let parent = child(|| {
        tell(&words[0]);
        let child = child(|| {
            // Not to go with its parent.
            // SAFETY: takes numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            tell(&words[1]);
            wait_until(BOUND, || words[2].load(Ordering::SeqCst) != 0);
        });
        std::mem::forget::<Child>(child);
        sleep();
    });
    let (older, younger) = (told(&words[0]), told(&words[1]));
    assert_ne!(older, younger, "a forked child is somebody else");
    assert!(is_alive(older) && is_alive(younger));
    parent.kill();
    dies(older);
    assert!(is_alive(younger), "it lives on without its parent");
    words[2].store(1, Ordering::SeqCst);
    dies(younger);
    Outcome::Pass(String::new())
}

/// Who has one thread is registered for cheap fences with its identity, who has more only when it is worth it.
fn registered() -> Outcome {
    if !barrier::is_available() {
        return Outcome::Skip("membarrier is refused".into());
    }
    let words = shared_words(2);
    let is_registered = || i64::from(barrier::registered().is_some());
    let tell = |word: &AtomicI64| {
        presence::mine().expect("presence");
        word.store(1 + is_registered(), Ordering::SeqCst);
    };
    assert_eq!(is_registered(), 0, "a child would have it from here");
    child(|| tell(&words[0])).join();
    child(|| {
        std::thread::scope(|scope| {
            scope.spawn(sleep);
            tell(&words[1]);
            // Ends the other thread too.
            std::process::exit(0);
        });
    })
    .join();
    let told = [0, 1].map(|one: usize| words[one].load(Ordering::SeqCst));
    assert_eq!(told, [2, 1], "alone, and with a second thread");
    Outcome::Pass(String::new())
}

fn pid_name_space() -> Outcome {
    let words = shared_words(2);
    let mine = presence::mine().expect("presence");
    let outer = child(|| {
        // SAFETY: takes a number; the process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            words[1].store(-1, Ordering::SeqCst);
            return;
        }
        // The parent is in another name space, where its pid reads as 0.
        // SAFETY: the process has one thread.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            tell(&words[0]);
            sleep();
        }
        // SAFETY: no pointers are used.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    });
    wait_until(BOUND, || {
        words.iter().any(|word| word.load(Ordering::SeqCst) != 0)
    });
    if words[1].load(Ordering::SeqCst) == -1 {
        return Outcome::Skip("no PID name space can be made here".into());
    }
    let inside = told(&words[0]);
    assert!(is_alive(inside), "seen from outside");
    let pid = inside.pid().expect("it lives");
    assert_ne!(pid, 1, "its pid as this name space has it");
    // SAFETY: takes numbers; a grandchild of this process that nobody has reaped.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    dies(inside);
    outer.join();
    // The other direction, with a fresh pair.
    let word = &shared_words(1)[0];
    child(|| {
        // SAFETY: takes a number; the process has one thread.
        unsafe { libc::unshare(libc::CLONE_NEWPID) };
        // SAFETY: the process has one thread.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let answer = 1 + i64::from(is_alive(mine));
            word.store(answer, Ordering::SeqCst);
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: no pointers are used.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    })
    .join();
    assert_eq!(word.load(Ordering::SeqCst), 2, "seen from inside");
    Outcome::Pass(String::new())
}

fn nobody_attaches() -> Outcome {
    let mine = presence::mine().expect("presence");
    let segment = Segment::from_id(mine.id());
    let status = segment.status_any().expect("status");
    assert_eq!(
        (status.perm.mode.bits(), status.marked, status.attaches),
        (0, true, 1)
    );
    if !can_switch_users() {
        return Outcome::Skip("needs root, to switch to other users".into());
    }
    let refused = move || {
        assert_eq!(segment.attach_read_only().err(), Some(Errno::ACCESS));
        assert_eq!(segment.attach().err(), Some(Errno::ACCESS));
        assert_eq!(segment.remove(), Err(Errno::PERM));
    };
    as_user(2, 2, &[], refused).expect("users");
    // Nor another process of the same user.
    let word = &shared_words(1)[0];
    let owner = checks::process::child_as(2, 2, &[], || {
        tell(word);
        sleep();
    });
    let owner = owner.expect("users");
    let segment = Segment::from_id(told(word).id());
    as_user(2, 2, &[], move || {
        assert_eq!(segment.attach_read_only().err(), Some(Errno::ACCESS));
    })
    .expect("users");
    owner.kill();
    Outcome::Pass(String::new())
}

/// A forked child goes on with its parent's writer, as a writer of its own.
fn forked_writer() -> Outcome {
    let name = tombolo::Name::mine("forked").expect("a name");
    let mut writer = Writer::open_or_create(name.clone(), &Options::default()).expect("open");
    assert_eq!(writer.put(b"parent").expect("put"), 1);
    let words = shared_words(2);
    tell(&words[0]);
    let process = child(|| {
        assert_eq!(writer.put(b"child").expect("put"), 2);
        tell(&words[1]);
    });
    process.join();
    assert_ne!(
        words[0].load(Ordering::SeqCst),
        words[1].load(Ordering::SeqCst)
    );
    assert_eq!(writer.put(b"parent again").expect("put"), 3);
    let mut reader = Reader::open(name.clone()).expect("open");
    assert_eq!(
        reader.get().expect("get").expect("a message").bytes,
        b"parent again"
    );
    value::remove(name).expect("remove");
    Outcome::Pass(String::new())
}

/// A child of a writer that keeps the value does not take itself for the keeper, and neither puts nor
/// leaves in its place.
fn forked_keeper() -> Outcome {
    let name = tombolo::Name::mine("forked").expect("a name");
    barrier::register();
    let mut writer = Writer::open_or_create(name.clone(), &Options::default()).expect("open");
    let region = Region::attach(writer.id()).expect("attach");
    let keep = || region.load_u64(KEEP, Ordering::SeqCst);
    for _ in 0..40 {
        writer.put(b"parent").expect("put");
    }
    let mine = keep();
    assert_ne!(mine & 0xffff, 0, "it keeps the value");
    // One that only goes.
    let mut writer = Some(writer);
    child(|| drop(writer.take())).join();
    let mut writer = writer.expect("the parent's");
    assert_eq!(writer.put(b"parent").expect("put"), 41);
    assert_eq!(keep(), mine);
    child(|| {
        assert_eq!(writer.put(b"child").expect("put"), 42);
        assert_eq!(keep() & 0xffff, 0, "it takes the lock");
        for _ in 0..40 {
            writer.put(b"child").expect("put");
        }
        assert_ne!(keep() & 0xffff, mine & 0xffff, "a seat of its own");
    })
    .join();
    assert_eq!(writer.put(b"parent again").expect("put"), 83);
    value::remove(name).expect("remove");
    Outcome::Pass(String::new())
}
