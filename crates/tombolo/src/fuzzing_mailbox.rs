//! The body for `mailbox`: see `fuzzing`.

use crate::channel::{Channel, Shape as _};
use crate::fuzzing::{Input, OPERATIONS, Spoiler, region, told};
use crate::mailbox::{Poster, Taker, Wanted};
use crate::mailbox_layout::{Shape, layout, seat};
use crate::mailbox_store::layout as store;
use shmem::heap::layout as heap;
use shmem::journal::layout as journal;
use shmem::lock::layout as lock;
use shmem::wait::Patience;
use shmem::{Region, Waiting};
use std::time::Duration;

/// Most posters, and most takers, at a time.
const MOST: usize = 3;

/// Posters and takers on a mailbox that is spoilt between their operations.
///
/// # Panics
/// If there is something to mend.
pub fn mailbox(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let capacity = input.choose(&[1, 300, 6000, 20_000]);
    let (messages, members) = (1 + input.below(12), 2 + input.below(4));
    let (shape, length) = Shape::plan(capacity, messages, members).expect("a small mailbox");
    let region = region(&Shape::EXPECTED, length);
    shape.format(&region).expect("as long as planned");
    let mut layouts = vec![
        (0, &layout::LAYOUT),
        (layout::LOCK, &lock::LAYOUT),
        (layout::STORE, &store::LAYOUT),
        (layout::JOURNAL, &journal::LAYOUT),
        (layout::HEAP, &heap::LAYOUT),
    ];
    layouts.extend((0..members).map(|seat| (shape.at(seat, 0), &seat::LAYOUT)));
    let mut spoiler = Spoiler::new(&region, &layouts, shape.blocks());
    let mut posters: Vec<_> = poster(&region).into_iter().collect();
    let mut takers: Vec<_> = taker(&region, &mut input).into_iter().collect();
    for _ in 0..OPERATIONS {
        if input.is_over() {
            break;
        }
        match input.byte() % 32 {
            0 if posters.len() < MOST => posters.extend(poster(&region)),
            1 if takers.len() < MOST => takers.extend(taker(&region, &mut input)),
            2 if !posters.is_empty() => {
                posters.swap_remove(input.below(posters.len()));
            }
            3 if !takers.is_empty() => {
                takers.swap_remove(input.below(takers.len()));
            }
            4..=10 => spoiler.spoil(&mut input),
            11..=20 if !posters.is_empty() => {
                let at = input.below(posters.len());
                post(&mut posters[at], &mut spoiler, &mut input);
            }
            _ if !takers.is_empty() => {
                let at = input.below(takers.len());
                take(&mut takers[at], &mut spoiler, &mut input, length);
            }
            _ => {}
        }
    }
}

fn poster(region: &Region) -> Option<Poster> {
    let poster = |channel| Poster::with_grace(channel, Duration::ZERO);
    let poster = told(Channel::on(region).and_then(poster))?;
    Some(poster.waiting(Waiting::Park))
}

fn taker(region: &Region, input: &mut Input<'_>) -> Option<Taker> {
    let taker = |channel| Taker::with_grace(channel, Duration::ZERO);
    let taker = told(Channel::on(region).and_then(taker))?;
    let follow = input.byte().is_multiple_of(2);
    Some(taker.follow(follow).waiting(Waiting::Park))
}

fn kind(input: &mut Input<'_>) -> u64 {
    input.choose(&[1, 2, 3, 5, 1 << 40, i64::MAX as u64])
}

fn post(poster: &mut Poster, spoiler: &mut Spoiler, input: &mut Input<'_>) {
    let (kind, longest) = (kind(input), poster.longest());
    let length = input.choose(&[0, 1, 40, 300, 5000, longest, longest.saturating_add(1)]);
    // A shape that was spoilt before the poster came may have any capacity.
    let length = length.min(1 << 16);
    match input.byte() % 4 {
        0 => {
            let Some(mut loan) = told(poster.loan(kind, length, Patience::none())) else {
                return;
            };
            spoiler.spoil(input);
            assert_eq!(loan.copy_in(0, &vec![2; length]), Ok(()));
            assert!(loan.copy_in(length, b"x").is_err());
            match input.byte() % 4 {
                0 => drop(loan),
                1 => std::mem::forget(loan),
                2 => {
                    told(loan.post_part(input.below(length + 1)));
                }
                _ => {
                    told(loan.post());
                }
            }
        }
        1 => {
            told(poster.post_timeout(kind, &vec![1; length], Duration::ZERO));
        }
        _ => {
            told(poster.try_post(kind, &vec![1; length]));
        }
    }
}

fn take(taker: &mut Taker, spoiler: &mut Spoiler, input: &mut Input<'_>, longest: usize) {
    let wanted = match input.byte() % 4 {
        0 => Wanted::Any,
        1 => Wanted::Type(kind(input)),
        2 => Wanted::UpTo(kind(input)),
        _ => Wanted::Except(kind(input)),
    };
    let mut bytes = vec![];
    match input.byte() % 8 {
        0 => {
            let taken = told(taker.receive(wanted, Patience::none()));
            let Some(Some(delivery)) = taken else { return };
            spoiler.spoil(input);
            let mut all = vec![0; delivery.len()];
            assert_eq!(delivery.copy_out(0, &mut all), Ok(()));
            assert!(delivery.copy_out(1, &mut all).is_err() || all.is_empty());
            delivery.append_to(&mut all);
            assert_eq!(all.len(), 2 * delivery.len());
            match input.byte() % 3 {
                0 => drop(delivery),
                1 => std::mem::forget(delivery),
                _ => delivery.put_back(),
            }
        }
        1 => {
            told(taker.peek(wanted, Patience::none(), &mut bytes));
        }
        2 => {
            told(taker.peek_at(input.below(16) as u64, &mut bytes));
        }
        3 => {
            told(taker.take_timeout(wanted, &mut bytes, Duration::ZERO));
        }
        _ => {
            told(taker.try_take(wanted, &mut bytes));
        }
    }
    assert!(bytes.len() <= longest);
}
