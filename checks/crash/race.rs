//! Many that create the same name at once: there is one channel, whoever dies meanwhile.

use crate::kill::killed_after;
use crate::scene::{Scene, name, options};
use checks::message::SHORTEST;
use checks::or_skip;
use checks::process::{Child, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::step::{Change, Grain, Stepped};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::View;
use shmem::header::{Header, State};
use shmem::name::is_name_key;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use sysv::{Mode, Segment};
use tombolo::value::{self, Reader, Writer};

pub const CASES: &[Case] = &[
    case("race::thousand", || thousand(false, false)),
    case("race::thousand_beside_a_stranger", || thousand(true, false)),
    case("race::thousand_dying", || thousand(false, true)),
    case("race::pairs", || pairs(false)),
    case("race::pairs_beside_the_dead", || pairs(true)),
    case("race::open_while_growing", open_while_growing),
];

/// How many changes a creator makes until it has claimed its segment and more.
const CLAIMED: u64 = 9;

/// How long all of them may take.
const ALL: Duration = Duration::from_secs(20);

/// A gate that opens for everybody at once: reading ends when the last writing end is closed.
struct Start {
    ends: [i32; 2],
}

impl Start {
    fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0, "pipe");
        Self { ends }
    }

    fn wait(&self) {
        self.open();
        let mut byte = 0u8;
        // SAFETY: `byte` is valid for writing.
        unsafe { libc::read(self.ends[0], std::ptr::from_mut(&mut byte).cast(), 1) };
    }

    fn open(&self) {
        // SAFETY: the descriptor is this value's own, closed once in each process.
        unsafe { libc::close(self.ends[1]) };
    }
}

/// Segments that answer to the scenes' name.
fn ready() -> Vec<(i32, u32)> {
    let mut found = Vec::new();
    for status in left().segments {
        if !is_name_key(status.perm.key) || status.marked {
            continue;
        }
        let Ok(view) = View::attach(status.id) else {
            continue;
        };
        if State::of(&view) == State::Ready {
            let header = Header::read(&view).expect("a header");
            found.push((status.id, header.generation));
        }
    }
    found
}

fn thousand(stranger: bool, dying: bool) -> Outcome {
    const COUNT: usize = 1000;
    let foreign = stranger.then(|| {
        let key = name().keys().next().expect("a key");
        let segment = Segment::create(key, 4096, Mode::default()).expect("a segment");
        let attach = segment.attach().expect("attach");
        // Somebody else's bytes.
        // SAFETY: the attach is four KiB, new, and nobody else's.
        unsafe { attach.as_ptr().write_bytes(0x55, 4096) };
        segment
    });
    let ids: &'static [AtomicI64] = shared_words(COUNT);
    let start = Start::new();
    let children: Vec<Child> = ids
        .iter()
        .map(|word| {
            child(|| {
                start.wait();
                let mut writer = Writer::open_or_create(name(), &options()).expect("open");
                writer.put(&[7; SHORTEST]).expect("put");
                word.store(1 + i64::from(writer.id()), Ordering::SeqCst);
            })
        })
        .collect();
    let began = Instant::now();
    start.open();
    let dies = |i: usize| dying && i.is_multiple_of(3);
    for (i, child) in children.iter().enumerate().filter(|(i, _)| dies(*i)) {
        // Spread over the time that all of them take.
        std::thread::sleep(Duration::from_micros(i as u64 % 7 * 30));
        child.signal(libc::SIGKILL);
    }
    let mut killed = 0;
    for (i, child) in children.into_iter().enumerate() {
        if dies(i) {
            child.kill();
            killed += usize::from(ids[i].load(Ordering::SeqCst) == 0);
        } else {
            child.join();
        }
    }
    let took = began.elapsed();
    assert!(took < ALL, "{COUNT} openers took {took:?}");
    let all = ids.iter().map(|word| word.load(Ordering::SeqCst));
    let mut told: Vec<_> = all.filter(|id| *id != 0).map(|id| id - 1).collect();
    let opened = told.len();
    assert!(dying || opened == COUNT);
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 1, "more than one segment: {told:?}");
    assert_eq!(ready(), [(told[0] as i32, 1)], "what is ready");
    value::remove(name()).expect("remove");
    // What dead creators left between shmget and their claim the next creator takes.
    drop(Scene::nothing().writer());
    value::remove(name()).expect("remove");
    if let Some(segment) = foreign {
        segment.remove().expect("the stranger's is there");
    }
    let orphans = assert_nothing_left("race");
    Outcome::Pass(format!(
        "{opened} opened it, {killed} killed before, {orphans} presence orphans, {took:?}"
    ))
}

