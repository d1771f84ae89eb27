//! The store against a plain list.

use super::*;
use shmem::Region;
use shmem::heap::HEADER;
use shmem::journal::{self, Journal};

const NOTES: usize = 200;
const JOURNAL: Journal = Journal {
    offset: 0,
    room: NOTES,
};

fn store() -> (Region, Store) {
    let root = journal::size(NOTES);
    let header = root + layout::LAYOUT.size;
    let start = header + HEADER;
    let end = start + (1 << 18);
    let heap = Heap { header, start, end };
    (Region::heap(end), Store { root, heap })
}

/// A sequence of numbers that looks random: the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What a store does, done with a list of types and texts.
fn find_in_list(list: &[(u64, u8)], wanted: Wanted) -> Option<usize> {
    if let Wanted::UpTo(most) = wanted {
        let lowest = list.iter().map(|message| message.0).min()?;
        return (lowest <= most)
            .then(|| list.iter().position(|message| message.0 == lowest))
            .flatten();
    }
    list.iter().position(|message| wanted.suits(message.0))
}

fn read(tx: &Tx, store: &Store, message: Message) -> (u64, u8) {
    let mut text = Vec::new();
    message.read(tx, &store.heap, 100, &mut text).unwrap();
    (message.describe(tx, &store.heap).unwrap().0, text[0])
}

fn play(seed: u64, types: &[u64]) {
    let (region, store) = store();
    let mut tx = JOURNAL.begin(&region);
    let mut list: Vec<(u64, u8)> = Vec::new();
    let mut dice = Dice(seed);
    for step in 0..3000u32 {
        let number = types[dice.below(types.len() as u64) as usize];
        if dice.below(100) < 52 && list.len() < 200 {
            let text = [step as u8; 5];
            let new = Message::new(&mut tx, &store.heap, number, &text).unwrap();
            store.append(&mut tx, new).unwrap();
            list.push((number, step as u8));
        } else {
            let wanted = match dice.below(4) {
                0 => Wanted::Any,
                1 => Wanted::Type(number),
                2 => Wanted::UpTo(number),
                _ => Wanted::Except(number),
            };
            let found = store.find(&tx, wanted).unwrap();
            let expected = find_in_list(&list, wanted);
            assert_eq!(found.is_some(), expected.is_some(), "{step} {wanted:?}");
            if let (Some(found), Some(expected)) = (found, expected) {
                let taken = store.take(&mut tx, found).unwrap();
                let message = list.remove(expected);
                assert_eq!(read(&tx, &store, taken), message, "{wanted:?}");
                if dice.below(4) == 0 {
                    store.put_back(&mut tx, taken).unwrap();
                    assert_eq!(taken.is_again(&tx), Ok(true));
                    list.insert(0, message);
                } else {
                    taken.free(&mut tx, &store.heap).unwrap();
                }
            }
        }
        // Half of the transactions come to nothing.
        if dice.below(8) == 0 {
            tx.commit();
            let count = list.len() as u64;
            assert_eq!(store.contents(&tx), Ok((count, 5 * count)));
            let new = Message::new(&mut tx, &store.heap, number, b"never").unwrap();
            store.append(&mut tx, new).unwrap();
            if let Some(found) = store.find(&tx, Wanted::Any).unwrap() {
                store.take(&mut tx, found).unwrap();
            }
            drop(tx);
            tx = JOURNAL.begin(&region);
        }
        tx.commit();
        if !list.is_empty() {
            let place = dice.below(list.len() as u64);
            let found = store.at(&tx, place).unwrap().unwrap();
            assert_eq!(read(&tx, &store, found.message()), list[place as usize]);
        }
    }
    assert_eq!(store.at(&tx, list.len() as u64), Ok(None));
    while let Some(found) = store.find(&tx, Wanted::Any).unwrap() {
        store.take(&mut tx, found).unwrap();
        tx.commit();
    }
    // What the last one left idle goes too.
    store.clear(&mut tx).unwrap();
    assert_eq!(store.contents(&tx), Ok((0, 0)));
    for field in [layout::FIRST, layout::LAST, layout::TYPES] {
        assert_eq!(tx.get(store.root + field), Ok(0));
    }
}

#[test]
fn as_a_list() {
    play(1, &[1]);
    play(2, &[1, 2]);
    play(3, &[5, 1, 9, 3]);
    play(4, &[1 << 62, 1, i64::MAX as u64, 3, 1 << 40, 77]);
    let many: Vec<u64> = (1..60)
        .map(|n| n * 0x0123_4567_89ab % (1 << 50) + 1)
        .collect();
    play(5, &many);
}

#[test]
fn a_message_may_be_made_longer_than_it_becomes() {
    let (region, store) = store();
    let mut tx = JOURNAL.begin(&region);
    let new = Message::blank(&mut tx, &store.heap, 4, 10).unwrap();
    region.copy_in(new.text(), b"abc").unwrap();
    assert_eq!(new.truncate(&mut tx, &store.heap, 11), Err(Errno::INVAL));
    new.truncate(&mut tx, &store.heap, 3).unwrap();
    store.append(&mut tx, new).unwrap();
    assert_eq!(store.contents(&tx), Ok((1, 3)));
    let mut text = Vec::new();
    new.read(&tx, &store.heap, 100, &mut text).unwrap();
    assert_eq!(
        (text.as_slice(), new.is_again(&tx)),
        (&b"abc"[..], Ok(false))
    );
}

#[test]
fn nonsense_is_an_error_and_no_end_is_an_end() {
    // Each word of a filled store in turn becomes each of some nonsense; whatever is asked then
    // ends, with an answer or an error.
    let (region, store) = store();
    let mut tx = JOURNAL.begin(&region);
    for number in [3, 3, 7, 3, 5, 9, 9, 1] {
        let new = Message::new(&mut tx, &store.heap, number, b"text").unwrap();
        store.append(&mut tx, new).unwrap();
        tx.commit();
    }
    let end = tx
        .get_at(store.heap.header + shmem::heap::layout::BUMP)
        .unwrap();
    let mut errors = 0;
    for word in (store.root..end).step_by(8) {
        for nonsense in [
            0,
            1,
            8,
            0x0fff,
            end as u64,
            store.root as u64,
            u64::MAX,
            1 << 63,
        ] {
            let _ = tx.set(word, nonsense);
            for wanted in [
                Wanted::Any,
                Wanted::Type(9),
                Wanted::UpTo(4),
                Wanted::Except(3),
            ] {
                match store.find(&tx, wanted) {
                    Ok(Some(found)) => {
                        errors += u32::from(store.take(&mut tx, found).is_err());
                    }
                    Ok(None) => {}
                    Err(_) => errors += 1,
                }
            }
            errors += u32::from(store.at(&tx, 5).is_err());
            if let Ok(new) = Message::new(&mut tx, &store.heap, 6, b"new") {
                errors += u32::from(store.append(&mut tx, new).is_err());
            }
            drop(tx);
            tx = JOURNAL.begin(&region);
        }
    }
    assert!(errors > 100, "{errors}");
}
