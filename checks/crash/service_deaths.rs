//! Those who wait for somebody learn of its death by `SIGKILL` in time.

use checks::message::{check, message};
use checks::process::{BOUND, Child, Gate, child, is_asleep, wait_until};
use checks::space::{Prompt, assert_nothing_left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::time::Instant;
use tombolo::service::{CallError, Client, Options, ServeError, Server};
use tombolo::{Lifetime, Name};

pub const CASES: &[Case] = &[
    case("service::sleeping_client_hears_of_its_server", server_dies),
    case(
        "service::sleeping_client_hears_of_the_last_server",
        last_server_dies,
    ),
    case("service::sleeping_server_takes_over", taker_dies),
    case("service::clients_come_and_die", clients_die),
    case("service::clients_die_writing_in_place", writers_die),
    case("service::forked_handles_are_refused", forked),
];

/// Bytes of a message that goes round two places.
const LONG: usize = 5000;

fn name() -> Name {
    Name::mine("death-service").expect("a name")
}

fn options() -> Options {
    Options {
        calls: 4,
        request: LONG,
        reply: LONG,
        ..Options::default()
    }
}

fn server() -> Server {
    Server::open_or_create(name(), &options()).expect("a server")
}

fn client() -> Client {
    Client::open_or_create(name(), &options()).expect("a client")
}

fn rounds(mut round: impl FnMut(&mut Prompt)) -> Outcome {
    let mut prompt = Prompt::default();
    let start = Instant::now();
    for _ in 0..quick_or_long(20, 500) {
        round(&mut prompt);
        assert_nothing_left("after a round");
    }
    Outcome::Pass(format!("{prompt:?}, {:?}", start.elapsed()))
}

/// Kills `victim` when `sleeper` sleeps, and times how long the sleeper takes to come through.
fn kill_over(sleeper: Child, victim: Child, prompt: &mut Prompt) {
    wait_until(BOUND, || is_asleep(sleeper.pid()));
    victim.kill();
    prompt.time("noticing a death", || sleeper.join());
}

/// A server that takes a request and keeps it.
fn keeper(ready: &Gate, taken: &Gate) -> Child {
    child(|| {
        let mut server = server();
        ready.open();
        let request = server.next().expect("next");
        taken.open();
        Gate::new().wait();
        drop(request);
    })
}

/// Another server is there, which does not help: the call is not executed again.
fn server_dies() -> Outcome {
    rounds(|prompt| {
        let (ready, taken) = (Gate::new(), Gate::new());
        let victim = keeper(&ready, &taken);
        ready.wait();
        let sleeper = child(|| {
            let mut reply = vec![];
            let ended = client().call(&message(1, 30), &mut reply);
            assert_eq!(ended, Err(CallError::ServerDied));
        });
        taken.wait();
        let mut other = server();
        kill_over(sleeper, victim, prompt);
        assert!(other.try_next().expect("next").is_none());
    })
}

/// A server that is there and takes nothing dies; then there is none.
fn last_server_dies() -> Outcome {
    rounds(|prompt| {
        let (ready, opened) = (Gate::new(), Gate::new());
        let victim = child(|| {
            let _server = server();
            ready.open();
            Gate::new().wait();
        });
        ready.wait();
        let sleeper = child(|| {
            let mut client = client();
            opened.open();
            let ended = client.call(&message(1, 30), &mut vec![]);
            assert_eq!(ended, Err(CallError::NoServers));
        });
        opened.wait();
        kill_over(sleeper, victim, prompt);
        assert!(server().try_next().expect("next").is_none());
    })
}

/// A server has a slot of a client that has given the call up and called again, in another slot;
/// the dead one's slot is used again as well.
fn taker_dies() -> Outcome {
    rounds(|prompt| {
        let (ready, taken) = (Gate::new(), Gate::new());
        let victim = keeper(&ready, &taken);
        ready.wait();
        let mut client = client();
        let first = client.start(&message(1, 30)).expect("start");
        taken.wait();
        let sleeper = child(|| {
            let mut server = server();
            ready.open();
            for number in 2..=5 {
                let request = server.next().expect("next");
                let mut bytes = vec![];
                request.append_to(&mut bytes);
                assert_eq!(check(&bytes), Ok(number));
                request.reply(&bytes).expect("it fits");
            }
        });
        ready.wait();
        drop(first);
        wait_until(BOUND, || is_asleep(sleeper.pid()));
        victim.kill();
        let mut reply = vec![];
        for number in 2..=5 {
            let call = || client.call(&message(number, 30), &mut reply);
            prompt.time("a call", call).expect("call");
            assert_eq!(check(&reply), Ok(number));
        }
        sleeper.join();
    })
}

/// Clients that are killed with calls in every state: a server is not disturbed, and their slots
/// are used again.
fn clients_die() -> Outcome {
    let mut server = server();
    let mut prompt = Prompt::default();
    for round in 0..quick_or_long(60, 3000u64) {
        let started = Gate::new();
        let dies = child(|| {
            let mut client = client();
            let calls: Vec<_> = (0..3)
                .map(|i| client.start(&message(i, 30)).expect("start"))
                .collect();
            started.open();
            Gate::new().wait();
            drop(calls);
        });
        started.wait();
        for _ in 0..round % 3 {
            server
                .next()
                .expect("next")
                .reply(&message(9, 30))
                .expect("it fits");
        }
        let in_hand = server.next().expect("next");
        dies.kill();
        in_hand.reply(&message(9, 30)).expect("it fits");
        // A new one takes the slots and the calls of the dead one back.
        let mut client = prompt.time("open", client);
        let calls: Vec<_> = (10..14)
            .map(|number| prompt.time("start", || client.start(&message(number, 30))))
            .take(3)
            .collect();
        for number in 10..13 {
            let request = server.next().expect("next");
            let mut bytes = vec![];
            request.append_to(&mut bytes);
            let found = check(&bytes).expect("whole");
            // Of the slots that nobody needed the calls may still come.
            if found < 10 {
                continue;
            }
            assert!((10..13).contains(&found), "{found} {number}");
            request.reply(&bytes).expect("it fits");
        }
        drop(calls);
        while server.try_next().expect("next").is_some() {}
    }
    drop(server);
    drop(client());
    assert_nothing_left("after the clients");
    Outcome::Pass(format!("{prompt:?}"))
}

/// Clients die with a request in place half written: nobody sees it, and its slot serves the next.
fn writers_die() -> Outcome {
    let mut server = server();
    let mut prompt = Prompt::default();
    for _ in 0..quick_or_long(20, 1000) {
        let written = Gate::new();
        let dies = child(|| {
            let mut client = client();
            let mut loan = client.loan(LONG).expect("a loan");
            let half = &message(1, LONG)[..LONG / 2];
            loan.bytes().copy_in(0, half).expect("it fits");
            written.open();
            Gate::new().wait();
            // Not let go before.
            assert_eq!(loan.bytes().len(), LONG);
        });
        written.wait();
        dies.kill();
        assert!(server.try_next().expect("next").is_none());
        // All slots are there, that of the dead one among them.
        let mut clients: Vec<_> = (0..4).map(|_| prompt.time("open", client)).collect();
        let server = &mut server;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..4 {
                    let request = server.next().expect("next");
                    let mut bytes = vec![];
                    request.append_to(&mut bytes);
                    let mut reply = request.loan(bytes.len()).expect("it fits");
                    reply.bytes().copy_in(0, &bytes).expect("it fits");
                    reply.send();
                }
            });
            for (client, number) in clients.iter_mut().zip(2..) {
                let mut loan = client.loan(LONG).expect("a loan");
                let request = message(number, LONG);
                loan.bytes().copy_in(0, &request).expect("it fits");
                let answer = loan.call(BOUND.into()).expect("a reply");
                let mut reply = vec![];
                answer.append_to(&mut reply).expect("no error");
                assert_eq!(check(&reply), Ok(number));
            }
        });
    }
    drop(server);
    drop(client());
    assert_nothing_left("after the clients");
    Outcome::Pass(format!("{prompt:?}"))
}

