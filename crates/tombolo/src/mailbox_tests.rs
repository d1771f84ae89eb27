//! Tests of a `mailbox` on memory of one process.

use crate::channel::{Channel, Shape as _};
use crate::fuzzing::region;
use crate::mailbox::{PostError, Poster, TakeError, Taken, Taker, Wanted};
use crate::mailbox_inside::{Inside, Wants};
use crate::mailbox_layout::{Part, Shape, layout, seat};
use crate::mailbox_member::Member;
use crate::participant::layout as participant;
use shmem::Region;
use shmem::sync::Ordering;
use shmem::wait::Patience;
use std::time::Duration;

/// A process that nobody finds alive.
const DEAD: u64 = 0x7fff_ffff << 32 | 0x2b;
const BOUND: Duration = Duration::from_secs(10);

fn mailbox(capacity: usize, messages: usize, members: usize) -> (Shape, Region) {
    let (shape, length) = Shape::plan(capacity, messages, members).unwrap();
    let region = region(&Shape::EXPECTED, length);
    shape.format(&region).unwrap();
    (shape, region)
}

fn poster(region: &Region) -> Poster {
    Poster::of(Channel::on(region).unwrap()).unwrap()
}

fn taker(region: &Region) -> Taker {
    Taker::of(Channel::on(region).unwrap()).unwrap()
}

fn taken(kind: u64) -> Taken {
    Taken {
        kind,
        redelivered: false,
    }
}

fn put_back(kind: u64) -> Taken {
    Taken {
        kind,
        redelivered: true,
    }
}

fn take(taker: &mut Taker, wanted: Wanted) -> Option<(u64, Vec<u8>)> {
    let mut text = vec![];
    let taken = taker.try_take(wanted, &mut text).unwrap();
    taken.map(|taken| (taken.kind, text))
}

/// What stands in a word, by the lock's holder.
fn word(region: &Region, offset: usize) -> u64 {
    region.load_u64(offset, Ordering::SeqCst)
}

/// A member that stays in its seat as one that was killed.
fn kill(member: &mut Member, region: &Region) {
    let place = member.channel.shape.at(member.seat, seat::MEMBER);
    region
        .u64(place + participant::WHO)
        .store(DEAD, Ordering::SeqCst);
}

#[test]
fn each_gets_what_it_wants() {
    let (_, region) = mailbox(1 << 12, 100, 4);
    let (mut poster, mut taker) = (poster(&region), taker(&region));
    for (kind, text) in [(3, "a"), (3, "b"), (7, "c"), (2, "d"), (3, "e"), (9, "f")] {
        poster.post(kind, text.as_bytes()).unwrap();
    }
    let mut text = vec![];
    assert_eq!(taker.peek_at(2, &mut text), Ok(Some(taken(7))));
    assert_eq!(text, b"c");
    assert_eq!(taker.peek_at(6, &mut text), Ok(None));
    let peek = taker.peek(Wanted::UpTo(5), Patience::none(), &mut text);
    assert_eq!((peek, text.as_slice()), (Ok(Some(taken(2))), &b"d"[..]));
    let expected = [
        (Wanted::Type(9), Some((9, "f"))),
        (Wanted::Except(3), Some((7, "c"))),
        (Wanted::UpTo(3), Some((2, "d"))),
        (Wanted::Any, Some((3, "a"))),
        (Wanted::Type(8), None),
        (Wanted::UpTo(2), None),
        (Wanted::Except(3), None),
        (Wanted::Type(3), Some((3, "b"))),
        (Wanted::Any, Some((3, "e"))),
        (Wanted::Any, None),
    ];
    for (wanted, message) in expected {
        let message = message.map(|(kind, text)| (kind, text.as_bytes().to_vec()));
        assert_eq!(take(&mut taker, wanted), message, "{wanted:?}");
    }
    for kind in [0, 1 << 63, u64::MAX] {
        assert_eq!(poster.try_post(kind, b""), Err(PostError::Type(kind)));
    }
    poster.post(i64::MAX as u64, b"").unwrap();
    assert_eq!(
        take(&mut taker, Wanted::Any),
        Some((i64::MAX as u64, vec![]))
    );
}

