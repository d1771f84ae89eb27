//! Calls of tasks, and tasks that serve.

use crate::stage::{name, on_tokio};
use checks::message::{check, message};
use checks::process::{Gate, child};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::time::Duration;
use tombolo::service::{CallError, Client, Options, Server};

pub const CASES: &[Case] = &[
    case("service::calls_of_tasks", calls),
    case("service::a_task_serves", serves),
    case("service::calls_given_up", given_up),
    case("service::death_of_the_server", server_dies),
];

fn server() -> Server {
    Server::open_or_create(name(0), &Options::default()).expect("a server")
}

fn client() -> Client {
    Client::open_or_create(name(0), &Options::default()).expect("a client")
}

/// A process that answers with the request until it is told to end.
fn echo(until: &Gate) -> impl FnOnce() {
    || {
        let mut server = server();
        loop {
            let request = server
                .next_timeout(Duration::from_millis(20))
                .expect("serve");
            match request {
                Some(request) => {
                    let mut bytes = vec![];
                    request.append_to(&mut bytes);
                    if bytes.is_empty() {
                        break request.reply(b"the end").expect("reply");
                    }
                    request.reply(&bytes).expect("reply");
                }
                None => continue,
            }
        }
        until.wait();
    }
}

fn calls() -> Outcome {
    let count = quick_or_long(5_000u64, 200_000);
    let until = Gate::new();
    let server = child(echo(&until));
    let mut client = client().follow(true).into_async();
    on_tokio(async {
        let mut reply = vec![];
        for number in 0..count {
            client
                .call(&message(number, 40), &mut reply)
                .await
                .expect("call");
            assert_eq!(check(&reply), Ok(number));
        }
        let calls = [0, 1, 2].map(|number| client.start(&message(number, 40)).expect("start"));
        for (number, call) in (0..).zip(calls) {
            call.wait(&mut reply).await.expect("wait");
            assert_eq!(check(&reply), Ok(number));
        }
        client.call(b"", &mut reply).await.expect("call");
        assert_eq!(reply, b"the end");
    });
    until.open();
    server.join();
    drop(client);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} calls"))
}

fn serves() -> Outcome {
    let count = quick_or_long(5_000u64, 200_000);
    let clients = [0, 1].map(|_| {
        child(|| {
            let mut client = client().follow(true);
            let mut reply = vec![];
            for number in 0..count {
                client.call(&message(number, 40), &mut reply).expect("call");
                assert_eq!(check(&reply), Ok(number));
            }
        })
    });
    let mut server = server().into_async();
    on_tokio(async {
        for _ in 0..2 * count {
            let request = server.next().await.expect("next");
            let mut bytes = vec![];
            request.append_to(&mut bytes);
            // In hand while the task waits for something else.
            tokio::task::yield_now().await;
            request.reply(&bytes).expect("reply");
        }
    });
    drop(server);
    clients.into_iter().for_each(checks::process::Child::join);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} calls of each of two clients"))
}

/// Calls that are dropped in the middle leave nothing behind: neither their replies, which nobody
/// else gets, nor their slots.
fn given_up() -> Outcome {
    let count = quick_or_long(5_000u64, 200_000);
    let until = Gate::new();
    let server = child(echo(&until));
    let mut client = client().follow(true).into_async();
    let given_up = on_tokio(async {
        let mut reply = vec![];
        let mut given_up = 0;
        // Where the server runs as soon as it is rung for, few calls are given up: then there are more.
        let more = |number, given_up| given_up <= count / 100 && number < 100 * count;
        for number in 0.. {
            if number >= count && !more(number, given_up) {
                break;
            }
            let request = message(number, 40);
            tokio::select! {
                biased;
                called = client.call(&request, &mut reply) => {
                    called.expect("call");
                    assert_eq!(check(&reply), Ok(number));
                }
                () = tokio::task::yield_now() => given_up += 1,
            }
            if number % 3 == 0 {
                client
                    .call(&message(number, 40), &mut reply)
                    .await
                    .expect("call");
                assert_eq!(check(&reply), Ok(number));
            }
        }
        client.call(b"", &mut reply).await.expect("call");
        given_up
    });
    until.open();
    server.join();
    drop(client);
    assert_nothing_left("at the end");
    assert!(given_up > count / 100, "only {given_up} were given up");
    Outcome::Pass(format!("{count} calls, {given_up} given up"))
}

fn server_dies() -> Outcome {
    let taken = Gate::new();
    let victim = child(|| {
        let mut server = server();
        taken.open();
        let _request = server.next().expect("next");
        taken.open();
        Gate::new().wait();
    });
    taken.wait();
    let mut caller = client().into_async();
    let end = on_tokio(async {
        let task = tokio::spawn(async move { caller.call(b"request", &mut vec![]).await });
        tokio::task::yield_now().await;
        taken.wait();
        victim.signal(libc::SIGKILL);
        task.await.expect("a task")
    });
    assert_eq!(end, Err(CallError::ServerDied));
    victim.join_status();
    // Somebody has to leave, so that what the dead one left goes.
    drop(client());
    assert_nothing_left("at the end");
    Outcome::Pass(String::new())
}
