//! Readers that watch while writers put, grow and die.

use crate::operations::KEEP;
use crate::scene::{CAPACITY, name, options};
use checks::message::{check, message};
use checks::process::{Child, can_switch_users, child, child_as, shared_words};
use checks::space::{Prompt, assert_nothing_left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use sysv::Mode;
use tombolo::value::{self, Options, PutError, ReadError, Reader, Writer};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("watch::ten_thousand", ten_thousand),
    case("watch::random_kills", || random_kills(false)),
    case("watch::random_kills_of_keepers", || random_kills(true)),
    case("watch::keepers_in_turns", keepers_in_turns),
];

/// Watches until the channel is removed or `last` was seen; answers how many messages it saw.
fn watch(mut reader: Reader, last: Option<u64>, seen: &AtomicI64) {
    let mut number = 0;
    let mut overtaken = 0;
    loop {
        match reader.watch(Patience::from(Duration::from_secs(20))) {
            Ok(Some(found)) => {
                let inside = check(&found.bytes).unwrap_or_else(|torn| panic!("{torn}"));
                assert!(found.number > number, "{} after {number}", found.number);
                assert!(
                    last.is_none() || inside == found.number,
                    "{inside} as {}",
                    found.number
                );
                number = found.number;
                seen.fetch_add(1, Ordering::Relaxed);
                if Some(number) == last {
                    return;
                }
            }
            Err(ReadError::Overtaken) => {
                overtaken += 1;
                assert!(overtaken < 100_000, "overtaken for ever");
            }
            Err(ReadError::Removed) if last.is_none() => return,
            other => panic!("after message {number}: {other:?}"),
        }
    }
}

fn ten_thousand() -> Outcome {
    const PUTS: u64 = 10_000;
    let options = Options {
        capacity: 4000,
        mode: Mode::from_bits_truncate(0o644),
        ..options()
    };
    let mut writer = Writer::open_or_create(name(), &options).expect("open");
    let seen = shared_words(4);
    let owner = name().uid();
    let watchers: Vec<Child> = seen
        .iter()
        .enumerate()
        .map(|(i, seen)| {
            let body = move || {
                let name = Name::of(owner, name().text()).expect("a name");
                let reader = Reader::open(name).expect("open");
                seen.store(1, Ordering::SeqCst);
                watch(reader, Some(PUTS), seen);
            };
            if i % 2 == 1 && can_switch_users() {
                child_as(2, 2, &[], body).expect("users")
            } else {
                child(body)
            }
        })
        .collect();
    checks::process::wait_until(checks::process::BOUND, || {
        seen.iter().all(|seen| seen.load(Ordering::SeqCst) > 0)
    });
    let start = Instant::now();
    for number in 1..=PUTS {
        let length = (number as usize).wrapping_mul(2_654_435_761) % 4000;
        assert_eq!(writer.put(&message(number, length)).expect("put"), number);
        // Now and then the watchers have time to park.
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let took = start.elapsed();
    watchers.into_iter().for_each(Child::join);
    value::remove(name()).expect("remove");
    drop(writer);
    assert_nothing_left("ten thousand");
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| seen.load(Ordering::Relaxed) - 1)
        .collect();
    let users = if can_switch_users() {
        "two of another user"
    } else {
        "all of one user"
    };
    Outcome::Pass(format!(
        "{PUTS} puts in {took:?}; four watchers, {users}, saw {seen:?}"
    ))
}

