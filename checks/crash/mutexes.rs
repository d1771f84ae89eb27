//! Robust mutexes of the C library in the list in which our word stands too.

use checks::process::{BOUND, child, shared_words, wait_until};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::pulse;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI64, Ordering};

pub const CASES: &[Case] = &[case("mutexes::stay_robust", stay_robust)];

const COUNT: usize = 5;

/// Mutexes that several processes share, in shared memory that is never freed.
#[derive(Clone, Copy)]
struct Mutexes(*mut libc::pthread_mutex_t);

// SAFETY: mutexes are made to be used by many threads.
unsafe impl Send for Mutexes {}

fn assert_zero(answer: i32) {
    assert_eq!(answer, 0, "{}", std::io::Error::from_raw_os_error(answer));
}

impl Mutexes {
    fn new() -> Self {
        let mutexes = Self(shared_words(COUNT * 8).as_ptr().cast_mut().cast());
        let mut kind = MaybeUninit::uninit();
        // SAFETY: room for the attributes.
        assert_zero(unsafe { libc::pthread_mutexattr_init(kind.as_mut_ptr()) });
        let shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: initialised above.
        assert_zero(unsafe { libc::pthread_mutexattr_setpshared(kind.as_mut_ptr(), shared) });
        let robust = libc::PTHREAD_MUTEX_ROBUST;
        // SAFETY: initialised above.
        assert_zero(unsafe { libc::pthread_mutexattr_setrobust(kind.as_mut_ptr(), robust) });
        for number in 0..COUNT {
            let mutex = mutexes.at(number);
            // SAFETY: shared memory of its own that nobody uses yet.
            assert_zero(unsafe { libc::pthread_mutex_init(mutex, kind.as_ptr()) });
        }
        mutexes
    }

    fn at(self, number: usize) -> *mut libc::pthread_mutex_t {
        assert!(number < COUNT && size_of::<libc::pthread_mutex_t>() <= 64);
        self.0.wrapping_byte_add(number * 64)
    }

    fn lock(self, number: usize) -> i32 {
        // SAFETY: initialised in `new`.
        unsafe { libc::pthread_mutex_trylock(self.at(number)) }
    }

    fn unlock(self, number: usize) {
        // SAFETY: initialised in `new`; this thread holds it.
        assert_zero(unsafe { libc::pthread_mutex_unlock(self.at(number)) });
    }

    fn mend(self, number: usize) {
        // SAFETY: initialised in `new`; locked after its holder died.
        assert_zero(unsafe { libc::pthread_mutex_consistent(self.at(number)) });
    }
}

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

/// Locks and unlocks in any order, becomes the keeper of the pulse at some point, and ends holding
/// some; tells which.
fn churn(mutexes: Mutexes, seed: u64, held: &AtomicI64) {
    let mut state = seed * 0x9e37_79b9 + 1;
    let at = random(&mut state) % 14;
    let mut mine = 0i64;
    for step in 0..14 {
        if step == at {
            assert_ne!(pulse::mine(), 0);
        }
        let number = random(&mut state) % COUNT;
        if mine >> number & 1 == 0 {
            assert_zero(mutexes.lock(number));
        } else {
            mutexes.unlock(number);
        }
        mine ^= 1 << number;
    }
    held.store(mine | 1 << COUNT, Ordering::SeqCst);
}

/// A thread or a process ends with mutexes in its list before and behind our word; whoever comes
/// next is told of each that it held, and gets the others as if nothing had been.
fn stay_robust() -> Outcome {
    let mut inherited = 0;
    for seed in 1..=quick_or_long(120, 5000) {
        let mutexes = Mutexes::new();
        let words = shared_words(2);
        let is_process = seed % 3 == 0;
        let peer = child(|| {
            if !is_process {
                // The keeper ends in good order, holding mutexes; the process lives.
                std::thread::spawn(move || churn(mutexes, seed, &words[0]))
                    .join()
                    .expect("a thread");
                let again = pulse::mine();
                assert_ne!(again, 0);
            } else {
                churn(mutexes, seed, &words[0]);
            }
            words[1].store(1, Ordering::SeqCst);
            checks::process::stay();
        });
        wait_until(BOUND, || words[1].load(Ordering::SeqCst) == 1);
        let held = words[0].load(Ordering::SeqCst);
        if is_process {
            peer.kill();
        } else {
            std::mem::forget(peer);
        }
        for number in 0..COUNT {
            let expected = if held >> number & 1 == 1 {
                libc::EOWNERDEAD
            } else {
                0
            };
            assert_eq!(
                mutexes.lock(number),
                expected,
                "seed {seed}, mutex {number}"
            );
            if expected != 0 {
                mutexes.mend(number);
                inherited += 1;
            }
            mutexes.unlock(number);
        }
    }
    Outcome::Pass(format!("{inherited} inherited"))
}
