//! The operations that are killed everywhere.

use crate::kill::{Operation, Survey, everywhere, killed_after};
use crate::scene::{After, GROWN, Scene, numbered};
use checks::step::Stepped;
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::Region;
use shmem::sync::Ordering;
use tombolo::value::{self, Reader, Writer};

pub const CASES: &[Case] = &[
    case("kill::create", create),
    case("kill::create_and_put", create_and_put),
    case("kill::open", open),
    case("kill::put", put),
    case("kill::put_first", put_first),
    case("kill::grow", grow),
    case("kill::remove", remove),
    case("kill::read", read),
    case("kill::put_parked", put_parked),
    case("kill::put_inherited", put_inherited),
    case("kill::put_and_keep", put_and_keep),
    case("kill::put_kept", put_kept),
    case("kill::put_kept_parked", put_kept_parked),
    case("kill::put_after_a_keeper", put_after_a_keeper),
    case("kill::put_after_a_dead_keeper", put_after_a_dead_keeper),
    case("kill::grow_kept", grow_kept),
    case("kill::grow_old_first", grow_old_first),
    case("kill::grow_again", grow_again),
    case("kill::create_again", create_again),
    case("kill::while_used_create", while_used_create),
    case("kill::while_used_leave", while_used_leave),
    case("kill::while_used_reclaim", while_used_reclaim),
];

fn nothing(_: &Scene) {}

fn after(after: After) -> impl Fn(Scene, bool, &mut Survey) {
    move |scene, completed, survey| scene.survive(after, completed, survey)
}

/// A writer that has put before: it has its presence and the lock's way is trodden.
pub fn writer(scene: &Scene) -> Writer {
    let mut writer = scene.writer();
    writer.put(&numbered(scene.last)).expect("put");
    writer
}

fn create() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::nothing,
        prepare: &nothing,
        act: &|scene, ()| drop(scene.writer()),
        survive: &after(After::Appears),
        each: 1,
    })
}

fn create_and_put() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::nothing,
        prepare: &nothing,
        act: &|scene, ()| {
            scene.writer().put(&numbered(1)).expect("put");
        },
        survive: &after(After::Appears),
        each: 1,
    })
}

fn open() -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::channel().unattended(),
        prepare: &nothing,
        act: &|scene, ()| drop(scene.writer()),
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// The scene for a [`writer`], whose put counts.
pub fn one_put_ahead() -> Scene {
    let mut scene = Scene::channel();
    scene.last += 1;
    scene
}

fn put() -> Outcome {
    everywhere(&Operation {
        scene: &one_put_ahead,
        prepare: &writer,
        act: &|scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
        },
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// The first put of a process that inherited its writer by a fork: it makes its presence.
fn put_first() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::channel,
        prepare: &Scene::writer,
        act: &|scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
        },
        survive: &after(After::GoesOn),
        each: 1,
    })
}

fn grow() -> Outcome {
    everywhere(&Operation {
        scene: &one_put_ahead,
        prepare: &writer,
        act: &|_, mut writer| writer.grow(GROWN).expect("grow"),
        survive: &after(After::GoesOn),
        each: 1,
    })
}

fn remove() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::channel,
        prepare: &nothing,
        act: &|scene, ()| value::remove(scene.name.clone()).expect("remove"),
        survive: &after(After::MayBeGone),
        each: 1,
    })
}

fn read() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::channel,
        prepare: &nothing,
        act: &|scene, ()| {
            let mut reader = Reader::open(scene.name.clone()).expect("open");
            reader.get().expect("get").expect("a message");
        },
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// Offset of the word by which waiters register on the bell of a value.
const PARKED: usize = 332;

/// Somebody is registered on the bell: the put makes a system call.
fn put_parked() -> Outcome {
    everywhere(&Operation {
        scene: &one_put_ahead,
        prepare: &|scene| {
            let writer = writer(scene);
            let region = Region::attach(writer.id()).expect("attach");
            region.u32(PARKED).store(1, Ordering::SeqCst);
            writer
        },
        act: &|scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
        },
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// The put of a writer that inherits the lock from one that was killed in the middle of its own.
fn put_inherited() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = one_put_ahead();
            let put = |mut writer: Writer| drop(writer.put(&numbered(scene.last + 1)));
            killed_after(4, || writer(&scene), put);
            scene
        },
        prepare: &Scene::writer,
        act: &|scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
        },
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// Offset of the word that says who keeps a value.
pub const KEEP: usize = 272;
/// After how many puts in a row a writer keeps it.
const IN_A_ROW: u64 = 16;

/// The scene for a [`writer_of`] that puts so many messages, all of which count.
fn puts_ahead(count: u64) -> Scene {
    let mut scene = Scene::channel();
    scene.last += count;
    scene
}

/// A writer that has put so many, the last of them the scene's last.
fn writer_of(scene: &Scene, count: u64) -> Writer {
    shmem::barrier::register();
    let mut writer = scene.writer();
    for number in scene.last + 1 - count..=scene.last {
        assert_eq!(writer.put(&numbered(number)).expect("put"), number);
    }
    writer
}

/// Whether somebody keeps the value of this writer.
fn is_kept(writer: &Writer) -> bool {
    let region = Region::attach(writer.id()).expect("attach");
    region.load_u64(KEEP, Ordering::SeqCst) & 0xffff != 0
}

