//! The body for `value`: see `fuzzing`.

use crate::fuzzing::{ADDRESS, Input, OPERATIONS, Spoiler, opened, region, told};
use crate::value::{EXPECTED, Reader, Writer};
use crate::value_slots::{KEEPERS, Slots, keeper, layout, slot};
use shmem::{Region, wait::Patience};
use std::time::Duration;

/// Most writers, and most readers, at a time.
const MOST: usize = 3;

/// Writers and readers on a value that is spoilt between their operations.
///
/// # Panics
/// If there is something to mend.
pub fn value(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let capacity = input.choose(&[0, 1, 48, 200, 300, 321, 1 << 17]);
    let (slots, length) = Slots::plan(capacity).expect("a small value");
    let region = region(&EXPECTED, length);
    slots.format(&region).expect("as long as planned");
    let stride = shmem::cells::stride(slot::LAYOUT.size, capacity).expect("a small value");
    let count = (length - layout::LAYOUT.size) / stride;
    let mut layouts = vec![(0, &layout::LAYOUT)];
    let seat = keeper::LAYOUT.size;
    layouts.extend((0..KEEPERS).map(|at| (layout::SEATS + at * seat, &keeper::LAYOUT)));
    // So that writers keep the value after some puts.
    shmem::barrier::register();
    let first = layout::LAYOUT.size;
    layouts.extend((0..count).map(|slot| (first + slot * stride, &slot::LAYOUT)));
    let mut spoiler = Spoiler::new(&region, &layouts, first);
    let mut writers: Vec<_> = writer(&region).into_iter().collect();
    let mut readers: Vec<_> = reader(&region).into_iter().collect();
    let mut bytes = vec![];
    for _ in 0..OPERATIONS {
        if input.is_over() {
            break;
        }
        match input.byte() % 32 {
            0 if writers.len() < MOST => writers.extend(writer(&region)),
            1 if readers.len() < MOST => readers.extend(reader(&region)),
            2 if !writers.is_empty() => {
                writers.swap_remove(input.below(writers.len()));
            }
            3 if !readers.is_empty() => {
                readers.swap_remove(input.below(readers.len()));
            }
            4..=13 => spoiler.spoil(&mut input),
            14..=22 if !writers.is_empty() => {
                let at = input.below(writers.len());
                let writer = &mut writers[at];
                // Now and then enough to keep it.
                for _ in 0..input.choose(&[0, 0, 0, 17]) {
                    told(writer.put_timeout(&[], Duration::ZERO));
                }
                let longest = writer.capacity();
                let length = input.choose(&[0, 1, 40, longest, longest + 1]);
                // As far behind the beginning of a line as it comes.
                let skew = input.below(64);
                let message = &vec![7; skew + length][skew..];
                told(writer.put_timeout(message, Duration::ZERO));
            }
            _ if !readers.is_empty() => {
                let at = input.below(readers.len());
                let reader = &mut readers[at];
                reader.latest();
                match input.byte() % 3 {
                    0 => told(reader.watch_into(Patience::none(), &mut bytes)),
                    _ => told(reader.get_into(&mut bytes)),
                };
                // The capacity that counts is the one that was checked at opening.
                assert!(bytes.len() <= reader.capacity());
            }
            _ => {}
        }
    }
}

fn writer(region: &Region) -> Option<Writer> {
    told(opened(region, &EXPECTED).and_then(|opened| Writer::of(ADDRESS, opened)))
}

fn reader(region: &Region) -> Option<Reader> {
    let opened = told(opened(region, &EXPECTED))?;
    let view = shmem::open::Opened {
        memory: opened.memory.view(),
        id: opened.id,
        header: opened.header,
        creator_uid: opened.creator_uid,
    };
    told(Reader::of(ADDRESS, view, 0))
}
