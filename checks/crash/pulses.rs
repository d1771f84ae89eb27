//! The word by which the kernel tells of a death: that it disturbs nobody, and nobody forges it.

use crate::board::{Board, Times, now};
use crate::kill::{Operation, everywhere};
use checks::or_skip;
use checks::process::{BOUND, as_user, can_switch_users, child, child_as, stay, wait_until};
use checks::process::{shared_words, task_state};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::wait::Patience;
use shmem::{Waiter, presence, pulse};
use std::sync::atomic::Ordering;
use std::time::Duration;
use sysv::{Errno, Key, Mode, Segment};

pub const CASES: &[Case] = &[
    case("pulses::made_and_killed", made_and_killed),
    case("pulses::pid_name_space", pid_name_space),
    case("pulses::ipc_name_space", ipc_name_space),
    case("pulses::nobody_writes", nobody_writes),
    case("pulses::a_false_pulse", a_false_pulse),
    case("pulses::no_segment_left", no_segment_left),
    case("pulses::attaches_go", attaches_go),
];

const A_WHILE: Duration = Duration::from_millis(300);

/// Asserts that the peer is not taken for dead.
#[track_caller]
fn assert_alive(board: &Board, waiter: &mut Waiter) {
    assert!(
        !board.watch(waiter, Patience::from(A_WHILE)),
        "a living peer was taken for dead"
    );
}

/// Killed at each step of its making, a process leaves what is known for an orphan, or nothing.
fn made_and_killed() -> Outcome {
    everywhere(&Operation {
        scene: &|| (),
        prepare: &|()| _ = presence::mine().expect("presence"),
        act: &|(), ()| assert_ne!(pulse::mine(), 0),
        survive: &|(), _, survey| survey.orphans += assert_nothing_left("a pulse"),
        each: 1,
    })
}

fn pid_name_space() -> Outcome {
    let board = Board::new(1);
    let words = shared_words(2);
    let nested = |body: &dyn Fn()| {
        child(|| {
            // SAFETY: takes a number; the process has one thread.
            if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
                words[0].store(-1, Ordering::SeqCst);
                return;
            }
            // The parent's number means nothing in there.
            // SAFETY: the process has one thread.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                body();
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            }
            words[0].store(pid.into(), Ordering::SeqCst);
            // SAFETY: no pointers are used.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        })
    };
    let mut times = Times::default();
    // The peer inside, the watcher outside.
    let outer = nested(&|| {
        board.tell();
        stay();
    });
    wait_until(BOUND, || words[0].load(Ordering::SeqCst) != 0);
    if words[0].load(Ordering::SeqCst) == -1 {
        return Outcome::Skip("no PID name space can be made here".into());
    }
    let inside = board.told();
    let watcher = board.watcher(0);
    watcher.wait_asleep();
    assert_alive(&board, &mut Waiter::new());
    let start = now();
    // SAFETY: takes numbers; a grandchild of this process that nobody has reaped.
    unsafe { libc::kill(inside.pid().expect("it lives"), libc::SIGKILL) };
    times.add(board.took(start));
    outer.join();
    watcher.join();
    // The peer outside, the watcher inside.
    board.wipe();
    words[0].store(0, Ordering::SeqCst);
    let peer = board.peer(|| stay());
    let outer = nested(&|| {
        assert_eq!(board.told().pid(), Some(0), "it has no number in here");
        assert_alive(&board, &mut Waiter::new());
        words[1].store(1, Ordering::SeqCst);
        board.watch_and_tell(0);
    });
    wait_until(BOUND, || words[1].load(Ordering::SeqCst) == 1);
    wait_until(BOUND, || words[0].load(Ordering::SeqCst) != 0);
    let watcher = words[0].load(Ordering::SeqCst) as i32;
    wait_until(BOUND, || checks::process::is_asleep(watcher));
    let start = now();
    peer.signal(libc::SIGKILL);
    times.add(board.took(start));
    peer.kill();
    outer.join();
    Outcome::Pass(times.text())
}

/// Who has left for another IPC name space can't tell, and takes nobody for dead.
fn ipc_name_space() -> Outcome {
    let board = Board::new(1);
    let peer = board.peer(|| stay());
    let gates = [(); 2].map(|()| checks::process::Gate::new());
    let watcher = child(|| {
        let mut waiter = Waiter::new();
        presence::mine().expect("presence");
        assert_alive(&board, &mut waiter);
        // SAFETY: takes a number; the process has one thread.
        let left = unsafe { libc::unshare(libc::CLONE_NEWIPC) };
        assert_eq!(left, 0, "unshare: {}", std::io::Error::last_os_error());
        assert_alive(&board, &mut waiter);
        assert_alive(&board, &mut Waiter::new());
        assert_eq!(board.told().is_alive(), Err(Errno::STALE));
        gates[0].open();
        gates[1].wait();
        // The pulse, attached before, has died; presence can't be asked.
        assert_alive(&board, &mut waiter);
    });
    gates[0].wait();
    peer.kill();
    gates[1].open();
    watcher.join();
    Outcome::Pass(String::new())
}