/// A writer that keeps the value.
pub fn keeper(scene: &Scene) -> Writer {
    let writer = writer_of(scene, IN_A_ROW);
    assert!(is_kept(&writer), "{IN_A_ROW} puts in a row");
    writer
}

/// The scene for a [`keeper`].
pub fn before_keeper() -> Scene {
    puts_ahead(IN_A_ROW)
}

fn put_next(scene: &Scene, mut writer: Writer) {
    writer.put(&numbered(scene.last + 1)).expect("put");
}

/// The put with which a writer begins to keep.
fn put_and_keep() -> Outcome {
    everywhere(&Operation {
        scene: &|| puts_ahead(IN_A_ROW - 1),
        prepare: &|scene| writer_of(scene, IN_A_ROW - 1),
        act: &|scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
            assert!(is_kept(&writer));
        },
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// The put of a keeper.
fn put_kept() -> Outcome {
    everywhere(&Operation {
        scene: &before_keeper,
        prepare: &keeper,
        act: &put_next,
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// The same, when a reader may sleep.
fn put_kept_parked() -> Outcome {
    everywhere(&Operation {
        scene: &before_keeper,
        prepare: &|scene| {
            let writer = keeper(scene);
            let region = Region::attach(writer.id()).expect("attach");
            region.u32(PARKED).store(1, Ordering::SeqCst);
            writer
        },
        act: &put_next,
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// The put of another, while the keeper lives and is not inside.
fn put_after_a_keeper() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = before_keeper();
            let keeper = Stepped::new(|| keeper(&scene), |writer| put_next(&scene, writer));
            let mut keeper = keeper.expect("a stepped process");
            keeper.leave_stopped();
            (scene, keeper)
        },
        prepare: &|(scene, _)| scene.writer(),
        act: &|(scene, _), writer| put_next(scene, writer),
        survive: &|(scene, keeper): (Scene, Stepped), completed, survey| {
            drop(keeper);
            scene.survive(After::GoesOn, completed, survey);
        },
        each: 1,
    })
}

/// The put of one that comes after a keeper that was killed in the middle of its own.
fn put_after_a_dead_keeper() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = before_keeper();
            killed_after(4, || keeper(&scene), |writer| put_next(&scene, writer));
            scene
        },
        prepare: &Scene::writer,
        act: &put_next,
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// A keeper that makes the channel grow.
fn grow_kept() -> Outcome {
    everywhere(&Operation {
        scene: &before_keeper,
        prepare: &keeper,
        act: &|_, mut writer| writer.grow(GROWN).expect("grow"),
        survive: &after(After::GoesOn),
        each: 4,
    })
}

/// As `grow`, and those who had the channel open go on before anybody opens it anew.
fn grow_old_first() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let mut scene = one_put_ahead();
            scene.old_first = true;
            scene
        },
        prepare: &writer,
        act: &|_, mut writer| writer.grow(GROWN).expect("grow"),
        survive: &after(After::GoesOn),
        each: 1,
    })
}

/// What all outcomes of some cases say, or the first that is no pass.
fn all(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let mut figures = Vec::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Pass(text) => figures.push(text),
            skip => return skip,
        }
    }
    Outcome::Pass(figures.join("\n"))
}

/// Growing what somebody was killed growing.
fn grow_again() -> Outcome {
    let first = quick_or_long(
        &[12, 24][..],
        &[2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26],
    );
    all(first.iter().map(|changes| {
        everywhere(&Operation {
            scene: &|| {
                let mut scene = Scene::channel();
                scene.last += 1;
                let grow = |mut writer: Writer| drop(writer.grow(GROWN));
                killed_after(*changes, || writer(&scene), grow);
                scene
            },
            prepare: &Scene::writer,
            act: &|_, mut writer| writer.grow(GROWN).expect("grow"),
            survive: &after(After::GoesOn),
            each: 8,
        })
    }))
}

/// Creating what somebody was killed creating.
fn create_again() -> Outcome {
    let first = quick_or_long(&[7, 11][..], &[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    all(first.iter().map(|changes| {
        everywhere(&Operation {
            scene: &|| {
                let scene = Scene::nothing();
                killed_after(*changes, || (), |()| drop(scene.writer()));
                scene
            },
            prepare: &nothing,
            act: &|scene, ()| drop(scene.writer()),
            survive: &after(After::Appears),
            each: 1,
        })
    }))
}

fn while_used_create() -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::nothing().while_used(),
        prepare: &nothing,
        // It stays open: leaving is another case.
        act: &|scene, ()| std::mem::forget(scene.writer()),
        survive: &after(After::MayBeNew),
        each: 1,
    })
}

/// The last to leave.
fn while_used_leave() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let mut scene = Scene::nothing().while_used();
            scene.last = 1;
            scene
        },
        prepare: &writer,
        act: &|_, writer| drop(writer),
        survive: &after(After::MayBeGone),
        each: 1,
    })
}

/// Opening what somebody left by dying.
fn while_used_reclaim() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let mut scene = Scene::nothing().while_used();
            scene.last = 1;
            killed_after(0, || writer(&scene), drop);
            scene
        },
        prepare: &nothing,
        act: &|scene, ()| std::mem::forget(scene.writer()),
        survive: &after(After::MayBeNew),
        each: 1,
    })
}
