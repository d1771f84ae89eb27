//! A service as its users see it.

use std::thread;
use std::time::{Duration, Instant};
use sysv::Mode;
use tombolo::service::{self, CallError, Client, Options, ServeError, Server};
use tombolo::shmem::Waiting;
use tombolo::{Lifetime, Name, Patience, Reason};

/// A name of this test's own, removed when it ends.
struct Mine(Name);

impl Mine {
    fn new(what: &str) -> Self {
        Self(Name::mine(&format!("test-service-{what}-{}", std::process::id())).unwrap())
    }

    fn server(&self) -> Server {
        Server::open_or_create(self.0.clone(), &SMALL).unwrap()
    }

    fn client(&self) -> Client {
        Client::open_or_create(self.0.clone(), &SMALL).unwrap()
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let _ = service::remove(self.0.clone());
    }
}

const SMALL: Options = Options {
    calls: 3,
    servers: 2,
    request: 100,
    reply: 200,
    mode: Mode::from_bits_truncate(0o600),
    lifetime: Lifetime::WhileUsed,
};

const SHORT: Duration = Duration::from_millis(20);

/// Serves what comes until the request is empty: the bytes backwards.
fn backwards(mut server: Server) {
    loop {
        let request = server.next().unwrap();
        let mut bytes = vec![];
        request.append_to(&mut bytes);
        bytes.reverse();
        request.reply(&bytes).unwrap();
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn replies_find_their_clients() {
    for waiting in [Waiting::Adaptive, Waiting::Park, Waiting::Spin] {
        let mine = Mine::new(&format!("calls-{waiting:?}").to_lowercase());
        let server = mine.server().waiting(waiting);
        let serving = thread::spawn(|| backwards(server));
        thread::scope(|scope| {
            for me in 0..2u8 {
                let mut client = mine.client().waiting(waiting);
                scope.spawn(move || {
                    let mut reply = vec![];
                    for number in 1..=100u8 {
                        let request = vec![me, number, 7];
                        client.call(&request, &mut reply).unwrap();
                        assert_eq!(reply, [7, number, me]);
                    }
                });
            }
        });
        mine.client().call(b"", &mut vec![1]).unwrap();
        serving.join().unwrap();
    }
}

#[test]
fn several_calls_at_a_time() {
    let mine = Mine::new("pending");
    let mut server = mine.server();
    let mut client = mine.client();
    let mut reply = vec![];
    let first = client.start(b"one").unwrap();
    let mut second = client.start(b"two").unwrap();
    let third = client.start(b"three").unwrap();
    let limit = SMALL.calls;
    assert_eq!(
        client.start(b"four").unwrap_err(),
        CallError::Crowded { limit }
    );
    drop(third);
    assert_eq!(second.is_over(Patience::none()), Ok(false));
    for _ in 0..2 {
        let request = server.next().unwrap();
        let mut bytes = vec![];
        request.append_to(&mut bytes);
        bytes.push(b'!');
        request.reply(&bytes).unwrap();
    }
    assert!(server.try_next().unwrap().is_none());
    assert_eq!(second.is_over(Patience::none()), Ok(true));
    second.wait(&mut reply).unwrap();
    assert_eq!(reply, b"two!");
    first.wait(&mut reply).unwrap();
    assert_eq!(reply, b"one!");
    // Dropped before anybody took it: never executed.
    drop(client.start(b"never").unwrap());
    assert!(server.try_next().unwrap().is_none());
    // Dropped while a server has it: its reply goes nowhere.
    let late = client.start(b"late").unwrap();
    let request = server.next().unwrap();
    drop(late);
    let others: Vec<_> = (0..2).map(|_| client.start(b"other").unwrap()).collect();
    assert!(client.start(b"too many").is_err());
    request.reply(b"too late").unwrap();
    let again = client.start(b"again").unwrap();
    for _ in 0..3 {
        server.next().unwrap().reply(b"in time").unwrap();
    }
    for pending in others.into_iter().chain([again]) {
        pending.wait(&mut reply).unwrap();
        assert_eq!(reply, b"in time");
    }
}

#[test]
fn calls_without_a_reply() {
    let mine = Mine::new("errors");
    let mut client = mine.client();
    let mut reply = vec![1];
    assert_eq!(client.call(b"?", &mut reply), Err(CallError::NoServers));
    assert!(reply.is_empty());
    let mut server = mine.server();
    assert!(
        server.try_next().unwrap().is_none(),
        "what nobody took was taken back"
    );
    let too_long = CallError::TooLong {
        length: 101,
        longest: 100,
    };
    assert_eq!(client.call(&[0; 101], &mut reply), Err(too_long));
    let start = Instant::now();
    let late = client.call_timeout(b"?", SHORT, &mut reply);
    assert_eq!(late, Err(CallError::TimedOut { taken: false }));
    assert!(start.elapsed() >= SHORT);
    assert!(server.try_next().unwrap().is_none());
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let dropped = client.call(b"drop it", &mut reply);
            assert_eq!(dropped, Err(CallError::Dropped));
            let failed = client.call(b"fail", &mut reply);
            assert_eq!(failed, Err(CallError::Failed));
            assert_eq!(reply, b"so it is");
            client.call(b"too long", &mut reply).unwrap();
            assert_eq!(reply, [9; 200]);
        });
        drop(server.next().unwrap());
        server.next().unwrap().fail(b"so it is").unwrap();
        let refused = server.next().unwrap().reply(&[9; 201]).unwrap_err();
        assert!(refused.to_string().contains("201 bytes"), "{refused}");
        refused.request.reply(&[9; 200]).unwrap();
        call.join().unwrap();
    });
    // A call that a server has when time is over; the next one has another slot meanwhile.
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let late = client.call_timeout(b"slow", SHORT, &mut reply);
            assert_eq!(late, Err(CallError::TimedOut { taken: true }));
            client.call(b"next", &mut reply).unwrap();
            assert_eq!(reply, b"reply to next");
        });
        let mut other = mine.server();
        let slow = server.next().unwrap();
        let request = other.next().unwrap();
        let mut bytes = b"reply to ".to_vec();
        request.append_to(&mut bytes);
        slow.reply(b"late").unwrap();
        request.reply(&bytes).unwrap();
        call.join().unwrap();
    });
}

