//! Each field of the tables of a queue, a topic and a service, and of the first headers in their
//! rings, set to each value that may hurt, while handles are open and before others open it.

use crate::fields::values;
use crate::victim::{SLACK, Tally, wipe};
use crate::{mailbox, queue, service, topic};
use checks::process::{child, shared_words};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::layout::Layout;
use shmem::{Region, header, presence};
use std::sync::atomic::Ordering;
use tombolo::topic::{Policy, Start, Subscriber};

pub const CASES: &[Case] = &[
    case("tables::queue", || every(&QUEUE)),
    case("tables::topic_overrun", || every(&OVERRUN)),
    case("tables::topic_waited", || every(&WAITED)),
    case("tables::service", || every(&SERVICE)),
    case("tables::mailbox", || every(&MAILBOX)),
];

/// A kind of channel.
struct Victim {
    /// Where its tables are.
    tables: fn() -> Vec<(usize, &'static Layout)>,
    /// Offset of its first message's header.
    messages: usize,
    /// Makes one, calls the function with its id again and again, and uses it between.
    play: fn(&mut dyn FnMut(i32), &mut Tally),
}

fn layout(name: &str) -> &'static Layout {
    let all = tombolo::LAYOUTS.iter().chain(&tombolo::MAILBOX_LAYOUTS);
    let all = all.chain(&tombolo::STORE_LAYOUTS);
    let mut named = all.filter(|layout| layout.name == name);
    named.next().unwrap_or_else(|| panic!("no layout {name}"))
}

const QUEUE: Victim = Victim {
    tables: || {
        let mut all = vec![(0, layout("queue"))];
        all.extend([384, 448].map(|seat| (seat, layout("queue seat"))));
        all.extend([576, 832].map(|lane| (lane, layout("queue lane"))));
        all
    },
    messages: 576 + 3 * 256,
    play: |spoil, tally| {
        let options = queue::options();
        let mut producer =
            tombolo::queue::Producer::open_or_create(queue::name(), &options).expect("a producer");
        let mut consumer = tombolo::queue::Consumer::open(queue::name()).expect("a consumer");
        producer.send(&[7; 100]).expect("room");
        let id = producer.id();
        spoil(id);
        queue::receive(&mut consumer, tally);
        spoil(id);
        queue::send(&mut producer, tally);
        spoil(id);
        queue::receive(&mut consumer, tally);
        spoil(id);
        queue::open_and_use(tally);
        spoil(id);
        tally.run(SLACK, || tombolo::queue::remove(queue::name()));
    },
};

/// Bytes of a topic's seat for two lanes.
const ROW: usize = 128;

fn topic_tables() -> Vec<(usize, &'static Layout)> {
    let mut all = vec![(0, layout("topic"))];
    for seat in [384, 384 + ROW] {
        all.push((seat, layout("topic seat")));
        all.extend([64, 72].map(|at| (seat + at, layout("topic cursor"))));
    }
    let lanes = 384 + 2 * ROW;
    all.extend([lanes, lanes + 256].map(|lane| (lane, layout("topic lane"))));
    all
}

const OVERRUN: Victim = Victim {
    tables: topic_tables,
    messages: 384 + 2 * ROW + 2 * 256,
    play: |spoil, tally| play_topic(Policy::Overrun, spoil, tally),
};

const WAITED: Victim = Victim {
    tables: topic_tables,
    messages: 384 + 2 * ROW + 2 * 256,
    play: |spoil, tally| play_topic(Policy::WaitForSlowest, spoil, tally),
};

fn play_topic(policy: Policy, spoil: &mut dyn FnMut(i32), tally: &mut Tally) {
    let options = topic::options(policy);
    let name = topic::name;
    let mut publisher =
        tombolo::topic::Publisher::open_or_create(name(), &options).expect("a publisher");
    let mut subscriber = Subscriber::open(name(), Start::Now).expect("a subscriber");
    publisher.publish(&[7; 100]).expect("room");
    let id = publisher.id();
    spoil(id);
    topic::receive(&mut subscriber, tally);
    spoil(id);
    topic::publish(&mut publisher, tally);
    spoil(id);
    topic::receive(&mut subscriber, tally);
    spoil(id);
    topic::open_and_use(policy, tally);
    spoil(id);
    tally.run(SLACK, || tombolo::topic::remove(name()));
}