#[test]
fn the_capacity_is_bytes_and_messages() {
    let (_, region) = mailbox(10_000, 3, 2);
    let (mut poster, mut taker) = (poster(&region), taker(&region));
    poster.post(1, &[1; 6000]).unwrap();
    assert_eq!(poster.try_post(1, &[1; 4001]), Err(PostError::Full));
    let late = poster.post_timeout(1, &[1; 4001], Duration::from_millis(2));
    assert_eq!(late, Err(PostError::Full));
    // What is being written counts.
    let loan = poster.loan(2, 3000, Patience::none()).unwrap();
    std::mem::forget(loan);
    poster.post(3, &[3; 4000]).unwrap();
    let mut loan = poster.loan(4, 0, Patience::none()).unwrap();
    assert_eq!((loan.len(), loan.copy_in(0, b"x").is_err()), (0, true));
    loan.post().unwrap();
    assert_eq!(poster.try_post(1, b""), Err(PostError::Full));
    let too_long = poster.try_post(1, &[1; 10_001]);
    assert_eq!(
        too_long.unwrap_err().to_string().matches("10001").count(),
        1
    );
    assert_eq!(take(&mut taker, Wanted::Any), Some((1, vec![1; 6000])));
    assert_eq!(take(&mut taker, Wanted::Any), Some((3, vec![3; 4000])));
    poster.post(1, &[5; 10_000]).unwrap();
    assert_eq!(take(&mut taker, Wanted::Type(4)), Some((4, vec![])));
    assert_eq!(take(&mut taker, Wanted::Any), Some((1, vec![5; 10_000])));
}

#[test]
fn a_part_of_a_loan_can_be_posted() {
    let (_, region) = mailbox(10_000, 8, 2);
    let (mut poster, mut taker) = (poster(&region), taker(&region));
    for length in [0, 5, 9000] {
        let mut loan = poster.loan(1, 9000, Patience::none()).unwrap();
        loan.copy_in(0, &[7; 9000]).unwrap();
        loan.post_part(length).unwrap();
        assert_eq!(take(&mut taker, Wanted::Any), Some((1, vec![7; length])));
    }
    drop(poster.loan(1, 10_000, Patience::none()).unwrap());
    poster.post(1, &[1; 10_000]).unwrap();
}

#[test]
fn what_is_in_hand_goes_back_to_the_front() {
    let (_, region) = mailbox(1 << 14, 8, 4);
    let (mut poster, mut first, mut second) = (poster(&region), taker(&region), taker(&region));
    for (kind, length) in [(5, 10), (6, 6000), (5, 20)] {
        poster.post(kind, &vec![kind as u8; length]).unwrap();
    }
    let delivery = first
        .receive(Wanted::Type(5), Patience::none())
        .unwrap()
        .unwrap();
    assert_eq!((delivery.len(), delivery.taken()), (10, taken(5)));
    // It stands in nobody's way.
    assert_eq!(take(&mut second, Wanted::Type(5)), Some((5, vec![5; 20])));
    delivery.put_back();
    let mut text = vec![];
    assert_eq!(second.take(Wanted::Any, &mut text), Ok(put_back(5)));
    // The same of one that leaves without having finished.
    let delivery = first
        .receive(Wanted::Any, Patience::none())
        .unwrap()
        .unwrap();
    assert_eq!((delivery.kind(), delivery.redelivered()), (6, false));
    std::mem::forget(delivery);
    drop(first);
    assert_eq!(second.take(Wanted::Any, &mut text), Ok(put_back(6)));
    assert_eq!(text, vec![6; 6000]);
    // And a guard that is forgotten is finished with the next.
    poster.post(1, b"one").unwrap();
    std::mem::forget(second.receive(Wanted::Any, Patience::none()).unwrap());
    assert_eq!(take(&mut second, Wanted::Any), None);
    assert_eq!(word(&region, layout::HOLDING), 0);
}

#[test]
fn the_end_comes_when_all_posters_have_left() {
    let (_, region) = mailbox(1 << 12, 8, 4);
    let mut taker = taker(&region);
    // Before the first has come.
    assert_eq!(take(&mut taker, Wanted::Any), None);
    let mut first = poster(&region);
    drop(poster(&region));
    first.post(4, b"last").unwrap();
    assert_eq!(take(&mut taker, Wanted::Type(9)), None);
    drop(first);
    let mut text = vec![1];
    assert_eq!(
        taker.try_take(Wanted::Type(9), &mut text),
        Err(TakeError::Closed)
    );
    assert_eq!(text, []);
    assert_eq!(taker.take(Wanted::Any, &mut text), Ok(taken(4)));
    assert_eq!(taker.take(Wanted::Any, &mut text), Err(TakeError::Closed));
    let mut following = Taker::of(Channel::on(&region).unwrap())
        .unwrap()
        .follow(true);
    assert_eq!(take(&mut following, Wanted::Any), None);
    let mut next = poster(&region);
    next.post(1, b"again").unwrap();
    assert_eq!(taker.take(Wanted::Any, &mut text), Ok(taken(1)));
}

