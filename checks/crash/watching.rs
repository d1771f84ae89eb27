//! Who sleeps learns of a peer's death at once, and of nothing else.

use crate::board::{Board, Times, WITHIN, now};
use checks::process::{
    BOUND, Gate, child, exec_and_stay, shared_words, stay, task_state, wait_exec, wait_until,
};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::Waiter;
use shmem::wait::Patience;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const CASES: &[Case] = &[
    case("watching::killed", killed),
    case("watching::all_are_woken", all_are_woken),
    case("watching::without_a_pulse", without_a_pulse),
    case("watching::exec", exec),
    case("watching::stopped", stopped),
    case("watching::ends_in_good_order", ends_in_good_order),
    case("watching::keeper_ends", keeper_ends),
    case("watching::forked", forked),
    case("watching::large", large),
];

/// Killed, and a zombie: nobody reaps it meanwhile.
fn killed() -> Outcome {
    let board = Board::new(1);
    let mut times = Times::default();
    for _ in 0..quick_or_long(50, 2000) {
        board.wipe();
        let peer = board.peer(|| stay());
        assert_ne!(board.pulse(), 0, "it has a pulse");
        let watcher = board.watcher(0);
        watcher.wait_asleep();
        let start = now();
        peer.signal(libc::SIGKILL);
        times.add(board.took(start));
        peer.kill();
        watcher.join();
    }
    Outcome::Pass(times.text())
}

/// The kernel wakes one.
fn all_are_woken() -> Outcome {
    let count = 40;
    let board = Board::new(count);
    let mut times = Times::default();
    for _ in 0..quick_or_long(3, 100) {
        board.wipe();
        let peer = board.peer(|| stay());
        let watchers: Vec<_> = (0..count).map(|number| board.watcher(number)).collect();
        watchers.iter().for_each(|watcher| watcher.wait_asleep());
        let start = now();
        peer.signal(libc::SIGKILL);
        times.add(board.took(start));
        peer.kill();
        watchers.into_iter().for_each(|watcher| watcher.join());
    }
    Outcome::Pass(times.text())
}

fn without_a_pulse() -> Outcome {
    let board = Board::new(1);
    let mut times = Times::default();
    for _ in 0..10 {
        board.wipe();
        let peer = board.peer(|| stay());
        board.tell_pulse(0);
        let watcher = board.watcher(0);
        watcher.wait_asleep();
        let start = now();
        peer.signal(libc::SIGKILL);
        times.add(board.took(start));
        peer.kill();
        watcher.join();
    }
    Outcome::Pass(times.text())
}

fn exec() -> Outcome {
    let board = Board::new(1);
    let mut times = Times::default();
    for _ in 0..20 {
        board.wipe();
        let word = &shared_words(1)[0];
        let go = Gate::new();
        let peer = board.peer(|| {
            go.wait();
            word.store(now(), Ordering::SeqCst);
            exec_and_stay();
        });
        let watcher = board.watcher(0);
        watcher.wait_asleep();
        go.open();
        wait_exec(peer.pid());
        times.add(board.took(word.load(Ordering::SeqCst)));
        assert!(matches!(task_state(peer.pid()), Some('R' | 'S')));
        peer.kill();
        watcher.join();
    }
    Outcome::Pass(times.text())
}

fn stopped() -> Outcome {
    let board = Board::new(1);
    let peer = board.peer(|| stay());
    peer.signal(libc::SIGSTOP);
    wait_until(BOUND, || task_state(peer.pid()) == Some('T'));
    let watcher = board.watcher(0);
    watcher.wait_asleep();
    // No state to wait for: nothing must happen.
    assert!(!board.watch(
        &mut Waiter::new(),
        Patience::from(Duration::from_millis(1500))
    ));
    assert_eq!(board.learnt(0), None, "a stopped process lives");
    let mut times = Times::default();
    let start = now();
    peer.signal(libc::SIGKILL);
    times.add(board.took(start));
    Outcome::Pass(times.text())
}

/// It takes its pulse with it in good order, but not its identity from the table.
fn ends_in_good_order() -> Outcome {
    let board = Board::new(1);
    let mut times = Times::default();
    for round in 0..20 {
        board.wipe();
        let word = &shared_words(1)[0];
        let go = Gate::new();
        let peer = board.peer(|| {
            go.wait();
            word.store(now(), Ordering::SeqCst);
            if round % 2 == 0 {
                // What was registered for the end runs, that of the thread included.
                std::process::exit(0);
            }
        });
        let watcher = board.watcher(0);
        watcher.wait_asleep();
        go.open();
        wait_until(BOUND, || board.learnt(0).is_some());
        times.add(board.took(word.load(Ordering::SeqCst)));
        peer.join();
        watcher.join();
    }
    Outcome::Pass(times.text())
}

