//! Keepers and those who want to put meanwhile: their models, deaths and hostile words.

use super::*;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::value_slots::{Slots, is_quiet};
    use loom::thread;
    use shmem::barrier::registered;

    /// Where a put leaves its number as well, by stores that only the lock and the seat order.
    const MESSAGE: usize = layout::CAPACITY;

    /// What a put does, with its number for a message.
    fn write(words: Control<'_>, number: u64) {
        // Relaxed on purpose.
        let message = words.u64(MESSAGE);
        assert_eq!(
            message.load(Ordering::Relaxed),
            number - 1,
            "a put out of turn"
        );
        message.store(number, Ordering::Relaxed);
        // [VALUE_LATEST]
        words.u64(layout::LATEST).store(number, Ordering::Release);
    }

    /// Whether it was put without the lock.
    fn put(slots: &Slots, region: &Region, keeping: &mut Keeping, me: u64, keeps: bool) -> bool {
        put_past(barrier::light, slots, region, keeping, me, keeps)
    }

    /// The same past another fence than the right one.
    fn put_past(
        light: impl Fn(),
        slots: &Slots,
        region: &Region,
        keeping: &mut Keeping,
        me: u64,
        keeps: bool,
    ) -> bool {
        let window = Window::new(region, 0);
        let words = window.words();
        if let Some((number, _)) = keeping.go_in(words, |_| light()) {
            write(words, number);
            light();
            if !is_quiet(words) {
                slots.bell(region).ring();
            }
            return true;
        }
        let held = slots.lock(region).take(me, Patience::FOREVER, |_| false);
        keeping
            .settle(Patience::FOREVER, |who| who == DEAD)
            .unwrap();
        write(words, next(words));
        if keeps {
            keeping.keep(me, registered().unwrap(), |who| who == DEAD);
        }
        drop(held);
        slots.bell(region).ring_after_exchange();
        false
    }

    const DEAD: u64 = 9;

    fn new() -> (Slots, Region) {
        let (slots, length) = Slots::plan(0).unwrap();
        let region = Region::heap(length);
        let state = region.u64(shmem::header::STATE);
        state.store(shmem::header::READY, Ordering::Relaxed);
        (slots, region)
    }

    /// [VALUE_KEEP], [VALUE_OUT]: a keeper that puts twice, and another that wants to put meanwhile;
    /// none gets into the other's way.
    fn exclude_each_other(light: fn()) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(5);
        model.check(move || {
            let (slots, region) = new();
            let mut keeping = Keeping::new(&region);
            assert!(!put(&slots, &region, &mut keeping, 1, true));
            let keeper = {
                let region = region.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        put_past(light, &slots, &region, &mut keeping, 1, false);
                    }
                })
            };
            let mut other = Keeping::new(&region);
            assert!(!put(&slots, &region, &mut other, 2, false));
            keeper.join().unwrap();
            let latest = region.load_u64(layout::LATEST, Ordering::Relaxed);
            assert_eq!(latest, 4, "a put is lost");
        });
    }

    #[test]
    fn keeper_and_settler_exclude_each_other() {
        exclude_each_other(barrier::light);
    }

    /// [VALUE_KEEP]: without the keeper's fence both put at once.
    #[test]
    #[should_panic(expected = "a put")]
    fn a_keeper_must_fence() {
        exclude_each_other(|| {});
    }

    /// Both keep whenever they may, with a seat for one.
    #[test]
    fn who_keeps_changes() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (slots, region) = new();
            let threads: Vec<_> = (1..=2)
                .map(|me| {
                    let region = region.clone();
                    thread::spawn(move || {
                        let mut keeping = Keeping::new(&region);
                        for _ in 0..2 {
                            put(&slots, &region, &mut keeping, me, true);
                        }
                        keeping.leave();
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(region.load_u64(layout::LATEST, Ordering::Relaxed), 4);
        });
    }

    /// One that died inside keeps nobody out, and its seat is taken.
    #[test]
    fn a_dead_keeper_is_passed() {
        loom::model(|| {
            let (slots, region) = new();
            let mut keeping = Keeping::new(&region);
            put(&slots, &region, &mut keeping, DEAD, true);
            let memory = region.clone();
            thread::spawn(move || {
                let window = Window::new(&memory, 0);
                assert!(keeping.go_in(window.words(), Registered::light).is_some());
            })
            .join()
            .unwrap();
            let mut next = Keeping::new(&region);
            assert!(!put(&slots, &region, &mut next, 1, true));
            assert!(put(&slots, &region, &mut next, 1, true));
            assert_eq!(region.load_u64(layout::LATEST, Ordering::Relaxed), 3);
        });
    }

    /// [BELL_PARK]: a watcher sleeps through no message of a keeper.
    #[test]
    fn a_watcher_sees_what_a_keeper_puts() {
        loom::model(|| {
            let (slots, region) = new();
            let mut keeping = Keeping::new(&region);
            put(&slots, &region, &mut keeping, 1, true);
            let keeper = {
                let region = region.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        assert!(put(&slots, &region, &mut keeping, 1, true));
                    }
                })
            };
            let reading = slots.reading(&region);
            slots
                .bell(&region)
                .wait(Patience::FOREVER, |_| (reading.latest() == 3).then_some(()));
            keeper.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::value_slots::{Slots, put};
    use std::thread;
    use std::time::Instant;

    fn new() -> (Slots, Region) {
        let (slots, length) = Slots::plan(8).unwrap();
        (slots, Region::heap(length))
    }

    fn registered() -> Registered {
        barrier::register();
        barrier::registered().expect("membarrier is to be had where this is tested")
    }

    /// A writer that keeps the value.
    fn keeper(slots: &Slots, region: &Region, me: u64) -> Keeping {
        let mut keeping = Keeping::new(region);
        let held = slots.lock(region).take_if_free(me).unwrap();
        keeping.settle(Patience::none(), |_| false).unwrap();
        keeping.keep(me, registered(), |_| false);
        drop(held);
        keeping
    }

    fn settles(region: &Region, dead: u64) -> Result<(), u64> {
        Keeping::new(region).settle(Patience::none(), |who| who == dead)
    }

    /// Goes in; the number that comes next.
    fn goes_in(region: &Region, keeping: &mut Keeping) -> Option<u64> {
        let window = Window::new(region, 0);
        let went = keeping.go_in(window.words(), Registered::light);
        went.map(|(number, _)| number)
    }

    /// Out again.
    fn publishes(region: &Region, number: u64) {
        region.u64(layout::LATEST).store(number, Ordering::Release);
    }

    #[test]
    fn who_is_inside_is_waited_for() {
        let (slots, region) = new();
        let mut first = keeper(&slots, &region, 7);
        assert_eq!(inside(&region), None);
        assert_eq!(goes_in(&region, &mut first), Some(1));
        assert_eq!(inside(&region), Some(7));
        assert_eq!(settles(&region, 0), Err(7));
        // It is out, and the next time it learns that it keeps nothing.
        publishes(&region, 1);
        assert_eq!(inside(&region), None);
        assert_eq!(settles(&region, 0), Ok(()));
        assert_eq!(settles(&region, 0), Ok(()));
        assert_eq!(goes_in(&region, &mut first), None);
        assert_eq!(settles(&region, 0), Ok(()));
        let mut second = keeper(&slots, &region, 8);
        assert_eq!(goes_in(&region, &mut first), None);
        assert_eq!(goes_in(&region, &mut second), Some(2));
    }

    #[test]
    fn one_that_wakes_late_keeps_nobody_out() {
        let (slots, region) = new();
        let mut first = keeper(&slots, &region, 7);
        // Put off its processor when it had said so, and before it looked.
        let inside = region.u64(inside_at(first.seat.unwrap()));
        inside.store(1, Ordering::Relaxed);
        assert_eq!(settles(&region, 0), Err(7));
        assert_eq!(goes_in(&region, &mut first), None);
        assert_eq!(settles(&region, 0), Ok(()));
        let mut second = keeper(&slots, &region, 8);
        publishes(&region, 20);
        // The same again, with a number that others have given long ago.
        inside.store(2, Ordering::Relaxed);
        assert_eq!(goes_in(&region, &mut second), Some(21));
        publishes(&region, 21);
        assert_eq!(settles(&region, 0), Ok(()));
    }

    #[test]
    fn the_dead_and_those_who_left_are_passed() {
        let (slots, region) = new();
        let mut first = keeper(&slots, &region, 7);
        assert!(goes_in(&region, &mut first).is_some());
        assert_eq!(settles(&region, 7), Ok(()));
        let mut second = keeper(&slots, &region, 8);
        second.leave();
        assert!(goes_in(&region, &mut second).is_none());
        assert_eq!(settles(&region, 0), Ok(()));
        // One seat each, and no more than there are; those of the dead are taken.
        let all: Vec<_> = (0..KEEPERS)
            .map(|at| keeper(&slots, &region, 10 + at as u64))
            .collect();
        let kept = all.iter().filter(|one| one.kept.read().is_some());
        assert_eq!(kept.count(), KEEPERS - 1);
        let mut last = Keeping::new(&region);
        last.settle(Patience::none(), |_| false).unwrap();
        last.keep(99, registered(), |who| who == 7);
        assert!(goes_in(&region, &mut last).is_some());
    }

    #[test]
    fn who_is_disturbed_keeps_later() {
        let (_, region) = new();
        let mut one = Keeping::new(&region);
        let in_a_row = |one: &mut Keeping, from: u64| {
            (from..).take_while(|number| !one.is_time(*number)).count() as u32 + 1
        };
        assert_eq!(in_a_row(&mut one, 1), FIRST);
        // Others in between.
        for number in (100..200).step_by(2) {
            assert!(!one.is_time(number));
        }
        for times in 1..20 {
            one.keep(7, registered(), |_| false);
            let number = goes_in(&region, &mut one).unwrap();
            publishes(&region, number.max(one.last));
            settles(&region, 0).unwrap();
            assert!(goes_in(&region, &mut one).is_none());
            let need = (FIRST << times).min(MOST);
            assert_eq!(in_a_row(&mut one, 1 << 20), need, "{times}");
        }
        one.keep(7, registered(), |_| false);
        let long = one.last + LONG;
        publishes(&region, long);
        settles(&region, 0).unwrap();
        assert!(goes_in(&region, &mut one).is_none());
        assert_eq!(in_a_row(&mut one, 1 << 30), FIRST);
    }

    /// Threads that put under their own fences, kept or not: no number is given twice.
    #[test]
    fn all_count() {
        const EACH: u64 = 20_000;
        let (slots, region) = new();
        let kept: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (1..=3u64)
                .map(|me| {
                    let region = region.clone();
                    scope.spawn(move || {
                        let mut keeping = Keeping::new(&region);
                        let writing = slots.writing(&region);
                        let (words, message) = (writing.words(), writing.fit(b"").unwrap());
                        let mut kept = 0;
                        for _ in 0..EACH {
                            if let Some((number, _)) = keeping.go_in(words, Registered::light) {
                                put(words, number, message);
                                kept += 1;
                                continue;
                            }
                            let lock = slots.lock(&region);
                            let held = lock.take(me, Patience::FOREVER, |_| false);
                            keeping.settle(Patience::FOREVER, |_| false).unwrap();
                            let number = next(words);
                            put(words, number, message);
                            if keeping.is_time(number) {
                                keeping.keep(me, registered(), |_| false);
                            }
                            drop(held);
                        }
                        kept
                    })
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(slots.reading(&region).latest(), 3 * EACH);
        assert!(kept > 0);
    }

    #[test]
    fn hostile_words_keep_nobody_out() {
        let (slots, region) = new();
        let start = Instant::now();
        for word in [
            u64::MAX,
            0xffff,
            (KEEPERS * keeper::LAYOUT.size) as u64 + 1,
            1 << 16,
            2,
            1 << 16 | 3,
            1 << 16 | 65,
        ] {
            region.u64(layout::KEEP).store(word, Ordering::Relaxed);
            assert_eq!(settles(&region, 0), Ok(()), "{word:#x}");
            assert_eq!(inside(&region), None);
            let mut keeping = keeper(&slots, &region, 7);
            assert!(goes_in(&region, &mut keeping).is_some(), "{word:#x}");
            region.u64(layout::KEEP).store(word, Ordering::Relaxed);
            assert!(goes_in(&region, &mut keeping).is_none(), "{word:#x}");
            keeping.leave();
        }
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
