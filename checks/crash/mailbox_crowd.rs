//! Processes of a mailbox killed at random moments: every message accounted for.

use crate::crowd::{MARKED, accounted_for, killed_at_random, random};
use checks::message::{check, message};
use checks::process::{Child, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tombolo::mailbox::{Options, Poster, TakeError, Taker, Wanted};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[case("mailbox::random_kills", random_kills)];

fn name() -> Name {
    Name::mine("crowd-mailbox").expect("a name")
}

/// Numbers that one poster may use.
const NUMBERS: usize = 1 << 20;
const POSTERS: usize = 2;
const TAKERS: usize = 3;
const KINDS: u64 = 3;

/// The type of a message, so that a taker can tell whether it got what it wanted.
fn kind(number: u64) -> u64 {
    number % KINDS + 1
}

/// What all processes of the case share.
#[derive(Clone, Copy)]
struct Log {
    /// By poster and number: receipts.
    receipts: &'static [AtomicI64],
    /// By poster: the last number that it began to post.
    begun: &'static [AtomicI64],
    /// By poster and number: 1 if its posting was told of.
    told: &'static [AtomicI64],
    stop: &'static AtomicI64,
}

impl Log {
    fn post(self, me: usize, options: &Options) {
        let mut poster = Poster::open_or_create(name(), options).expect("a poster");
        // The last that was begun may have been posted: no number is used twice.
        let mut number = self.begun[me].load(Ordering::SeqCst) as usize + 1;
        let mut state = number as u64 | 1;
        while self.stop.load(Ordering::SeqCst) == 0 && number < NUMBERS {
            let whole = (me * NUMBERS + number) as u64;
            // Some are longer than what is copied under the lock.
            let most = if random(&mut state).is_multiple_of(8) {
                6000
            } else {
                400
            };
            let message = message(whole, random(&mut state) as usize % most);
            self.begun[me].store(number as i64, Ordering::SeqCst);
            if random(&mut state).is_multiple_of(4) {
                let loan = poster.loan(kind(whole), message.len(), Patience::FOREVER);
                let mut loan = loan.expect("loan");
                loan.copy_in(0, &message).expect("inside");
                loan.post().expect("post");
            } else {
                poster.post(kind(whole), &message).expect("post");
            }
            self.told[me * NUMBERS + number].store(1, Ordering::SeqCst);
            number += 1;
        }
    }

    /// Takes; the receipt is written down before the message is finished.
    fn take(self, options: &Options, follow: bool) {
        let opened = Taker::open_or_create(name(), options).expect("a taker");
        let mut taker = opened.follow(follow);
        let mut bytes = vec![];
        let mut state = u64::from(std::process::id()) | 1;
        while self.stop.load(Ordering::SeqCst) == 0 || !follow {
            let number = random(&mut state) % KINDS + 1;
            let wanted = match random(&mut state) % 4 {
                _ if !follow => Wanted::Any,
                0 => Wanted::Type(number),
                1 => Wanted::UpTo(number),
                2 => Wanted::Except(number),
                _ => Wanted::Any,
            };
            let patience = Patience::from(Duration::from_millis(20));
            match taker.receive(wanted, patience) {
                Ok(Some(delivery)) => {
                    bytes.clear();
                    delivery.append_to(&mut bytes);
                    let number = check(&bytes).expect("whole");
                    assert_eq!(delivery.kind(), kind(number));
                    assert!(wanted.suits(delivery.kind()), "{wanted:?}");
                    let again = delivery.redelivered();
                    let receipt = if again { MARKED } else { 1 };
                    self.receipts[number as usize].fetch_add(receipt, Ordering::SeqCst);
                }
                Ok(None) => {}
                Err(TakeError::Closed | TakeError::PosterDied) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn random_kills() -> Outcome {
    let kills = quick_or_long(1_000, 50_000);
    let options = Options {
        capacity: 24_000,
        messages: 20,
        members: POSTERS + TAKERS + 3,
        ..Options::default()
    };
    let log = Log {
        receipts: shared_words(POSTERS * NUMBERS),
        told: shared_words(POSTERS * NUMBERS),
        begun: shared_words(POSTERS),
        stop: &shared_words(1)[0],
    };
    let spawn = |who: usize| {
        child(|| match who.checked_sub(POSTERS) {
            None => log.post(who, &options),
            Some(_) => log.take(&options, true),
        })
    };
    let began = Instant::now();
    // Somebody stays, so that the mailbox does.
    let stays = Poster::open_or_create(name(), &options).expect("a poster");
    let mut children = killed_at_random(kills, POSTERS + TAKERS, spawn);
    log.stop.store(1, Ordering::SeqCst);
    // Posters may wait for room, so somebody must go on taking: this process, at the end.
    children.drain(POSTERS..).for_each(Child::join);
    let rest = child(|| log.take(&options, false));
    children.into_iter().for_each(Child::join);
    drop(stays);
    rest.join();
    // That child had the attach of the poster that stayed as well: somebody else is the last.
    drop(Taker::open_or_create(name(), &options).expect("a taker"));
    let (told, again) = accounted_for(log.receipts, log.told);
    let orphans = left().orphans.len();
    assert_nothing_left("after the kills");
    Outcome::Pass(format!(
        "{kills} kills, {told} messages, {again} receipts marked, {orphans} presence orphans, {:?}",
        began.elapsed()
    ))
}