#[test]
fn the_last_server_leaves() {
    let mine = Mine::new("leaves");
    let mut client = mine.client().waiting(Waiting::Park);
    let (mut reply, first) = (vec![], mine.server());
    let second = mine.server();
    thread::scope(|scope| {
        let call = scope.spawn(|| client.call(b"?", &mut reply));
        // Whenever: one is still there until it is gone too.
        drop(first);
        assert!(!call.is_finished());
        drop(second);
        assert_eq!(call.join().unwrap(), Err(CallError::NoServers));
    });
    let mut client = client.follow(true);
    thread::scope(|scope| {
        let call = scope.spawn(|| client.call(b"?", &mut reply));
        let mut server = mine.server();
        server.next().unwrap().reply(b"!").unwrap();
        call.join().unwrap().unwrap();
    });
    assert_eq!(reply, b"!");
}

#[test]
fn in_place() {
    let mine = Mine::new("place");
    let mut client = mine.client();
    let mut server = mine.server();
    let pending = client.start(b"0123456789").unwrap();
    let request = server.next().unwrap();
    let mut part = [0; 3];
    request.copy_out(4, &mut part).unwrap();
    assert_eq!((&part, request.len()), (b"456", 10));
    assert!(request.copy_out(8, &mut part).is_err());
    let mut loan = request.loan(6).unwrap();
    loan.copy_in(0, b"abc").unwrap();
    assert!(loan.copy_in(4, b"xyz").is_err());
    loan.request().copy_out(7, &mut part).unwrap();
    loan.copy_in(3, &part).unwrap();
    assert_eq!(loan.len(), 6);
    loan.send();
    let mut reply = vec![];
    pending.wait(&mut reply).unwrap();
    assert_eq!(reply, b"abc789");
    // A loan that is dropped is no reply; nor is a request that is forgotten.
    let pending = client.start(b"").unwrap();
    drop(server.next().unwrap().loan(3).unwrap());
    assert_eq!(pending.wait(&mut reply), Err(CallError::Dropped));
    let pending = client.start(b"").unwrap();
    std::mem::forget(server.next().unwrap());
    drop(server);
    assert_eq!(pending.wait(&mut reply), Err(CallError::Dropped));
}

