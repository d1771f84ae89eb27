//! The body for `service`: see `fuzzing`.

use crate::channel::{Channel, Shape as _};
use crate::fuzzing::{Input, OPERATIONS, Spoiler, region, told};
use crate::service::{CallError, Client, Pending, Request, Server};
use crate::service_layout::{Shape, layout, reply, request, seat, slot};
use shmem::{Region, Waiting, wait::Patience};
use std::time::Duration;

/// Most clients, servers and calls that were started, at a time.
const MOST: usize = 3;

/// Clients and servers on a service that is spoilt between their operations.
///
/// # Panics
/// If there is something to mend.
pub fn service(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (calls, servers) = (1 + input.below(4), 1 + input.below(2));
    let (ask, answer) = (
        input.choose(&[0, 1, 48, 1000, 5000]),
        input.choose(&[0, 1, 48, 1000, 5000]),
    );
    let (shape, length) = Shape::plan(calls, servers, ask, answer).expect("a small service");
    let region = region(&Shape::EXPECTED, length);
    shape.format(&region).expect("as long as planned");
    let mut layouts = vec![(0, &layout::LAYOUT)];
    layouts.extend((0..servers).map(|seat| (shape.seat(seat).0, &seat::LAYOUT)));
    for slot in 0..calls {
        layouts.push((shape.at(slot, 0), &slot::LAYOUT));
        layouts.push((shape.request(slot), &request::LAYOUT));
        layouts.push((shape.reply(slot), &reply::LAYOUT));
    }
    let mut spoiler = Spoiler::new(&region, &layouts, shape.request(0));
    let mut serving: Vec<_> = server(&region).into_iter().collect();
    let mut asking: Vec<_> = client(&region, &mut input).into_iter().collect();
    let mut started: Vec<Pending> = vec![];
    let mut bytes = vec![];
    for _ in 0..OPERATIONS {
        if input.is_over() {
            break;
        }
        match input.byte() % 32 {
            0 if serving.len() < MOST => serving.extend(server(&region)),
            1 if asking.len() < MOST => asking.extend(client(&region, &mut input)),
            2 if !serving.is_empty() => {
                serving.swap_remove(input.below(serving.len()));
            }
            3 if !asking.is_empty() => {
                asking.swap_remove(input.below(asking.len()));
            }
            4..=11 => spoiler.spoil(&mut input),
            12..=14 if !asking.is_empty() => {
                let at = input.below(asking.len());
                let client = &mut asking[at];
                let request = vec![7; length_of(client.longest(), &mut input)];
                let called = client.call_timeout(&request, Duration::ZERO, &mut bytes);
                ended(called, &bytes, answer);
            }
            15..=18 if !asking.is_empty() && started.len() < MOST => {
                let at = input.below(asking.len());
                let client = &mut asking[at];
                let length = length_of(client.longest(), &mut input);
                if input.byte().is_multiple_of(3) {
                    ask_in_place(client, length, answer, &mut spoiler, &mut input);
                } else {
                    started.extend(told(client.start(&vec![7; length])));
                }
            }
            19..=22 if !started.is_empty() => {
                let at = input.below(started.len());
                match input.byte() % 4 {
                    0 => drop(started.swap_remove(at)),
                    1 => {
                        told(started[at].is_over(Patience::none()));
                    }
                    _ => {
                        let call = started.swap_remove(at);
                        let called = call.wait_timeout(Duration::ZERO, &mut bytes);
                        ended(called, &bytes, answer);
                    }
                }
            }
            _ if !serving.is_empty() => {
                let at = input.below(serving.len());
                serve(&mut serving[at], &mut spoiler, &mut input);
            }
            _ => {}
        }
    }
}

fn ask_in_place(
    client: &mut Client,
    length: usize,
    longest: usize,
    spoiler: &mut Spoiler,
    input: &mut Input<'_>,
) {
    let Some(mut loan) = told(client.loan(length)) else {
        return;
    };
    spoiler.spoil(input);
    assert_eq!(loan.bytes().copy_in(0, &vec![7; length]), Ok(()));
    assert!(loan.bytes().copy_in(length, b"x").is_err());
    if input.byte().is_multiple_of(4) {
        return;
    }
    let Some(answer) = told(loan.call(Patience::none())) else {
        return;
    };
    spoiler.spoil(input);
    let mut bytes = vec![];
    ended(answer.append_to(&mut bytes), &bytes, longest);
}

fn length_of(longest: usize, input: &mut Input<'_>) -> usize {
    input.choose(&[0, 1, 40, longest, longest + 1])
}

/// The shape that counts is the one that was checked at opening; no segment has room for more.
fn ended(called: Result<(), CallError>, reply: &[u8], longest: usize) {
    told(called);
    // A shape that was spoilt before the client came, and fits all the same, may have more.
    assert!(reply.len() <= longest.max(1 << 16));
}

fn server(region: &Region) -> Option<Server> {
    let server = told(Channel::on(region).and_then(Server::of))?;
    Some(server.waiting(Waiting::Park))
}

fn client(region: &Region, input: &mut Input<'_>) -> Option<Client> {
    let client = told(Channel::on(region).and_then(Client::of))?;
    let follow = input.byte().is_multiple_of(2);
    Some(client.follow(follow).waiting(Waiting::Park))
}

fn serve(server: &mut Server, spoiler: &mut Spoiler, input: &mut Input<'_>) {
    let taken = match input.byte() % 4 {
        0 => told(server.next_timeout(Duration::ZERO)),
        _ => told(server.try_next()),
    };
    let Some(Some(request)) = taken else { return };
    read(&request);
    spoiler.spoil(input);
    read(&request);
    let length = length_of(request.longest_reply(), input);
    match input.byte() % 8 {
        0 => drop(request),
        1 => std::mem::forget(request),
        2 => {
            told(request.fail(&vec![1; length]));
        }
        3 | 4 => {
            let Some(mut reply) = told(request.loan(length)) else {
                return;
            };
            read(reply.request());
            spoiler.spoil(input);
            assert_eq!(reply.copy_in(0, &vec![2; length]), Ok(()));
            assert!(reply.copy_in(length, b"x").is_err());
            reply.send();
        }
        _ => {
            told(request.reply(&vec![3; length]));
        }
    }
}

/// Reads a request in every way.
fn read(request: &Request<'_>) {
    let mut all = vec![0; request.len()];
    assert_eq!(request.copy_out(0, &mut all), Ok(()));
    assert!(request.copy_out(1, &mut all).is_err() || all.is_empty());
    request.append_to(&mut all);
    assert_eq!(all.len(), 2 * request.len());
}
