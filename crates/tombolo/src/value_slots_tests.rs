//! Slots that a writer goes round beside a reader: their models, deaths and hostile words.

use super::*;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use shmem::wait::Patience;

    fn shape(count: usize, length: usize) -> (Slots, Region) {
        let (slots, bytes) = Slots::shaped(length, count).unwrap();
        (slots, Region::heap(bytes))
    }

    /// Message n is made of n's only, and as long as n says: in one slot not always the same.
    fn message(number: u64) -> Vec<u8> {
        vec![number as u8; if number % 3 == 0 { 9 } else { 16 }]
    }

    /// A reader beside a writer that goes round both slots takes whole messages only and never goes
    /// back.
    fn reads_whole_messages(
        puts: u64,
        put: impl Fn(&Slots, &Region, u64) + Copy + Send + Sync + 'static,
    ) {
        loom::model(move || {
            let (slots, region) = shape(2, 16);
            let writer = {
                let region = region.clone();
                thread::spawn(move || (1..=puts).for_each(|number| put(&slots, &region, number)))
            };
            let reading = slots.reading(&region);
            let mut bytes = Vec::new();
            let mut seen = 0;
            for _ in 0..2 {
                match reading.read(seen, &mut bytes) {
                    Read::Whole(number) => {
                        assert!(number > seen);
                        assert_eq!(bytes, message(number), "torn");
                        seen = number;
                    }
                    Read::Nothing | Read::Overtaken => assert!(bytes.is_empty()),
                    Read::Damaged => panic!("nothing is damaged here"),
                }
            }
            writer.join().unwrap();
            match reading.read(seen, &mut bytes) {
                Read::Whole(number) => assert_eq!((number, bytes), (puts, message(puts))),
                other => assert_eq!((other, seen), (Read::Nothing, puts)),
            }
        });
    }

    /// [VALUE_TEAR], [VALUE_LATEST].
    #[test]
    fn no_reader_takes_half_a_message() {
        reads_whole_messages(3, |slots, region, number| {
            assert_eq!(put_next(slots, region, &message(number)), Some(number));
        });
    }

    /// The stores of a put, by offset and in an order of the caller's choice.
    fn store(slots: &Slots, region: &Region, number: u64, stores: &[&str]) {
        let stride = cells::stride(slot::LAYOUT.size, slots.capacity).unwrap();
        let slot = FIRST_SLOT + (number as usize & 1) * stride;
        let relaxed = |at, word| region.u64(at).store(word, Ordering::Relaxed);
        for what in stores {
            match *what {
                "mark" => relaxed(slot + slot::NUMBER, number),
                "fence" => fence(Ordering::Release),
                "extent" => relaxed(slot + slot::EXTENT, message(number).len() as u64),
                "bytes" => region
                    .copy_in(slot + slot::LAYOUT.size, &message(number))
                    .unwrap(),
                "latest" => region.u64(layout::LATEST).store(number, Ordering::Release),
                _ => relaxed(layout::LATEST, number),
            }
        }
    }

    /// The same beside a writer that stores these.
    fn reads_what_is_stored(puts: u64, stores: &'static [&str]) {
        reads_whole_messages(puts, move |slots, region, number| {
            store(slots, region, number, stores);
        });
    }

    /// In this order they are what a put does.
    #[test]
    fn these_are_the_stores() {
        reads_what_is_stored(3, &["mark", "fence", "extent", "bytes", "latest"]);
    }

    /// [VALUE_TEAR]: without the fence a torn copy passes for whole.
    #[test]
    #[should_panic(expected = "torn")]
    fn the_mark_must_be_first() {
        reads_what_is_stored(3, &["mark", "extent", "bytes", "latest"]);
    }

    /// [VALUE_TEAR]: nor may the length come before it.
    #[test]
    #[should_panic(expected = "torn")]
    fn the_extent_must_be_behind_the_mark() {
        reads_what_is_stored(3, &["mark", "extent", "fence", "bytes", "latest"]);
    }

    /// [VALUE_LATEST]: a number that is published too weakly is of a message of which not all is there.
    #[test]
    #[should_panic(expected = "torn")]
    fn the_number_must_be_released() {
        let stores = &["mark", "fence", "extent", "bytes", "latest, relaxed"];
        reads_what_is_stored(1, stores);
    }

    /// The whole of a put, unlock and bell included: a watcher sleeps through none.
    #[test]
    fn a_watcher_sees_the_last_message() {
        loom::model(|| {
            let (slots, region) = shape(2, 16);
            let writer = {
                let region = region.clone();
                thread::spawn(move || {
                    for _ in 1..=2 {
                        let held = slots.lock(&region).take(7, Patience::FOREVER, |_| false);
                        put_next(&slots, &region, b"");
                        drop(held);
                        slots.bell(&region).ring_after_exchange();
                    }
                })
            };
            let reading = slots.reading(&region);
            slots
                .bell(&region)
                .wait(Patience::FOREVER, |_| (reading.latest() == 2).then_some(()));
            writer.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn new(capacity: usize) -> (Slots, Region, Reading) {
        let (slots, length) = Slots::plan(capacity).unwrap();
        let region = Region::heap(length);
        slots.format(&region).unwrap();
        assert_eq!(Slots::open(&region), Some(slots));
        let reading = slots.reading(&region);
        (slots, region, reading)
    }

    /// Where the slot of a number begins, in a small value.
    fn slot_at(slots: &Slots, number: usize) -> usize {
        let stride = cells::stride(slot::LAYOUT.size, slots.capacity).unwrap();
        FIRST_SLOT + number % 8 * stride
    }

    #[test]
    fn the_latest_is_read_again_and_again() {
        let (slots, region, reading) = new(70);
        let mut bytes = vec![1, 2, 3];
        assert_eq!(reading.read(0, &mut bytes), Read::Nothing);
        assert!(bytes.is_empty());
        for number in 1..=100u8 {
            let message = vec![number; usize::from(number) * 7 % 71];
            assert_eq!(put_next(&slots, &region, &message), Some(u64::from(number)));
            for _ in 0..2 {
                assert_eq!(reading.read(0, &mut bytes), Read::Whole(number.into()));
                assert_eq!(bytes, message);
            }
            assert_eq!(reading.read(number.into(), &mut bytes), Read::Nothing);
        }
        assert!(put_next(&slots, &region, &[0; 71]).is_none());
    }

    #[test]
    fn what_needs_more_than_a_look_is_not_read_at_once() {
        let (slots, region, reading) = new(10);
        let mut bytes = vec![];
        let state = region.u64(header::STATE);
        state.store(READY, Ordering::Relaxed);
        assert_eq!(reading.read_at_once(0, &mut bytes), None);
        put_next(&slots, &region, b"one").unwrap();
        assert_eq!(reading.read_at_once(0, &mut bytes), Some(1));
        assert_eq!(bytes, b"one");
        assert_eq!(reading.read_at_once(1, &mut bytes), None);
        state.store(ENDED, Ordering::Relaxed);
        assert_eq!(reading.read_at_once(0, &mut bytes), None);
        assert!(reading.has_ended());
    }

    #[test]
    fn a_capacity_of_zero_is_enough_for_nothing() {
        let (slots, region, reading) = new(0);
        assert_eq!(put_next(&slots, &region, b""), Some(1));
        assert_eq!(reading.read(0, &mut Vec::new()), Read::Whole(1));
        assert!(put_next(&slots, &region, b"x").is_none());
        assert_eq!(Slots::plan(usize::MAX), None);
        assert_eq!(Slots::plan(usize::MAX / 2), None);
    }

    #[test]
    fn a_writer_that_died_at_any_store_leaves_the_last_message() {
        let (slots, region, reading) = new(16);
        // Once round all slots, so that what is overwritten was a message.
        for number in 1..=9u8 {
            put_next(&slots, &region, &[number; 3]).unwrap();
        }
        let mut bytes = Vec::new();
        let mut is_whole = |number: u8, text: &[u8]| {
            assert_eq!(reading.read(0, &mut bytes), Read::Whole(number.into()));
            assert_eq!(bytes, text);
        };
        let next = slot_at(&slots, 10);
        // The stores of `put`, one by one, as a death would leave them.
        region.u64(next + slot::NUMBER).store(10, Ordering::Relaxed);
        is_whole(9, &[9; 3]);
        region.u64(next + slot::EXTENT).store(5, Ordering::Relaxed);
        is_whole(9, &[9; 3]);
        region.copy_in(next + slot::LAYOUT.size, b"te").unwrap();
        is_whole(9, &[9; 3]);
        assert_eq!(put_next(&slots, &region, b"ten"), Some(10));
        is_whole(10, b"ten");
        // A reader that was stopped before it copied what stood there.
        let latest = region.u64(layout::LATEST);
        latest.store(2, Ordering::Relaxed);
        assert_eq!(reading.read(0, &mut bytes), Read::Overtaken);
        assert!(bytes.is_empty());
    }

    #[test]
    fn hostile_words_are_errors() {
        let (slots, region, reading) = new(16);
        put_next(&slots, &region, b"one").unwrap();
        let mut bytes = b"older".to_vec();
        let extent = region.u64(slot_at(&slots, 1) + slot::EXTENT);
        extent.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(reading.read(0, &mut bytes), Read::Damaged);
        assert!(bytes.is_empty());
        let latest = region.u64(layout::LATEST);
        latest.store(u64::MAX, Ordering::Relaxed);
        bytes = b"older".to_vec();
        assert_eq!(reading.read(0, &mut bytes), Read::Overtaken);
        assert!(bytes.is_empty());
        bytes = b"older".to_vec();
        // A number that nobody reads, and the next is a message again.
        assert_eq!(put_next(&slots, &region, b"again"), Some(0));
        assert_eq!(reading.read(0, &mut bytes), Read::Nothing);
        assert!(bytes.is_empty());
        assert_eq!(put_next(&slots, &region, b"again"), Some(1));
        assert_eq!(reading.read(0, &mut bytes), Read::Whole(1));
        for (capacity, count) in [(u64::MAX, 8u32), (1 << 40, 2), (16, 0), (16, 1), (16, 9)] {
            region
                .copy_in(layout::CAPACITY, &capacity.to_ne_bytes())
                .unwrap();
            region.copy_in(layout::SLOTS, &count.to_ne_bytes()).unwrap();
            assert_eq!(Slots::open(&region), None, "{capacity} {count}");
        }
        assert_eq!(Slots::open(&Region::heap(100)), None);
    }
}
