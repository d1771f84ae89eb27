//! A process that writes all over the channel's segment while others get, put, watch and open.

use crate::victim::{CAPACITY, Tally, name, open_and_use, options, read, wipe, write};
use checks::process::{child, shared_words};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::header::{ENDED, READY};
use shmem::name::is_name_key;
use shmem::{Region, presence};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use sysv::{Kernel, shm};
use tombolo::value::{Reader, Writer};

pub const CASES: &[Case] = &[
    case("scribble::bytes", || scribble(1, Way::Bytes, true)),
    case("scribble::words", || scribble(2, Way::Words, true)),
    case("scribble::words_only", || scribble(3, Way::Words, false)),
    case("scribble::control", || scribble(4, Way::Control, true)),
    case("scribble::control_only", || {
        scribble(5, Way::Control, false)
    }),
];

/// What the scribbler writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Random bytes anywhere.
    Bytes,
    /// Random words anywhere.
    Words,
    /// Words that mean something, where they do.
    Control,
}

/// Numbers that look random (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }
}

/// Segments that may be the channel.
pub fn segments() -> Vec<Region> {
    let all = shm::list(Kernel).expect("segments");
    let ours = all
        .iter()
        .filter(|status| is_name_key(status.perm.key) && !status.marked);
    ours.filter_map(|status| Region::attach(status.id).ok())
        .collect()
}

/// Writes until it is killed; if it `restores`, now and then everything as it was, so that the
/// victims find a channel again.
fn scribbler(seed: u64, way: Way, restores: bool, whole: &[u8], living: u64) -> ! {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Not the state word with a living identity: opening would wait ten seconds for it.
    let words = [
        0,
        1,
        2,
        READY,
        ENDED,
        u64::MAX,
        1 << 63,
        CAPACITY as u64,
        // With the longest skew: see `shmem::cells`.
        63 << 58 | CAPACITY as u64,
        1 << 20,
    ];
    let places = [
        0, 256, 264, 272, 320, 328, 384, 392, 448, 456, 960, 968, 1408, 1416, 1856, 1864,
    ];
    loop {
        let regions = segments();
        for _ in 0..2000 {
            let Some(region) = regions.get(random.below(regions.len().max(1))) else {
                break;
            };
            let anywhere = random.below(region.len() - 8);
            // Errors say that a segment is shorter than another, which is no matter.
            let _ = match way {
                Way::Bytes => region.copy_in(anywhere, &[random.next() as u8]),
                Way::Words => region.copy_in(anywhere & !7, &random.next().to_ne_bytes()),
                Way::Control => {
                    let word = words[random.below(words.len())].wrapping_add(random.next() & 1);
                    let place = places[random.below(places.len())];
                    let word = if place == 256 && word == 1 {
                        living
                    } else {
                        word
                    };
                    region.copy_in(place, &word.to_ne_bytes())
                }
            };
            if restores && random.below(8) == 0 {
                let length = whole.len().min(region.len());
                let _ = region.copy_in(0, &whole[..length]);
            }
        }
        // The victims get their turn, on one processor too.
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn scribble(seed: u64, way: Way, restores: bool) -> Outcome {
    let living = presence::mine().expect("presence").word();
    // Then its children are, and keep the value when they may.
    shmem::barrier::register();
    let long = quick_or_long(Duration::from_secs(5), Duration::from_secs(600));
    let end = Instant::now() + long;
    let counts = shared_words(2);
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        let mut writer = Writer::open_or_create(name(), &options()).expect("open");
        writer.put(&[7; 100]).expect("put");
        let whole = {
            let region = Region::attach(writer.id()).expect("attach");
            let mut whole = vec![0; region.len()];
            region.copy_out(0, &mut whole).expect("all");
            whole
        };
        let mut reader = Reader::open(name()).expect("open");
        let scribbler = child(|| scribbler(seed * 1000 + rounds, way, restores, &whole, living));
        let victims: Vec<_> = (0..2)
            .map(|i| {
                child(|| {
                    let mut tally = Tally::default();
                    let turn = Instant::now();
                    while turn.elapsed() < Duration::from_millis(700) {
                        if i == 0 {
                            read(&mut reader, &mut tally);
                            write(&mut writer, &mut tally);
                        } else {
                            open_and_use(&mut tally);
                        }
                    }
                    counts[0].fetch_add(tally.done as i64, Ordering::SeqCst);
                    counts[1].fetch_add(tally.refused as i64, Ordering::SeqCst);
                })
            })
            .collect();
        for victim in victims {
            let status = victim.join_status();
            assert!(
                status.success(),
                "round {rounds}: a victim ended with {status}"
            );
        }
        scribbler.kill();
        drop((reader, writer));
        wipe();
    }
    let [done, refused] = [0, 1].map(|i| counts[i].load(Ordering::SeqCst));
    assert!(done > 100, "the victims did something: {done}, {refused}");
    Outcome::Pass(format!(
        "{rounds} rounds in {long:?}: {done} operations came through, {refused} were refused"
    ))
}