/// Of writers that keep the value when they may, or take its lock for each put.
fn random_kills(keep: bool) -> Outcome {
    if keep {
        shmem::barrier::register();
    }
    let kills = quick_or_long(500, 20_000);
    let mut writer = Writer::open_or_create(name(), &options()).expect("open");
    writer.put(&message(1, CAPACITY)).expect("put");
    let seen = shared_words(3);
    let watchers: Vec<Child> = seen
        .iter()
        .map(|seen| child(|| watch(Reader::open(name()).expect("open"), None, seen)))
        .collect();
    let mut reader = Reader::open(name()).expect("open");
    let mut prompt = Prompt::default();
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut grown = 0;
    for kill in 0..kills {
        let grows = kill % 2 == 0;
        let capacity = writer.capacity();
        let victim = child(|| {
            let mut writer = Writer::open(name()).expect("open");
            for number in 0u64.. {
                writer
                    .put(&message(number, 24 + number as usize % (CAPACITY - 24)))
                    .expect("put");
                if grows {
                    let larger = capacity + (number as usize % 64) * 8;
                    writer.grow(larger).expect("grow");
                }
            }
        });
        let delay = Duration::from_nanos(random.below(2_000_000));
        let start = Instant::now();
        while start.elapsed() < delay {
            let found = reader.get();
            match found {
                Ok(Some(found)) => {
                    assert!(check(&found.bytes).is_ok(), "kill {kill}")
                }
                Err(ReadError::Overtaken) => {}
                other => panic!("kill {kill}: {other:?}"),
            }
        }
        victim.kill();
        let number = prompt.time("put", || writer.put(&message(kill, CAPACITY)));
        let number = number.unwrap_or_else(|error: PutError| panic!("kill {kill}: {error}"));
        let found = reader.get().expect("get").expect("a message");
        assert_eq!(
            (found.number, check(&found.bytes)),
            (number, Ok(kill)),
            "kill {kill}"
        );
        grown += usize::from(writer.capacity() != capacity);
    }
    value::remove(name()).expect("remove");
    watchers.into_iter().for_each(Child::join);
    drop((writer, reader));
    let orphans = assert_nothing_left("random kills");
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| seen.load(Ordering::Relaxed))
        .collect();
    Outcome::Pass(format!(
        "{kills} kills, {grown} of them grew; watchers saw {seen:?}; {orphans} presence orphans; \
         the slowest put {:?}",
        prompt.slowest
    ))
}

/// Writers that put now many messages and now few, and keep the value when they may: no number is given
/// twice, and who watches sees whole messages only.
fn keepers_in_turns() -> Outcome {
    const WRITERS: u64 = 3;
    const PUTS: u64 = 60_000;
    shmem::barrier::register();
    let mut reader = {
        let mut writer = Writer::open_or_create(name(), &options()).expect("open");
        writer.put(&message(1, CAPACITY)).expect("put");
        Reader::open(name()).expect("open")
    };
    let words = shared_words(2);
    let watcher = child(|| watch(Reader::open(name()).expect("open"), None, &words[0]));
    let writers: Vec<Child> = (1..=WRITERS)
        .map(|me| {
            let kept = &words[1];
            child(move || {
                let mut random = Random(me.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let mut writer = Writer::open(name()).expect("open");
                let keep = shmem::Region::attach(writer.id()).expect("attach");
                let mut number = 0;
                while number < PUTS {
                    let most = 1 << random.below(13);
                    let burst = (1 + random.below(most)).min(PUTS - number);
                    for _ in 0..burst {
                        let text = message(number, 24 + number as usize % (CAPACITY - 24));
                        writer.put(&text).expect("put");
                        number += 1;
                    }
                    let word = keep.load_u64(KEEP, Ordering::Relaxed);
                    kept.fetch_add(i64::from(word & 0xffff != 0), Ordering::Relaxed);
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(Child::join);
    assert_eq!(reader.latest(), 1 + WRITERS * PUTS);
    let last = reader.get().expect("get").expect("a message");
    assert_eq!(check(&last.bytes), Ok(PUTS - 1));
    value::remove(name()).expect("remove");
    watcher.join();
    drop(reader);
    assert_nothing_left("keepers in turns");
    let [seen, kept] = [0, 1].map(|at| words[at].load(Ordering::Relaxed));
    assert!(kept > 0, "nobody ever kept it");
    Outcome::Pass(format!(
        "the watcher saw {seen}; after {kept} bursts somebody kept it"
    ))
}

/// Numbers that look random (xorshift).
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next one below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