#[test]
fn the_dead_are_buried() {
    let (shape, region) = mailbox(1 << 14, 8, 3);
    let mut left = taker(&region);
    let mut dying = poster(&region);
    dying.post(1, b"before").unwrap();
    std::mem::forget(dying.loan(1, 9000, Patience::none()).unwrap());
    assert_eq!(word(&region, layout::RESERVED), 9000);
    // Killed while it wrote in place.
    let channel = Channel::on(&region).unwrap();
    let mut member = Member::of(channel, Part::Poster, BOUND).unwrap();
    kill(&mut member, &region);
    std::mem::forget(member);
    let seat = shape.at(1, seat::MEMBER) + participant::WHO;
    region.u64(seat).store(DEAD, Ordering::SeqCst);
    std::mem::forget(dying);
    let mut text = vec![];
    assert_eq!(left.take(Wanted::Any, &mut text), Ok(taken(1)));
    let end = left.try_take(Wanted::Any, &mut text);
    assert_eq!(end, Err(TakeError::PosterDied));
    assert_eq!(word(&region, layout::RESERVED), 0);
    assert_eq!(
        (
            word(&region, layout::DRAFTS),
            word(&region, layout::HOLDING)
        ),
        (0, 0)
    );
    // Who comes later does not miss the dead, and there is room for it.
    let mut new = taker(&region);
    assert_eq!(new.try_take(Wanted::Any, &mut text), Err(TakeError::Closed));
    drop(poster(&region));
    assert_eq!(
        left.try_take(Wanted::Any, &mut text),
        Err(TakeError::PosterDied)
    );
}

#[test]
fn a_dead_taker_gives_back_what_it_had_in_hand() {
    let (shape, region) = mailbox(1 << 14, 8, 3);
    let (mut poster, mut left, mut dying) = (poster(&region), taker(&region), taker(&region));
    poster.post(1, &[1; 5000]).unwrap();
    poster.post(2, b"second").unwrap();
    std::mem::forget(
        dying
            .receive(Wanted::Any, Patience::none())
            .unwrap()
            .unwrap(),
    );
    let seat = shape.at(2, seat::MEMBER) + participant::WHO;
    region.u64(seat).store(DEAD, Ordering::SeqCst);
    std::mem::forget(dying);
    let mut text = vec![];
    // It takes what is there, and looks for the dead when there is nothing.
    assert_eq!(left.take(Wanted::Any, &mut text), Ok(taken(2)));
    let late = left.take_timeout(Wanted::Type(1), &mut text, BOUND);
    assert_eq!((late, text.len()), (Ok(Some(put_back(1))), 5000));
    assert_eq!(word(&region, seat), 0);
}

#[test]
fn who_waits_is_woken_for_what_it_waits_for_and_for_nothing_else() {
    let (shape, region) = mailbox(1 << 12, 8, 8);
    let mut poster = poster(&region);
    let rings = || {
        let of = |at: usize| region.load_u32(shape.at(at, seat::BELL), Ordering::SeqCst);
        [1, 2, 3].map(|at| of(at) != 0)
    };
    let waits = |at: usize| (word(&region, layout::WAITING) >> at) & 1 == 1;
    std::thread::scope(|scope| {
        let wanted = [Wanted::Type(5), Wanted::UpTo(3), Wanted::Except(6)];
        let threads = wanted.map(|wanted| {
            let mut taker = taker(&region).waiting(shmem::Waiting::Park);
            scope.spawn(move || {
                let mut text = vec![];
                let taken = taker.take_timeout(wanted, &mut text, BOUND);
                taken.unwrap().unwrap().kind
            })
        });
        while !(1..=3).all(waits) {
            std::thread::yield_now();
        }
        poster.post(6, b"nobody's").unwrap();
        assert_eq!(rings(), [false; 3]);
        poster.post(7, b"the third's").unwrap();
        assert_eq!(rings(), [false, false, true]);
        while waits(3) {
            std::thread::yield_now();
        }
        poster.post(5, b"the first's").unwrap();
        assert_eq!(rings(), [true, false, true]);
        poster.post(2, b"the second's").unwrap();
        let got = threads.map(|thread| thread.join().unwrap());
        assert_eq!(got, [5, 2, 7]);
    });
}

#[test]
fn a_poster_waits_for_room() {
    let (_, region) = mailbox(100, 100, 3);
    let (mut first, mut second, mut taker) = (poster(&region), poster(&region), taker(&region));
    first.post(1, &[1; 60]).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || second.post_timeout(2, &[2; 100], BOUND));
        while word(&region, layout::WAITING) == 0 {
            std::thread::yield_now();
        }
        let mut text = vec![];
        assert_eq!(taker.take(Wanted::Any, &mut text), Ok(taken(1)));
        let taken = taker.take_timeout(Wanted::Type(2), &mut text, BOUND);
        assert_eq!(taken.unwrap().unwrap().kind, 2);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
}