fn nobody_writes() -> Outcome {
    if !can_switch_users() {
        return Outcome::Skip("needs root, to switch to other users".into());
    }
    let board = Board::new(1);
    let victim = child_as(2, 2, &[], || {
        board.tell();
        stay();
    });
    let victim = or_skip!(victim);
    board.told();
    let segment = Segment::from_id((board.pulse() & i32::MAX as u32) as i32);
    let status = segment.status_any().expect("status");
    assert_eq!((status.perm.mode.bits(), status.marked), (0o444, true));
    assert!(pulse::is_pulse(&status));
    let word = &shared_words(1)[0];
    let hostile = child_as(3, 3, &[], || {
        assert_eq!(segment.attach().err(), Some(Errno::ACCESS));
        assert_eq!(segment.remove(), Err(Errno::PERM));
        let mode = Some(Mode::from_bits_truncate(0o666));
        let change = sysv::Change {
            mode,
            ..sysv::Change::default()
        };
        assert_eq!(segment.set(&change), Err(Errno::PERM));
        // It may look, and keep it from going.
        let _attach = segment.attach_read_only().expect("attach");
        word.store(1, Ordering::SeqCst);
        stay();
    });
    let hostile = or_skip!(hostile);
    wait_until(BOUND, || word.load(Ordering::SeqCst) == 1);
    // Nor may another process of the same user write.
    or_skip!(as_user(2, 2, &[], || {
        assert_eq!(segment.attach().err(), Some(Errno::ACCESS));
    }));
    let watcher = board.watcher(0);
    watcher.wait_asleep();
    let mut times = Times::default();
    let start = now();
    victim.signal(libc::SIGKILL);
    times.add(board.took(start));
    assert!(segment.status_any().is_ok(), "held by the hostile one");
    victim.kill();
    hostile.kill();
    watcher.join();
    Outcome::Pass(times.text())
}

/// In the table stands what is not the peer's pulse, put there by somebody of another user.
fn a_false_pulse() -> Outcome {
    if !can_switch_users() {
        return Outcome::Skip("needs root, to switch to other users".into());
    }
    let mut times = Times::default();
    let private = Segment::create(Key::PRIVATE, 6061, Mode::from_bits_truncate(0o444));
    let private = private.expect("a segment");
    for kind in ["a living one's", "a dead one's", "a segment's", "nobody's"] {
        let board = Board::new(1);
        let victim = board.peer(|| stay());
        let other = Board::new(1);
        let hostile = child_as(3, 3, &[], || {
            other.tell();
            stay();
        });
        let hostile = or_skip!(hostile);
        other.told();
        board.tell_pulse(match kind {
            "a segment's" => 1 << 31 | private.id() as u32,
            "nobody's" => u32::MAX,
            _ => other.pulse(),
        });
        let watcher = board.watcher(0);
        watcher.wait_asleep();
        let mut waiter = Waiter::new();
        if kind == "a dead one's" {
            hostile.kill();
            assert_alive(&board, &mut waiter);
            assert_eq!(board.learnt(0), None, "{kind}");
        } else {
            std::mem::forget(hostile);
        }
        assert_alive(&board, &mut waiter);
        let start = now();
        victim.signal(libc::SIGKILL);
        times.add(board.took(start));
        watcher.join();
    }
    let status = private.status().expect("status");
    assert_eq!((status.attached, status.last_pid), (0, 0), "never attached");
    private.remove().expect("remove");
    Outcome::Pass(times.text())
}

/// The name space has no room for a pulse: the process goes without.
fn no_segment_left() -> Outcome {
    let board = Board::new(1);
    let limit = "/proc/sys/kernel/shmmni";
    let peer = child(|| {
        presence::mine().expect("presence");
        let used = sysv::shm::usage(sysv::Kernel).expect("usage").segments;
        or_panic(std::fs::write(limit, used.to_string()));
        board.tell();
        stay();
    });
    let told = || board.pulse() == 0 && task_state(peer.pid()) == Some('S');
    if std::fs::OpenOptions::new().write(true).open(limit).is_err() {
        return Outcome::Skip("the limits of this name space can't be set".into());
    }
    board.told();
    assert!(told() && board.pulse() == 0, "no pulse");
    or_panic(std::fs::write(limit, "4096"));
    let watcher = board.watcher(0);
    watcher.wait_asleep();
    let mut times = Times::default();
    let start = now();
    peer.signal(libc::SIGKILL);
    times.add(board.took(start));
    watcher.join();
    Outcome::Pass(times.text())
}

fn or_panic(result: std::io::Result<()>) {
    result.expect("the limits of this name space");
}

/// One who watches many, one after the other, keeps no more than a few of their pulses.
fn attaches_go() -> Outcome {
    let mut waiter = Waiter::new();
    let mut most = 0;
    for _ in 0..quick_or_long(300, 3000) {
        let board = Board::new(1);
        let peer = board.peer(|| stay());
        assert!(!board.watch(&mut waiter, Patience::from(Duration::ZERO)));
        peer.kill();
        assert!(board.watch(&mut waiter, Patience::from(BOUND)));
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        // Beside those of the boards and this process's own.
        let attached = maps
            .lines()
            .filter(|line| line.contains("SYSV") && line.contains(" r--s "));
        most = most.max(attached.count());
    }
    assert!(most < 150, "{most} attached");
    drop(waiter);
    assert_nothing_left("pulses");
    Outcome::Pass(format!("at most {most} attached"))
}