const SERVICE: Victim = Victim {
    tables: || {
        let mut all = vec![(0, layout("service"))];
        all.extend([384, 448].map(|seat| (seat, layout("service seat"))));
        all.extend([640, 768].map(|slot| (slot, layout("service slot"))));
        // Two slots' messages: a hundred bytes each way, and the header before.
        for messages in [640 + 6 * 128, 640 + 6 * 128 + 256] {
            all.push((messages, layout("service request")));
            all.push((messages + 128, layout("service reply")));
        }
        all
    },
    messages: 640 + 6 * 128,
    play: |spoil, tally| {
        let options = service::options();
        let name = service::name;
        let mut server =
            tombolo::service::Server::open_or_create(name(), &options).expect("a server");
        let mut client = tombolo::service::Client::open(name()).expect("a client");
        let asked = client.start(b"hello").expect("a slot");
        let id = server.id();
        spoil(id);
        service::serve(&mut server, tally);
        spoil(id);
        service::call(&mut client, tally);
        spoil(id);
        drop(asked);
        let opened = tally.run(SLACK, || tombolo::service::Client::open(name()));
        if let Some(mut client) = opened {
            service::call(&mut client, tally);
        }
        spoil(id);
        let opened = tally.run(SLACK, || tombolo::service::Server::open(name()));
        if let Some(mut server) = opened {
            service::serve(&mut server, tally);
        }
        spoil(id);
        tally.run(SLACK, || tombolo::service::remove(name()));
    },
};

/// Where a mailbox's seats begin.
const SEATS: usize = 7424;

const MAILBOX: Victim = Victim {
    tables: || {
        let mut all = vec![(0, layout("mailbox"))];
        all.push((336, layout("store of messages")));
        all.extend([0, 1].map(|seat| (SEATS + seat * 64, layout("mailbox seat"))));
        all
    },
    messages: SEATS + 4 * 64,
    play: |spoil, tally| {
        let options = mailbox::options();
        let name = mailbox::name;
        let mut poster =
            tombolo::mailbox::Poster::open_or_create(name(), &options).expect("a poster");
        let mut taker = tombolo::mailbox::Taker::open(name()).expect("a taker");
        poster.post(3, &[7; 100]).expect("room");
        let id = poster.id();
        spoil(id);
        mailbox::take(&mut taker, tally);
        spoil(id);
        mailbox::post(&mut poster, tally);
        spoil(id);
        let opened = tally.run(mailbox::GRACE + SLACK, || {
            tombolo::mailbox::Taker::open(name())
        });
        if let Some(mut taker) = opened {
            mailbox::take(&mut taker, tally);
        }
        spoil(id);
        tally.run(SLACK, || tombolo::mailbox::remove(name()));
    },
};

/// Words of a long field that are tried: a journal has hundreds of the same.
const MOST: usize = 8;

/// Name, offset and size of each field; of fields of several words, each word.
fn fields(victim: &Victim) -> Vec<(String, usize, usize)> {
    let mut all = vec![];
    let tables = [(0, &header::LAYOUT)].into_iter().chain((victim.tables)());
    for (base, layout) in tables {
        for field in layout.fields {
            let name = format!("{} {} at {base}", layout.name, field.name);
            let parts = if field.name == "NAME" {
                1
            } else {
                field.size.div_ceil(8).min(MOST)
            };
            for part in 0..parts {
                let size = (field.size - part * 8).min(8);
                all.push((name.clone(), base + field.offset + part * 8, size));
            }
        }
    }
    for word in 0..4 {
        all.push((
            format!("message word {word}"),
            victim.messages + word * 8,
            8,
        ));
    }
    all
}

/// One process for each field, which tries all values; the quick version one or two, another
/// choice for each field.
fn every(victim: &'static Victim) -> Outcome {
    let step = quick_or_long(24, 1);
    let living = presence::mine().expect("presence").word();
    let now = shared_words(3);
    for (number, (field, offset, size)) in fields(victim).into_iter().enumerate() {
        let tries = child(|| {
            let mut tally = Tally::default();
            for value in values().into_iter().skip(number % step).step_by(step) {
                // Opening waits ten seconds for a creator that lives.
                if offset == header::STATE && value == living {
                    continue;
                }
                now[0].store(value as i64, Ordering::SeqCst);
                now[1].fetch_add(1, Ordering::SeqCst);
                let mut spoil = |id| {
                    // It may have been removed, as the field says.
                    if let Ok(region) = Region::attach(id) {
                        let bytes = value.to_ne_bytes();
                        region.copy_in(offset, &bytes[..size]).expect("a field");
                    }
                };
                (victim.play)(&mut spoil, &mut tally);
                wipe();
            }
            now[2].fetch_add(tally.done as i64, Ordering::SeqCst);
        });
        let status = tries.join_status();
        let value = now[0].load(Ordering::SeqCst);
        assert!(status.success(), "{field} set to {value:#x}: {status}");
        wipe();
    }
    let [cases, done] = [1, 2].map(|i| now[i].load(Ordering::SeqCst));
    assert!(done > cases, "the victims did something: {done}");
    Outcome::Pass(format!(
        "{cases} fields and values: {done} operations came through"
    ))
}