#[test]
fn an_empty_mailbox_is_one_piece_again() {
    // So full of small messages that there is no block for a large one.
    let (_, region) = mailbox(1 << 14, 500, 2);
    let (mut poster, mut taker) = (poster(&region), taker(&region));
    for round in 0..3 {
        let mut sizes = 0;
        for length in (1..).map(|n| n * 24 % 4000) {
            match poster.try_post(1 + length as u64, &vec![1; length]) {
                Ok(()) => sizes += 1,
                Err(error) => {
                    assert_eq!(error, PostError::Full);
                    break;
                }
            }
        }
        assert!(sizes > 8, "{round} {sizes}");
        while take(&mut taker, Wanted::Any).is_some() {}
        poster.post(2, &vec![9; 1 << 14]).unwrap();
        assert_eq!(take(&mut taker, Wanted::Any), Some((2, vec![9; 1 << 14])));
    }
}

#[test]
fn who_inherits_the_lock_puts_back_and_wakes_all() {
    let (shape, region) = mailbox(1 << 12, 8, 3);
    let (mut poster, mut taker) = (poster(&region), taker(&region));
    poster.post(1, b"whole").unwrap();
    // Killed in the middle of taking it.
    let channel = Channel::<Shape>::on(&region).unwrap();
    let mut inside = Inside::enter(&channel, || Patience::FOREVER).unwrap();
    let place = inside.find(Wanted::Any).unwrap().unwrap();
    inside.store().take(&mut inside.tx, place).unwrap();
    std::mem::forget(inside);
    region.u64(layout::LOCK).store(DEAD, Ordering::SeqCst);
    // Seen from outside as it was before.
    assert!(!(Shape::EXPECTED.may_discard)(&region));
    assert_eq!(take(&mut taker, Wanted::Any), Some((1, b"whole".to_vec())));
    assert!((Shape::EXPECTED.may_discard)(&region));
    assert_eq!(word(&region, layout::LOCK), 0);
    assert_eq!(shape.members(), 3);
    assert_eq!(Wants::Room(3).words(), (5, 3));
}

#[test]
fn somebody_who_keeps_the_lock_is_named() {
    let (_, region) = mailbox(1 << 12, 8, 3);
    let channel = || Channel::on(&region).unwrap();
    let mut poster = Poster::with_grace(channel(), Duration::ZERO).unwrap();
    let mut taker = Taker::with_grace(channel(), Duration::ZERO).unwrap();
    let channel = Channel::<Shape>::on(&region).unwrap();
    region.u64(layout::LOCK).store(channel.me, Ordering::SeqCst);
    let me = std::process::id() as i32;
    assert_eq!(poster.try_post(1, b""), Err(PostError::Busy(Some(me))));
    let mut text = vec![];
    let busy = taker.try_take(Wanted::Any, &mut text).unwrap_err();
    assert_eq!(busy, TakeError::Busy(Some(me)));
    assert!(busy.to_string().contains(&me.to_string()));
    let short = Duration::from_millis(1);
    assert_eq!(taker.take_timeout(Wanted::Any, &mut text, short), Ok(None));
    assert_eq!(poster.post_timeout(1, b"", short), Err(PostError::Full));
    region.u64(layout::LOCK).store(0, Ordering::SeqCst);
    poster.try_post(1, b"").unwrap();
}

#[test]
fn a_mailbox_is_discarded_only_when_it_holds_nothing() {
    let (_, region) = mailbox(1 << 14, 8, 3);
    let may_discard = || (Shape::EXPECTED.may_discard)(&region);
    let (mut poster, mut taker) = (poster(&region), taker(&region));
    assert!(may_discard());
    poster.post(1, &[1; 5000]).unwrap();
    assert!(!may_discard());
    let delivery = taker
        .receive(Wanted::Any, Patience::none())
        .unwrap()
        .unwrap();
    assert!(!may_discard());
    drop(delivery);
    let loan = poster.loan(1, 10, Patience::none()).unwrap();
    assert!(may_discard());
    drop(loan);
}

#[test]
fn there_are_no_more_members_than_there_may_be() {
    let (shape, region) = mailbox(100, 8, 2);
    let first = (poster(&region), taker(&region));
    let refused = Taker::of(Channel::on(&region).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("2 members"), "{refused}");
    drop(first);
    assert_eq!(shape.seated(&region), 2);
    drop((taker(&region), taker(&region)));
}
