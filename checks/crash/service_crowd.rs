//! Many processes over one service, and processes killed at random moments: every call accounted
//! for.

use crate::crowd::{killed_at_random, random};
use checks::message::{check, message};
use checks::process::{Child, Gate, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tombolo::Name;
use tombolo::service::{CallError, Client, Options, Request, Server};

pub const CASES: &[Case] = &[
    case("service::sixty_four_processes", crowd),
    case("service::random_kills", random_kills),
];

fn name() -> Name {
    Name::mine("crowd-service").expect("a name")
}

/// A reply is the request's number in a message of another length.
fn answer(request: Request<'_>, bytes: &mut Vec<u8>) -> u64 {
    bytes.clear();
    request.append_to(bytes);
    let number = check(bytes).expect("whole");
    let length = number as usize % 300;
    request.reply(&message(!number, length)).expect("it fits");
    number
}

/// The number that ends a server.
const END: u64 = 1 << 60;

fn crowd() -> Outcome {
    const CLIENTS: usize = 56;
    const SERVERS: usize = 8;
    let count = quick_or_long(500, 50_000u64);
    let options = Options {
        request: 400,
        reply: 400,
        ..Options::default()
    };
    let (ready, start) = (&Gate::new(), &Gate::new());
    // Calls executed, and the sum of their numbers; replies, and the sum of theirs.
    let words = shared_words(4);
    let tell = |at: usize, number: u64| {
        words[at].fetch_add(1, Ordering::Relaxed);
        words[at + 1].fetch_add(number as i64, Ordering::Relaxed);
    };
    let began = Instant::now();
    let servers: Vec<_> = (0..SERVERS)
        .map(|_| {
            child(|| {
                let mut server = Server::open_or_create(name(), &options).expect("a server");
                ready.open();
                let mut bytes = vec![];
                loop {
                    let number = answer(server.next().expect("next"), &mut bytes);
                    if number == END {
                        break;
                    }
                    tell(0, number);
                }
            })
        })
        .collect();
    (0..SERVERS).for_each(|_| ready.wait());
    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|me| {
            child(|| {
                let mut client = Client::open_or_create(name(), &options).expect("a client");
                ready.open();
                start.wait();
                let mut state = me + 1;
                let mut reply = vec![];
                let see = |reply: &[u8], number: u64| {
                    assert_eq!(check(reply), Ok(!number));
                    tell(2, number);
                };
                for number in 0..count / 2 {
                    let number = (me << 32) + number * 2;
                    let [one, two] = [number, number + 1]
                        .map(|number| message(number, random(&mut state) as usize % 400));
                    if me % 2 == 0 {
                        client.call(&one, &mut reply).expect("call");
                        see(&reply, number);
                        client.call(&two, &mut reply).expect("call");
                        see(&reply, number + 1);
                    } else {
                        let one = client.start(&one).expect("start");
                        let two = client.start(&two).expect("start");
                        two.wait(&mut reply).expect("wait");
                        see(&reply, number + 1);
                        one.wait(&mut reply).expect("wait");
                        see(&reply, number);
                    }
                }
            })
        })
        .collect();
    (0..CLIENTS).for_each(|_| ready.wait());
    (0..CLIENTS).for_each(|_| start.open());
    clients.into_iter().for_each(Child::join);
    let mut last = Client::open(name()).expect("a client");
    for _ in 0..SERVERS {
        last.call(&message(END, 0), &mut vec![]).expect("call");
    }
    servers.into_iter().for_each(Child::join);
    drop(last);
    let [executed, sum, replied, replied_sum] =
        [0, 1, 2, 3].map(|at| words[at].load(Ordering::SeqCst));
    assert_eq!(executed, (CLIENTS as u64 * (count / 2) * 2) as i64);
    assert_eq!((replied, replied_sum), (executed, sum));
    assert_nothing_left("after the crowd");
    Outcome::Pass(format!("{executed} calls in {:?}", began.elapsed()))
}

/// Numbers that one client may use.
const NUMBERS: usize = 1 << 20;
const CLIENTS: usize = 3;
const SERVERS: usize = 2;

/// What all processes of the case share.
#[derive(Clone, Copy)]
struct Log {
    /// By client and number: how often it was executed.
    executed: &'static [AtomicI64],
    /// By client and number: how it ended, see below.
    ended: &'static [AtomicI64],
    /// By client: the last number that it began to call.
    begun: &'static [AtomicI64],
    stop: &'static AtomicI64,
}

