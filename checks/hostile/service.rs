//! A process that writes all over a service's segment while clients call and servers serve.

use crate::victim::{SLACK, Tally, WAIT, wipe};
use checks::process::{child, shared_words};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::header::{ENDED, READY};
use shmem::name::is_name_key;
use shmem::{Region, presence};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use sysv::{Kernel, shm};
use tombolo::service::{Client, Options, Server};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("service::scribble_bytes", || scribble(1, Way::Bytes)),
    case("service::scribble_words", || scribble(2, Way::Words)),
    case("service::scribble_control", || scribble(3, Way::Control)),
];

/// What the scribbler writes.
#[derive(Clone, Copy)]
pub enum Way {
    /// Random bytes anywhere.
    Bytes,
    /// Random words anywhere.
    Words,
    /// Words that mean something, behind the header.
    Control,
}

/// Longest request and reply: such as go round two places.
const LONGEST: usize = 5000;
/// No message is longer than the segment, whatever the shape says that was opened.
const SEGMENT: usize = 1 << 17;
/// What is behind this are messages.
const CONTROL: usize = 2048;

pub fn name() -> Name {
    Name::mine("hostile-service").expect("a name")
}

pub fn options() -> Options {
    Options {
        calls: 6,
        servers: 3,
        request: LONGEST,
        reply: LONGEST,
        ..Options::default()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// Writes until it is killed, and now and then everything as it was, so that there is a service
/// again.
pub fn scribbler(seed: u64, way: Way, whole: &[u8], others: &[u64]) -> ! {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let words = [
        0,
        1,
        2,
        3,
        READY,
        ENDED,
        u64::MAX,
        1 << 31,
        1 << 63,
        LONGEST as u64 + 1,
    ];
    loop {
        let all = shm::list(Kernel).expect("segments");
        let ours = all
            .iter()
            .filter(|status| is_name_key(status.perm.key) && !status.marked);
        let regions: Vec<_> = ours
            .filter_map(|status| Region::attach(status.id).ok())
            .collect();
        for _ in 0..2000 {
            let Some(region) = regions.get(random.below(regions.len().max(1))) else {
                break;
            };
            // As often where the words are as where the messages are, which take more room.
            let end = [region.len(), CONTROL.min(region.len())][random.below(2)];
            let anywhere = random.below(end - 8);
            // Errors say that a segment is shorter than another, which is no matter.
            let _ = match way {
                Way::Bytes => region.copy_in(anywhere, &[random.below(256) as u8]),
                Way::Words => {
                    let word = (random.below(1 << 32) << 32 | random.below(1 << 32)) as u64;
                    region.copy_in(anywhere & !7, &word.to_ne_bytes())
                }
                Way::Control => {
                    let at = random.below(words.len() + others.len());
                    let word = words.get(at).or_else(|| others.get(at - words.len()));
                    let place = 256.max(anywhere & !3);
                    region.copy_in(place, &word.copied().unwrap_or(0).to_ne_bytes())
                }
            };
            if random.below(8) == 0 {
                let length = whole.len().min(region.len());
                let _ = region.copy_in(0, &whole[..length]);
            }
        }
        // The victims get their turn, on one processor too.
        std::thread::sleep(Duration::from_micros(50));
    }
}

pub fn serve(server: &mut Server, tally: &mut Tally) {
    for round in 0..20 {
        tally.run(WAIT + SLACK, || {
            let Some(request) = server.next_timeout(WAIT)? else {
                return Ok(());
            };
            assert!(request.len() <= SEGMENT, "{}", request.len());
            let mut bytes = vec![];
            request.append_to(&mut bytes);
            match round % 4 {
                0 => drop(request),
                // Not where the length was spoilt before this server came.
                1 => drop(request.fail(&bytes)),
                2 => {
                    if let Ok(mut reply) = request.loan(bytes.len()) {
                        let written = reply.bytes().copy_in(0, &bytes);
                        written.expect("as long as the loan");
                        reply.send();
                    }
                }
                _ => drop(request.reply(&bytes)),
            }
            Ok::<(), tombolo::service::ServeError>(())
        });
    }
}

pub fn call(client: &mut Client, tally: &mut Tally) {
    let mut reply = vec![];
    for length in [0, 1, LONGEST, LONGEST + 1] {
        let request = vec![7; length];
        tally.run(WAIT + SLACK, || {
            client.call_timeout(&request, WAIT, &mut reply)
        });
        assert!(reply.len() <= SEGMENT);
        let mut read = vec![];
        tally.run(WAIT + SLACK, || {
            let mut loan = client.loan(length)?;
            let written = loan.bytes().copy_in(0, &request);
            written.expect("as long as the loan");
            loan.call(Patience::from(WAIT))?.append_to(&mut read)
        });
        assert!(read.len() <= SEGMENT);
        let started = tally.run(SLACK, || client.start(&request));
        if let Some(mut pending) = started {
            tally.run(WAIT + SLACK, || pending.is_over(Patience::from(WAIT)));
            tally.run(WAIT + SLACK, || pending.wait_timeout(WAIT, &mut reply));
        }
    }
}

fn scribble(seed: u64, way: Way) -> Outcome {
    let living = presence::mine().expect("presence").word();
    let long = quick_or_long(Duration::from_secs(5), Duration::from_secs(600));
    let end = Instant::now() + long;
    let counts = shared_words(2);
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        let keeps = Client::open_or_create(name(), &options()).expect("open");
        let whole = {
            let region = Region::attach(keeps.id()).expect("attach");
            let mut whole = vec![0; region.len()];
            region.copy_out(0, &mut whole).expect("all");
            whole
        };
        let victims: Vec<_> = (0..2)
            .map(|i| {
                child(|| {
                    let mut tally = Tally::default();
                    let turn = Instant::now();
                    while turn.elapsed() < Duration::from_millis(700) {
                        if i == 0 {
                            let opened = tally.run(SLACK, || Server::open(name()));
                            if let Some(mut server) = opened {
                                serve(&mut server, &mut tally);
                            }
                        } else {
                            let opened = tally.run(SLACK, || Client::open(name()));
                            if let Some(client) = opened {
                                call(&mut client.follow(rounds % 2 == 0), &mut tally);
                            }
                        }
                    }
                    counts[0].fetch_add(tally.done as i64, Ordering::SeqCst);
                    counts[1].fetch_add(tally.refused as i64, Ordering::SeqCst);
                })
            })
            .collect();
        let others = [living, living ^ (1 << 40)];
        let scribbler = child(|| scribbler(seed * 1000 + rounds, way, &whole, &others));
        for victim in victims {
            let status = victim.join_status();
            assert!(
                status.success(),
                "round {rounds}: a victim ended with {status}"
            );
        }
        scribbler.kill();
        drop(keeps);
        wipe();
    }
    let [done, refused] = [0, 1].map(|i| counts[i].load(Ordering::SeqCst));
    assert!(done > 100, "the victims did something: {done}, {refused}");
    Outcome::Pass(format!(
        "{rounds} rounds in {long:?}: {done} operations came through, {refused} were refused"
    ))
}
