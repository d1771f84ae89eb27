//! Keepers and those who want to put meanwhile: their models, deaths and hostile words.

use super::*;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::value_slots::Slots;
    use loom::thread;

    /// What a put does, with a number alone instead of a message: the lock and the seat must order it.
    fn count(words: &Region) {
        // Relaxed on purpose.
        let number = words.load_u64(layout::LATEST, Ordering::Relaxed);
        words
            .u64(layout::LATEST)
            .store(number + 1, Ordering::Relaxed);
    }

    /// Whether it was put without the lock.
    fn put(slots: &Slots, region: &Region, keeping: &mut Keeping, me: u64, keeps: bool) -> bool {
        if keeping.go_in(barrier::light) {
            count(region);
            if !keeping.go_out(barrier::light) {
                keeping.look_around();
                slots.bell(region).ring();
            }
            return true;
        }
        let held = slots.lock(region).take(me, Patience::FOREVER, |_| false);
        keeping
            .settle(Patience::FOREVER, |who| who == DEAD)
            .unwrap();
        count(region);
        if keeps {
            keeping.keep(me, |who| who == DEAD);
        }
        drop(held);
        slots.bell(region).ring_after_exchange();
        false
    }

    const DEAD: u64 = 9;

    fn new() -> (Slots, Region) {
        let (slots, length) = Slots::plan(0).unwrap();
        (slots, Region::heap(length))
    }

    /// [VALUE_KEEP], [VALUE_OUT]: a keeper that puts twice, and another that wants to put meanwhile;
    /// none gets into the other's way, and nobody sleeps for ever.
    #[test]
    fn keeper_and_settler_exclude_each_other() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(5);
        model.check(|| {
            let (slots, region) = new();
            let mut keeping = Keeping::new(&region);
            assert!(!put(&slots, &region, &mut keeping, 1, true));
            let keeper = {
                let region = region.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        put(&slots, &region, &mut keeping, 1, false);
                    }
                })
            };
            let mut other = Keeping::new(&region);
            assert!(!put(&slots, &region, &mut other, 2, false));
            keeper.join().unwrap();
            assert_eq!(region.load_u64(layout::LATEST, Ordering::Relaxed), 4);
        });
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
            thread::spawn(move || assert!(keeping.go_in(barrier::light)))
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
            let view = region.view();
            slots.bell(&region).wait(Patience::FOREVER, |_| {
                (slots.latest(&view) == 3).then_some(())
            });
            keeper.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::value_slots::Slots;
    use std::thread;
    use std::time::Instant;

    fn new() -> (Slots, Region) {
        let (slots, length) = Slots::plan(8).unwrap();
        (slots, Region::heap(length))
    }

    /// A writer that keeps the value.
    fn keeper(slots: &Slots, region: &Region, me: u64) -> Keeping {
        let mut keeping = Keeping::new(region);
        let held = slots.lock(region).take_if_free(me).unwrap();
        keeping.settle(Patience::none(), |_| false).unwrap();
        keeping.keep(me, |_| false);
        drop(held);
        keeping
    }

    fn settles(region: &Region, dead: u64) -> Result<(), u64> {
        Keeping::new(region).settle(Patience::none(), |who| who == dead)
    }

    #[test]
    fn who_is_inside_is_waited_for() {
        let (slots, region) = new();
        let mut first = keeper(&slots, &region, 7);
        assert_eq!(inside(&region), None);
        assert!(first.go_in(barrier::light));
        assert_eq!(inside(&region), Some(7));
        assert_eq!(settles(&region, 0), Err(7));
        // It is out, and is told that it keeps nothing; and so is the next who looks.
        assert!(!first.go_out(barrier::light));
        first.look_around();
        assert!(!first.go_in(barrier::light));
        assert_eq!(settles(&region, 0), Ok(()));
        assert_eq!(settles(&region, 0), Ok(()));
        let mut second = keeper(&slots, &region, 8);
        assert!(!first.go_in(barrier::light) && second.go_in(barrier::light));
    }

    #[test]
    fn the_dead_and_those_who_left_are_passed() {
        let (slots, region) = new();
        let mut first = keeper(&slots, &region, 7);
        assert!(first.go_in(barrier::light));
        assert_eq!(settles(&region, 7), Ok(()));
        let mut second = keeper(&slots, &region, 8);
        second.leave();
        assert!(!second.go_in(barrier::light));
        assert_eq!(settles(&region, 0), Ok(()));
        // One seat each, and no more than there are; those of the dead are taken.
        let all: Vec<_> = (0..KEEPERS)
            .map(|at| keeper(&slots, &region, 10 + at as u64))
            .collect();
        assert_eq!(
            all.iter().filter(|one| one.seat.is_some()).count(),
            KEEPERS - 1
        );
        let mut last = Keeping::new(&region);
        last.settle(Patience::none(), |_| false).unwrap();
        last.keep(99, |who| who == 7);
        assert!(last.go_in(barrier::light));
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
            one.keep(7, |_| false);
            assert!(one.go_in(barrier::light) && one.go_out(barrier::light));
            region
                .u64(layout::LATEST)
                .store(one.last, Ordering::Relaxed);
            settles(&region, 0).unwrap();
            assert!(!one.go_in(barrier::light));
            let need = (FIRST << times).min(MOST);
            assert_eq!(in_a_row(&mut one, 1 << 20), need, "{times}");
        }
        one.keep(7, |_| false);
        let long = one.last + LONG;
        region.u64(layout::LATEST).store(long, Ordering::Relaxed);
        settles(&region, 0).unwrap();
        assert!(!one.go_in(barrier::light));
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
                        let mut kept = 0;
                        for _ in 0..EACH {
                            if keeping.go_in(barrier::light) {
                                slots.put(&region, b"").unwrap();
                                if !keeping.go_out(barrier::light) {
                                    keeping.look_around();
                                }
                                kept += 1;
                                continue;
                            }
                            let lock = slots.lock(&region);
                            let held = lock.take(me, Patience::FOREVER, |_| false);
                            keeping.settle(Patience::FOREVER, |_| false).unwrap();
                            let number = slots.put(&region, b"").unwrap();
                            if keeping.is_time(number) {
                                keeping.keep(me, |_| false);
                            }
                            drop(held);
                        }
                        kept
                    })
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(slots.latest(&region), 3 * EACH);
        assert!(kept > 0);
    }

    #[test]
    fn hostile_words_keep_nobody_out() {
        let (slots, region) = new();
        let start = Instant::now();
        for word in [
            u64::MAX,
            0xffff,
            KEEPERS as u64 + 1,
            1 << 16,
            3,
            1 << 16 | 3,
        ] {
            region.u64(layout::KEEP).store(word, Ordering::Relaxed);
            assert_eq!(settles(&region, 0), Ok(()), "{word:#x}");
            assert_eq!(inside(&region), None);
            let mut keeping = keeper(&slots, &region, 7);
            assert!(keeping.go_in(barrier::light), "{word:#x}");
            region.u64(layout::KEEP).store(word, Ordering::Relaxed);
            keeping.go_out(barrier::light);
            keeping.look_around();
            keeping.leave();
        }
        assert!(start.elapsed() < SLICE * 20);
    }
}