fn create(word: &'static AtomicI64) -> Result<Stepped, String> {
    Stepped::new(
        || (),
        |()| {
            let writer = Writer::open_or_create(name(), &options()).expect("open");
            word.store(1 + i64::from(writer.id()), Ordering::SeqCst);
        },
    )
}

fn advance(stepped: &mut Stepped, changes: usize) -> bool {
    (0..changes).all(|_| !matches!(stepped.step(Grain::Change), Some(Change::Ended(_))))
}

/// Two creators, the first standing at each of its changes while the second makes some of its own.
///
/// Where a dead creator's claim has the preferred key, one of them may see it and go on to the next
/// key, and the other find the preferred key free.
fn pairs(beside_the_dead: bool) -> Outcome {
    let words = shared_words(2);
    let mut pairs = 0;
    // The first one's patience is 10 s, and the second one's steps take seconds where others compute.
    let (strides, steps) = quick_or_long(((4, 9), 20), ((1, 1), 40));
    'first: for first in (0..40).step_by(strides.0) {
        for second in (1..steps).step_by(strides.1) {
            for word in words {
                word.store(0, Ordering::SeqCst);
            }
            if beside_the_dead {
                let create = |()| drop(Writer::open_or_create(name(), &options()));
                killed_after(CLAIMED, || (), create);
            }
            let mut a = or_skip!(create(&words[0]));
            if !advance(&mut a, first) {
                break 'first;
            }
            let mut b = or_skip!(create(&words[1]));
            let alive = advance(&mut b, second);
            a.release();
            if alive {
                b.release();
                assert_eq!(b.join(), 0, "the second, {first} {second}");
            }
            assert_eq!(a.join(), 0, "the first, {first} {second}");
            let ids: Vec<_> = words
                .iter()
                .map(|word| word.load(Ordering::SeqCst))
                .collect();
            assert_eq!(
                ids[0], ids[1],
                "they opened different ones, {first} {second}"
            );
            assert_eq!(
                ready(),
                [(ids[0] as i32 - 1, 1)],
                "what is ready, {first} {second}"
            );
            value::remove(name()).expect("remove");
            assert_nothing_left(&format!("{first} {second}"));
            pairs += 1;
            if !alive {
                break;
            }
        }
    }
    assert!(pairs >= 8, "only {pairs} pairs");
    Outcome::Pass(format!("{pairs} pairs"))
}

/// A channel that exists throughout is found throughout, also while it moves from key to key.
fn open_while_growing() -> Outcome {
    let mut scene = Scene::channel();
    let stop = &shared_words(3)[0];
    let counts = &shared_words(2);
    let readers: Vec<_> = counts
        .iter()
        .map(|count| {
            let mut open = scene.readers.pop();
            child(|| {
                while stop.load(Ordering::SeqCst) == 0 {
                    let mut reader = Reader::open(name()).expect("it is there all the time");
                    reader.get().expect("get").expect("a message");
                    if let Some(open) = &mut open {
                        open.get().expect("get").expect("a message");
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut writer = scene.writers.pop().expect("a writer");
    let began = Instant::now();
    let mut growths = 0;
    while began.elapsed() < quick_or_long(Duration::from_secs(2), Duration::from_secs(60)) {
        growths += 1;
        writer.grow(100 + growths * 8).expect("grow");
    }
    stop.store(1, Ordering::SeqCst);
    readers.into_iter().for_each(Child::join);
    drop(writer);
    value::remove(name()).expect("remove");
    drop(scene);
    assert_nothing_left("growing");
    let opened: i64 = counts
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .sum();
    Outcome::Pass(format!("opened {opened} times during {growths} growths"))
}
