//! The body for `topic`: see `fuzzing`.

use crate::channel::{Channel, Shape as _};
use crate::fuzzing::{Input, OPERATIONS, Spoiler, region, told};
use crate::topic::{Policy, Publisher, Start, Subscriber};
use crate::topic_layout::{Shape, cursor, lane, layout, seat};
use shmem::{Region, Waiting, wait::Patience};
use std::time::Duration;

/// Most publishers, and most subscribers, at a time.
const MOST: usize = 3;

/// Publishers and subscribers, among them some that only read, on a topic that is spoilt between
/// their operations.
///
/// # Panics
/// If there is something to mend.
pub fn topic(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (lanes, seats) = (1 + input.below(3), 1 + input.below(3));
    let capacity = input.choose(&[256, 512, 1024, 4096, 1 << 16]);
    let policy = input.choose(&[Policy::Overrun, Policy::WaitForSlowest]);
    let (shape, length) = Shape::plan(lanes, seats, capacity, policy).expect("a small topic");
    let region = region(&Shape::EXPECTED, length);
    shape.format(&region).expect("as long as planned");
    let mut layouts = vec![(0, &layout::LAYOUT)];
    layouts.extend((0..lanes).map(|lane| (shape.at(lane, 0), &lane::LAYOUT)));
    for seat in 0..seats {
        layouts.push((shape.seat_at(seat), &seat::LAYOUT));
        layouts.extend((0..lanes).map(|lane| (shape.cursor(seat, lane), &cursor::LAYOUT)));
    }
    let mut spoiler = Spoiler::new(&region, &layouts, shape.ring(0).at(0));
    let mut publishers: Vec<_> = publisher(&region).into_iter().collect();
    let mut subscribers: Vec<_> = subscriber(&region, &mut input).into_iter().collect();
    for _ in 0..OPERATIONS {
        if input.is_over() {
            break;
        }
        match input.byte() % 32 {
            0 if publishers.len() < MOST => publishers.extend(publisher(&region)),
            1 | 2 if subscribers.len() < MOST => {
                subscribers.extend(subscriber(&region, &mut input));
            }
            3 if !publishers.is_empty() => {
                publishers.swap_remove(input.below(publishers.len()));
            }
            4 if !subscribers.is_empty() => {
                subscribers.swap_remove(input.below(subscribers.len()));
            }
            5..=12 => spoiler.spoil(&mut input),
            13..=22 if !publishers.is_empty() => {
                let at = input.below(publishers.len());
                publish(&mut publishers[at], &mut spoiler, &mut input);
            }
            _ if !subscribers.is_empty() => {
                let at = input.below(subscribers.len());
                receive(&mut subscribers[at], &mut spoiler, &mut input);
            }
            _ => {}
        }
    }
}

fn publisher(region: &Region) -> Option<Publisher> {
    let publisher = told(Channel::on(region).and_then(Publisher::of))?;
    Some(publisher.waiting(Waiting::Park))
}

fn subscriber(region: &Region, input: &mut Input<'_>) -> Option<Subscriber> {
    let (channel, door) = told(Channel::<Shape>::on(region))?.into_reader();
    let count = input.byte().into();
    let start = input.choose(&[Start::Now, Start::Oldest, Start::Last(count)]);
    let only_reads = channel.shape.policy() == Policy::Overrun && input.byte().is_multiple_of(3);
    let door = (!only_reads).then_some(door);
    let subscriber = told(Subscriber::through(channel, door, start))?;
    let follow = input.byte().is_multiple_of(2);
    Some(subscriber.follow(follow).waiting(Waiting::Park))
}

fn publish(publisher: &mut Publisher, spoiler: &mut Spoiler, input: &mut Input<'_>) {
    let longest = publisher.longest();
    let length = input.choose(&[0, 1, 8, 48, 49, 100, longest, longest + 1]);
    match input.byte() % 4 {
        0 => {
            let Some(mut loan) = told(publisher.loan(length, Patience::none())) else {
                return;
            };
            spoiler.spoil(input);
            assert_eq!(loan.len(), length);
            assert_eq!(loan.copy_in(0, &vec![0xab; length]), Ok(()));
            assert!(loan.copy_in(length, b"x").is_err());
            if !input.byte().is_multiple_of(4) {
                loan.publish();
            }
        }
        1 => {
            told(publisher.publish_timeout(&vec![0xcd; length], Duration::ZERO));
        }
        _ => {
            told(publisher.try_publish(&vec![0xef; length]));
        }
    }
}

fn receive(subscriber: &mut Subscriber, spoiler: &mut Spoiler, input: &mut Input<'_>) {
    let mut bytes = vec![];
    match input.byte() % 8 {
        0 | 1 => {
            let Some(Some(mut delivery)) = told(subscriber.receive(Patience::none())) else {
                return;
            };
            let mut all = vec![0; delivery.len()];
            assert_eq!(delivery.copy_out(0, &mut all), Ok(()));
            assert!(delivery.copy_out(1, &mut all).is_err() || all.is_empty());
            spoiler.spoil(input);
            delivery.append_to(&mut bytes);
            assert_eq!(bytes.len(), delivery.len());
            if input.byte().is_multiple_of(2) {
                told(delivery.check());
            }
            match input.byte() % 4 {
                0 => std::mem::forget(delivery),
                _ => drop(delivery),
            }
        }
        2 | 3 => {
            let most = input.choose(&[0, 1, 2, 7, 100]);
            let mut count = 0;
            let received = subscriber.recv_batch(most, Patience::none(), |_, _| {
                spoiler.spoil(input);
                count += 1;
            });
            assert!(told(received).is_none_or(|received| received == count && count <= most));
        }
        4 => {
            told(subscriber.recv_timeout(&mut bytes, Duration::ZERO));
        }
        _ => {
            told(subscriber.try_recv(&mut bytes));
        }
    }
    subscriber.lost();
}