#[test]
fn places_are_limited() {
    let mine = Mine::new("crowded");
    let servers = [mine.server(), mine.server()];
    let third = Server::open(mine.0.clone()).unwrap_err();
    let what = "servers";
    assert!(matches!(third.reason(), Reason::Crowded { what: w, limit: 2 } if *w == what));
    let mut clients: Vec<_> = (0..3).map(|_| mine.client()).collect();
    let fourth = Client::open(mine.0.clone()).unwrap_err();
    assert!(fourth.to_string().contains("3 calls already"), "{fourth}");
    clients.pop();
    let late = mine.client();
    drop((servers, clients, late));
    let gone = Client::open(mine.0.clone());
    assert!(gone.is_err_and(|error| error.is_not_found()));
    let huge = Options {
        request: usize::MAX,
        ..SMALL
    };
    let refused = Server::open_or_create(mine.0.clone(), &huge).unwrap_err();
    assert!(matches!(refused.reason(), Reason::Capacity(_)));
}

#[test]
fn who_waits_learns_of_the_removal() {
    let mine = Mine::new("removed");
    let mut server = mine.server();
    let mut client = mine.client();
    thread::scope(|scope| {
        let serves = scope.spawn(|| server.next().map(drop));
        let calls = scope.spawn(|| {
            let mut reply = vec![];
            // Dropped before, and removed after.
            while client.call(b"?", &mut reply) == Err(CallError::Dropped) {}
            client.call(b"?", &mut reply)
        });
        assert_eq!(serves.join().unwrap(), Ok(()));
        service::remove(mine.0.clone()).unwrap();
        assert_eq!(calls.join().unwrap(), Err(CallError::Removed));
    });
    assert_eq!(server.next().map(drop), Err(ServeError::Removed));
    assert_eq!(server.try_next().map(drop), Err(ServeError::Removed));
    assert_eq!(client.start(b"").unwrap_err(), CallError::Removed);
}

#[test]
fn messages_of_any_length() {
    let mine = Mine::new("lengths");
    let options = Options::default();
    let server = Server::open_or_create(mine.0.clone(), &options).unwrap();
    let mut client = Client::open(mine.0.clone()).unwrap();
    let longest = client.longest();
    assert_eq!((longest, server.longest()), (256 << 10, 256 << 10));
    let serving = thread::spawn(|| backwards(server));
    let mut reply = vec![];
    for length in [1, 47, 48, 49, 64, 4096, longest - 1, longest] {
        let request: Vec<_> = (0..length).map(|at| (at % 251) as u8).collect();
        client.call(&request, &mut reply).unwrap();
        reply.reverse();
        assert_eq!(reply, request);
    }
    client.call(b"", &mut reply).unwrap();
    serving.join().unwrap();
}