/// The thread that keeps the pulse ends, the process goes on: in good order, and by the bare call.
fn keeper_ends() -> Outcome {
    let mut times = Times::default();
    for bare in [false, true] {
        // For ever: the thread that ends by the bare call is never joined.
        let board: &'static Board = Box::leak(Box::new(Board::new(1)));
        let go: &'static Gate = Box::leak(Box::new(Gate::new()));
        let gone = Gate::new();
        let peer = child(|| {
            std::thread::spawn(move || {
                board.tell();
                go.wait();
                if bare {
                    // SAFETY: ends this thread, which holds nothing.
                    unsafe { libc::syscall(libc::SYS_exit, 0) };
                }
            });
            board.told();
            wait_until(BOUND, one_thread_left);
            gone.open();
            go.wait();
            // Whoever is about to sleep becomes the keeper.
            shmem::pulse::mine();
            gone.open();
            stay();
        });
        board.told();
        let watcher = board.watcher(0);
        watcher.wait_asleep();
        go.open();
        gone.wait();
        let mut waiter = Waiter::new();
        let living = |waiter: &mut Waiter| {
            assert!(!board.watch(waiter, Patience::from(Duration::from_millis(300))));
            assert_eq!(board.learnt(0), None, "a thread ended, not its process");
        };
        living(&mut waiter);
        // Or dies without another keeper.
        if !bare {
            go.open();
            gone.wait();
            living(&mut waiter);
        }
        watcher.wait_asleep();
        let start = now();
        peer.signal(libc::SIGKILL);
        times.add(board.took(start));
        peer.kill();
        watcher.join();
    }
    Outcome::Pass(times.text())
}

fn one_thread_left() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// The child lives on, with all that it inherited; the parent is dead. And the other way round.
fn forked() -> Outcome {
    let mut times = Times::default();
    let board = Board::new(1);
    let words = shared_words(2);
    let peer = board.peer(|| {
        let younger = child(|| {
            // Not to go with its parent.
            // SAFETY: takes numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            words[0].store(shmem::pulse::mine().into(), Ordering::SeqCst);
            wait_until(BOUND, || words[1].load(Ordering::SeqCst) != 0);
        });
        std::mem::forget(younger);
        stay();
    });
    wait_until(BOUND, || words[0].load(Ordering::SeqCst) != 0);
    let younger = words[0].load(Ordering::SeqCst) as u32;
    assert_ne!(younger, board.pulse(), "a child has a pulse of its own");
    let watcher = board.watcher(0);
    watcher.wait_asleep();
    let start = now();
    peer.signal(libc::SIGKILL);
    times.add(board.took(start));
    words[1].store(1, Ordering::SeqCst);
    peer.kill();
    watcher.join();

    board.wipe();
    let peer = board.peer(|| {
        child(|| ()).kill();
        child(|| std::process::exit(0)).join();
        words[1].store(2, Ordering::SeqCst);
        stay();
    });
    wait_until(BOUND, || words[1].load(Ordering::SeqCst) == 2);
    let mut waiter = Waiter::new();
    assert!(
        !board.watch(&mut waiter, Patience::from(Duration::from_millis(200))),
        "its children died, not it"
    );
    drop(peer);
    Outcome::Pass(times.text())
}

/// A process whose memory takes the kernel long to free is learnt of early.
fn large() -> Outcome {
    let board = Board::new(1);
    let bytes = quick_or_long(1usize << 30, 2 << 30);
    let words = shared_words(1);
    let peer = board.peer(|| {
        let memory = vec![1u8; bytes];
        std::hint::black_box(&memory);
        words[0].store(1, Ordering::SeqCst);
        stay();
    });
    wait_until(BOUND, || words[0].load(Ordering::SeqCst) == 1);
    let identity = board.told();
    let watcher = board.watcher(0);
    watcher.wait_asleep();
    let start = now();
    peer.signal(libc::SIGKILL);
    let took = board.took(start)[0];
    let before = identity.is_alive().expect("a look");
    wait_until(BOUND, || !identity.is_alive().expect("a look"));
    let gone = Duration::from_nanos((now() - start) as u64);
    assert!(took < WITHIN, "learnt after {took:?}");
    Outcome::Pass(format!(
        "learnt after {took:?}, {} its presence went, which took {gone:?}",
        if before { "before" } else { "after" }
    ))
}