/// How a call ended, by what its client was told.
const REPLIED: i64 = 1;
/// It may have been executed.
const PERHAPS: i64 = 2;
/// It was not, and will not be.
const NEVER: i64 = 3;

impl Log {
    fn call(self, me: usize, options: &Options) {
        let opened = Client::open_or_create(name(), options).expect("a client");
        let mut client = opened.follow(me.is_multiple_of(2));
        let mut number = self.begun[me].load(Ordering::SeqCst) as usize + 1;
        let mut state = number as u64 | 1;
        let mut reply = vec![];
        while self.stop.load(Ordering::SeqCst) == 0 && number < NUMBERS {
            let at = me * NUMBERS + number;
            let request = message(at as u64, random(&mut state) as usize % 300);
            self.begun[me].store(number as i64, Ordering::SeqCst);
            let ended = match random(&mut state) % 4 {
                0 => {
                    let time = Duration::from_micros(random(&mut state) % 200);
                    client.call_timeout(&request, time, &mut reply)
                }
                1 => client
                    .start(&request)
                    .and_then(|pending| pending.wait(&mut reply)),
                _ => client.call(&request, &mut reply),
            };
            let ended = match ended {
                Ok(()) => {
                    assert_eq!(check(&reply), Ok(!(at as u64)));
                    REPLIED
                }
                Err(CallError::ServerDied | CallError::TimedOut { taken: true }) => PERHAPS,
                Err(CallError::NoServers | CallError::TimedOut { taken: false }) => NEVER,
                // Slots whose calls are in hand.
                Err(CallError::Crowded { .. }) => NEVER,
                Err(error) => panic!("{error}"),
            };
            self.ended[at].store(ended, Ordering::SeqCst);
            number += 1;
        }
    }

    fn serve(self, options: &Options) {
        let mut server = Server::open_or_create(name(), options).expect("a server");
        let mut bytes = vec![];
        while self.stop.load(Ordering::SeqCst) < 2 {
            let found = server
                .next_timeout(Duration::from_millis(50))
                .expect("next");
            if let Some(request) = found {
                bytes.clear();
                request.append_to(&mut bytes);
                let number = check(&bytes).expect("whole");
                self.executed[number as usize].fetch_add(1, Ordering::SeqCst);
                answer(request, &mut bytes);
            }
        }
    }
}

fn random_kills() -> Outcome {
    let kills = quick_or_long(600, 30_000);
    let options = Options {
        calls: 8,
        request: 400,
        reply: 400,
        ..Options::default()
    };
    let log = Log {
        executed: shared_words(CLIENTS * NUMBERS),
        ended: shared_words(CLIENTS * NUMBERS),
        begun: shared_words(CLIENTS),
        stop: &shared_words(1)[0],
    };
    let spawn = |who: usize| {
        child(|| {
            if who < CLIENTS {
                log.call(who, &options);
            } else {
                log.serve(&options);
            }
        })
    };
    let began = Instant::now();
    // Somebody stays, so that the service does.
    let stays = Client::open_or_create(name(), &options).expect("a client");
    let mut children = killed_at_random(kills, CLIENTS + SERVERS, spawn);
    log.stop.store(1, Ordering::SeqCst);
    let servers: Vec<_> = children.drain(CLIENTS..).collect();
    children.into_iter().for_each(Child::join);
    log.stop.store(2, Ordering::SeqCst);
    servers.into_iter().for_each(Child::join);
    // All slots are to be had, whatever the dead left in them.
    let all: Vec<_> = (1..options.calls)
        .map(|_| Client::open_or_create(name(), &options).expect("a client"))
        .collect();
    drop((all, stays));
    let mut ends = [0; 4];
    for (number, executed) in log.executed.iter().enumerate() {
        let executed = executed.load(Ordering::SeqCst);
        let ended = log.ended[number].load(Ordering::SeqCst);
        assert!(executed <= 1, "{number} was executed {executed} times");
        match ended {
            REPLIED => assert_eq!(executed, 1, "{number} has a reply"),
            NEVER => assert_eq!(executed, 0, "{number} was taken back"),
            _ => {}
        }
        ends[ended as usize] += 1;
    }
    let orphans = left().orphans.len();
    assert_nothing_left("after the kills");
    let [_, replied, perhaps, never] = ends;
    assert!(replied > kills, "{ends:?}");
    Outcome::Pass(format!(
        "{kills} kills, {replied} replies, {perhaps} calls in doubt, {never} taken back, \
         {orphans} presence orphans, {:?}",
        began.elapsed()
    ))
}