/// A child that has the handles by a fork, a request in hand and a call under way can do nothing
/// with them, and does no harm by letting them go.
fn forked() -> Outcome {
    let options = Options {
        lifetime: Lifetime::UntilRemoved,
        ..options()
    };
    let mut server = Server::open_or_create(name(), &options).expect("a server");
    let mut client = client();
    let pending = client.start(&message(1, 30)).expect("start");
    std::mem::forget(server.next().expect("next"));
    let mut handles = Some((server, client, pending));
    let inherits = child(|| {
        let (mut server, mut client, pending) = handles.take().expect("inherited");
        assert_eq!(server.next().map(drop), Err(ServeError::Forked));
        let refused = client.call(b"", &mut vec![]);
        assert_eq!(refused, Err(CallError::Forked));
        assert_eq!(pending.wait(&mut vec![]), Err(CallError::Forked));
        drop((server, client));
        // It may open its own.
        drop(self::client());
    });
    inherits.join();
    let (mut server, mut client, pending) = handles.expect("the child took its own");
    assert!(server.try_next().expect("next").is_none());
    let mut reply = vec![];
    assert_eq!(pending.wait(&mut reply), Err(CallError::Dropped));
    let pending = client.start(&message(2, 30)).expect("start");
    let request = server.next().expect("the parent's server is still there");
    request.reply(&message(3, 40)).expect("it fits");
    pending.wait(&mut reply).expect("and its client");
    assert_eq!(check(&reply), Ok(3));
    drop((server, client));
    tombolo::service::remove(name()).expect("remove");
    assert_nothing_left("after the fork");
    Outcome::Pass("refused".into())
}