#[test]
fn long_ones_in_place_go_round() {
    let name = format!("service-round-{}", std::process::id());
    let name: Name = name.parse().unwrap();
    let options = Options {
        request: 20_000,
        reply: 30_000,
        ..Options::default()
    };
    let mut server = Server::open_or_create(name.clone(), &options).unwrap();
    let mut client = Client::open(name).unwrap();
    let serving = thread::spawn(move || {
        for _ in 0..20 {
            let request = server.next().unwrap();
            let mut text = Vec::new();
            request.append_to(&mut text);
            let mut part = [0; 2];
            request.copy_out(request.len() - 2, &mut part).unwrap();
            assert_eq!(part, text[text.len() - 2..]);
            let mut again = Vec::new();
            request.bytes().append_to(&mut again);
            assert_eq!(again, text);
            let Ok(mut reply) = request.loan(text.len() + 1000) else {
                panic!("it fits");
            };
            reply.copy_in(1000, &text).unwrap();
            reply.bytes().copy_in(0, &[text[0] + 100; 1000]).unwrap();
            reply.send();
        }
    });
    let mut reply = Vec::new();
    for round in 0..20u8 {
        // Of all lengths, shortened, and by copies in between.
        let length = [4096, 6000, 10_000, 20_000, 100][usize::from(round) % 5];
        if round % 7 == 3 {
            client.call(&vec![round; length], &mut reply).unwrap();
        } else {
            let mut loan = client.loan(length).unwrap();
            loan.bytes().copy_in(0, &vec![round; length]).unwrap();
            let length = if round % 4 == 1 { 90 } else { length };
            let answer = loan.shortened(length).call(Patience::FOREVER).unwrap();
            assert_eq!(answer.bytes().len(), length + 1000);
            reply.clear();
            answer.append_to(&mut reply).unwrap();
        }
        assert!(reply[..1000].iter().all(|byte| *byte == round + 100));
        assert!(reply[1000..].iter().all(|byte| *byte == round));
    }
    serving.join().unwrap();
}

#[test]
fn requests_are_written_and_replies_read_in_place() {
    let mine = Mine::new("in-place");
    let mut server = mine.server();
    let mut client = mine.client();
    let too_long = client.loan(101).map(drop);
    let (length, longest) = (101, 100);
    assert_eq!(too_long, Err(CallError::TooLong { length, longest }));
    // One that is let go asks nothing.
    {
        let mut loan = client.loan(3).unwrap();
        loan.bytes().copy_in(0, b"not").unwrap();
        assert!(loan.bytes().copy_in(1, b"not").is_err());
    }
    assert!(server.try_next().unwrap().is_none());
    // Nor is one executed whose time is over.
    let loan = client.loan(3).unwrap();
    let late = loan.call(SHORT.into()).map(drop);
    assert_eq!(late, Err(CallError::TimedOut { taken: false }));
    assert!(server.try_next().unwrap().is_none());
    thread::scope(|scope| {
        scope.spawn(|| {
            for (request, failed) in [(&b"one"[..], false), (b"tw", true), (b"", false)] {
                let next = server.next().unwrap();
                let mut bytes = vec![];
                next.append_to(&mut bytes);
                assert_eq!(bytes, request);
                let ended = if failed {
                    next.fail(b"no")
                } else {
                    next.reply(b"yes")
                };
                ended.unwrap();
            }
            drop(server.next().unwrap());
        });
        let mut loan = client.loan(3).unwrap();
        loan.bytes().copy_in(0, b"one").unwrap();
        let answer = loan.call(Patience::FOREVER).unwrap();
        assert!(!answer.has_failed());
        assert_eq!(answer.bytes().read(), Ok(*b"yes"));
        let mut loan = client.loan(5).unwrap();
        loan.bytes().copy_in(0, b"two").unwrap();
        let answer = loan.shortened(2).call(Patience::FOREVER).unwrap();
        assert!(answer.has_failed());
        let mut error = vec![];
        assert_eq!(answer.append_to(&mut error), Err(CallError::Failed));
        assert_eq!(error, b"no");
        let loan = client.loan(0).unwrap();
        let answer = loan.call(Patience::FOREVER).unwrap();
        assert_eq!(answer.bytes().len(), 3);
        let dropped = client.loan(1).unwrap().call(Patience::FOREVER).map(drop);
        assert_eq!(dropped, Err(CallError::Dropped));
    });
    drop(server);
    let nobody = client.loan(1).unwrap().call(Patience::FOREVER).map(drop);
    assert_eq!(nobody, Err(CallError::NoServers));
    let loan = client.loan(1).unwrap();
    service::remove(mine.0.clone()).unwrap();
    let removed = loan.call(Patience::FOREVER).map(drop);
    assert_eq!(removed, Err(CallError::Removed));
}
