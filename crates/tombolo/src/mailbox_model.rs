//! Random operations on a `mailbox`, and on a plain list.

use crate::channel::{Channel, Shape as _};
use crate::fuzzing::{Input, bytes, region};
use crate::mailbox::{PostError, Poster, Taken, Taker, Wanted};
use crate::mailbox_layout::{Shape, layout};
use shmem::sync::Ordering;
use shmem::wait::Patience;
use std::collections::VecDeque;

const CAPACITY: usize = 20_000;
const MESSAGES: usize = 12;
const KINDS: [u64; 5] = [1, 2, 3, 1 << 33, i64::MAX as u64];
const LENGTHS: [usize; 7] = [0, 1, 40, 700, 4096, 4097, 9000];

/// A message: its type, its bytes, and whether it was put back.
type Message = (u64, Vec<u8>, bool);

/// What a mailbox does, done with a list.
#[derive(Default)]
struct List(VecDeque<Message>);

impl List {
    fn find(&self, wanted: Wanted) -> Option<usize> {
        let suits = |kind: u64| match wanted {
            Wanted::Any => true,
            Wanted::Type(number) => kind == number,
            Wanted::Except(number) => kind != number,
            Wanted::UpTo(most) => {
                let lowest = self.0.iter().map(|message| message.0).min();
                kind <= most && lowest == Some(kind)
            }
        };
        self.0.iter().position(|message| suits(message.0))
    }

    fn fits(&self, length: usize, drafts: (usize, usize)) -> bool {
        let bytes: usize = self.0.iter().map(|message| message.1.len()).sum();
        bytes + drafts.1 + length <= CAPACITY && self.0.len() + drafts.0 < MESSAGES
    }
}

fn told((kind, bytes, redelivered): &Message) -> (Taken, Vec<u8>) {
    let taken = Taken {
        kind: *kind,
        redelivered: *redelivered,
    };
    (taken, bytes.clone())
}

fn play(seed: u64) {
    let all = bytes(seed);
    let mut input = Input::new(&all);
    let (shape, length) = Shape::plan(CAPACITY, MESSAGES, 4).unwrap();
    let region = region(&Shape::EXPECTED, length);
    shape.format(&region).unwrap();
    let channel = || Channel::on(&region).unwrap();
    let mut poster = Poster::of(channel()).unwrap();
    let mut taker = Taker::of(channel()).unwrap();
    let mut list = List::default();
    let mut step = 0u64;
    while !input.is_over() {
        step += 1;
        let kind = input.choose(&KINDS);
        let wanted = match input.byte() % 4 {
            0 => Wanted::Any,
            1 => Wanted::Type(kind),
            2 => Wanted::UpTo(kind),
            _ => Wanted::Except(kind),
        };
        let message = vec![step as u8; input.choose(&LENGTHS)];
        let mut seen = vec![];
        match input.byte() % 8 {
            0..=2 => {
                let fits = list.fits(message.len(), (0, 0));
                let posted = poster.try_post(kind, &message);
                assert_eq!(posted.is_ok(), fits, "{seed} {step} {posted:?}");
                assert!(fits || posted == Err(PostError::Full));
                if fits {
                    list.0.push_back((kind, message, false));
                }
            }
            3 => {
                let fits = list.fits(message.len(), (0, 0));
                let loan = poster.loan(kind, message.len(), Patience::none());
                assert_eq!(loan.is_ok(), fits, "{seed} {step}");
                let Ok(mut loan) = loan else { continue };
                loan.copy_in(0, &message).unwrap();
                // What is being written has its room.
                let found = list.find(wanted);
                let taken = taker.try_take(wanted, &mut seen).unwrap();
                let expected = found.map(|at| list.0.remove(at).unwrap());
                assert_eq!(taken, expected.as_ref().map(|message| told(message).0));
                if input.byte().is_multiple_of(3) {
                    drop(loan);
                } else {
                    let part = message.len().saturating_sub(input.below(3));
                    loan.post_part(part).unwrap();
                    list.0.push_back((kind, message[..part].to_vec(), false));
                }
            }
            4 => {
                let delivery = taker.receive(wanted, Patience::none()).unwrap();
                let expected = list.find(wanted).map(|at| list.0.remove(at).unwrap());
                assert_eq!(delivery.is_some(), expected.is_some(), "{seed} {step}");
                let Some((delivery, (kind, text, again))) = delivery.zip(expected) else {
                    continue;
                };
                delivery.append_to(&mut seen);
                let taken = delivery.taken();
                assert_eq!((taken, seen), told(&(kind, text.clone(), again)));
                if input.byte().is_multiple_of(2) {
                    delivery.put_back();
                    list.0.push_front((kind, text, true));
                }
            }
            5 => {
                let found = list.find(wanted).map(|at| told(&list.0[at]));
                let peeked = taker.peek(wanted, Patience::none(), &mut seen).unwrap();
                assert_eq!(peeked.map(|taken| (taken, seen)), found, "{seed} {step}");
            }
            6 => {
                let at = input.below(MESSAGES + 1);
                let peeked = taker.peek_at(at as u64, &mut seen).unwrap();
                let expected = list.0.get(at).map(told);
                assert_eq!(peeked.map(|taken| (taken, seen)), expected);
            }
            _ => {
                let expected = list.find(wanted).map(|at| list.0.remove(at).unwrap());
                let taken = taker.try_take(wanted, &mut seen).unwrap();
                let expected = expected.as_ref().map(told);
                assert_eq!(taken.map(|taken| (taken, seen)), expected, "{seed} {step}");
            }
        }
        let word = |offset| region.load_u64(offset, Ordering::SeqCst);
        let held = [layout::DRAFTS, layout::RESERVED, layout::HOLDING].map(word);
        assert_eq!(held, [0; 3], "{seed} {step}: nothing is in hand");
    }
}

#[test]
fn as_a_list() {
    (0..if cfg!(miri) { 2 } else { 400 }).for_each(play);
}
