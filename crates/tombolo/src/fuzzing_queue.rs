//! The body for `queue`: see `fuzzing`.

use crate::channel::{Channel, Shape as _};
use crate::fuzzing::{Input, OPERATIONS, Spoiler, region, told};
use crate::lane::Filling;
use crate::queue::{Consumer, Message, Producer};
use crate::queue_layout::{Shape, lane, layout, seat};
use crate::ring::LINE;
use shmem::{Region, Wait, Waiting, wait::Patience};

/// Most producers, and most consumers, at a time.
const MOST: usize = 3;

/// Producers and consumers on a queue that is spoilt between their operations.
///
/// # Panics
/// If there is something to mend.
pub fn queue(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (lanes, seats) = (1 + input.below(3), 1 + input.below(3));
    let capacity = input.choose(&[256, 256, 512, 4096, 1 << 19]);
    let (shape, length) = Shape::plan(lanes, seats, capacity).expect("a small queue");
    let region = region(&Shape::EXPECTED, length);
    shape.format(&region).expect("as long as planned");
    let mut layouts = vec![(0, &layout::LAYOUT)];
    layouts.extend((0..lanes).map(|lane| (shape.at(lane, 0), &lane::LAYOUT)));
    layouts.extend((0..seats).map(|seat| (shape.seat(seat).0, &seat::LAYOUT)));
    let mut spoiler = Spoiler::new(&region, &layouts, shape.ring(0).at(0));
    let mut producers: Vec<_> = producer(&region, &mut input).into_iter().collect();
    let mut consumers: Vec<_> = consumer(&region, &mut input).into_iter().collect();
    for _ in 0..OPERATIONS {
        if input.is_over() {
            break;
        }
        match input.byte() % 32 {
            0 if producers.len() < MOST => producers.extend(producer(&region, &mut input)),
            1 if consumers.len() < MOST => consumers.extend(consumer(&region, &mut input)),
            2 if !producers.is_empty() => {
                producers.swap_remove(input.below(producers.len()));
            }
            3 if !consumers.is_empty() => {
                consumers.swap_remove(input.below(consumers.len()));
            }
            4..=11 => spoiler.spoil(&mut input),
            12..=21 if !producers.is_empty() => {
                let at = input.below(producers.len());
                send(&mut producers[at], &mut spoiler, &mut input);
            }
            _ if !consumers.is_empty() => {
                let at = input.below(consumers.len());
                receive(&mut consumers[at], &mut spoiler, &mut input);
            }
            _ => {}
        }
    }
}

fn waiting(input: &mut Input<'_>) -> Waiting {
    input.choose(&[Waiting::Park, Waiting::Park, Waiting::Adaptive])
}

fn producer(region: &Region, input: &mut Input<'_>) -> Option<Producer> {
    let producer = told(Channel::on(region).and_then(Producer::of))?;
    let follow = input.byte().is_multiple_of(2);
    Some(producer.follow(follow).waiting(waiting(input)))
}

fn consumer(region: &Region, input: &mut Input<'_>) -> Option<Consumer> {
    let consumer = told(Channel::on(region).and_then(Consumer::of))?;
    let follow = input.byte().is_multiple_of(2);
    Some(consumer.follow(follow).waiting(waiting(input)))
}

fn send(producer: &mut Producer, spoiler: &mut Spoiler, input: &mut Input<'_>) {
    let longest = producer.longest();
    let length = input.choose(&[0, 1, 8, 56, 57, 100, longest, longest + 1]);
    match input.byte() % 8 {
        0 | 1 => {
            let Some(mut loan) = told(producer.loan(length, Patience::none())) else {
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
        2 => {
            let length = input.choose(&[length, length, 256, 257, 600]);
            send_batch(producer, &vec![0xba; length], input);
        }
        3 => {
            let message = vec![0xcd; length];
            let timeout = std::time::Duration::ZERO;
            told(producer.send_timeout(&message, timeout));
        }
        _ => {
            told(producer.try_send(&vec![0xef; length]));
        }
    }
}

/// A few at once, if there is room for all: a batch waits for it as long as it takes.
fn send_batch(producer: &mut Producer, message: &[u8], input: &mut Input<'_>) {
    let count = 1 + input.below(40);
    // With its header, on a line of its own perhaps, and padding before the ring's end.
    let total = count * (message.len() + 2 * LINE as usize);
    if total > producer.longest()
        || told(producer.claim(total, Filling::Copied, Wait::Not)).is_none()
    {
        return;
    }
    let mut batch = producer.batch();
    for _ in 0..count {
        told(batch.send(message));
    }
    match input.byte() % 4 {
        0 => std::mem::forget(batch),
        _ => assert!(batch.finish() <= count),
    }
}

fn receive(consumer: &mut Consumer, spoiler: &mut Spoiler, input: &mut Input<'_>) {
    let mut bytes = vec![];
    match input.byte() % 8 {
        0 | 1 => {
            let Some(Some(delivery)) = told(consumer.receive(Patience::none())) else {
                return;
            };
            read(&delivery.message());
            spoiler.spoil(input);
            read(&delivery.message());
            delivery.append_to(&mut bytes);
            assert_eq!(bytes.len(), delivery.len());
            match input.byte() % 4 {
                0 => std::mem::forget(delivery),
                _ => drop(delivery),
            }
        }
        2 | 3 => {
            let most = input.choose(&[0, 1, 2, 7, usize::MAX]);
            let mut count = 0;
            let each = |message: Message<'_>| {
                read(&message);
                spoiler.spoil(input);
                count += 1;
            };
            let received = told(consumer.recv_batch(most, Patience::none(), each));
            assert!(received.is_none_or(|received| received == count && count <= most));
        }
        4 => {
            told(consumer.recv_timeout(&mut bytes, std::time::Duration::ZERO));
        }
        _ => {
            told(consumer.try_recv(&mut bytes));
        }
    }
}

/// Reads a message in every way.
fn read(message: &Message<'_>) {
    let mut all = vec![0; message.len()];
    assert_eq!(message.copy_out(0, &mut all), Ok(()));
    assert!(message.copy_out(1, &mut all).is_err() || all.is_empty());
    assert_eq!(message.bytes().read::<u64>().is_ok(), all.len() == 8);
    message.redelivered();
}
