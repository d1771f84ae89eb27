//! The operations that are killed everywhere.

use crate::kill::{Operation, everywhere};
use crate::scene::{After, GROWN, Scene, numbered};
use checks::suite::{Case, Outcome, case};
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
];

fn nothing(_: &Scene) {}

/// A writer that has put before: it has its presence and the lock's way is trodden.
fn writer(scene: &Scene) -> Writer {
    let mut writer = scene.writer();
    writer.put(&numbered(scene.last)).expect("put");
    writer
}

fn create() -> Outcome {
    everywhere(&Operation {
        scene: Scene::nothing,
        prepare: nothing,
        act: |scene, ()| drop(scene.writer()),
        after: After::Appears,
    })
}

fn create_and_put() -> Outcome {
    everywhere(&Operation {
        scene: Scene::nothing,
        prepare: nothing,
        act: |scene, ()| {
            scene.writer().put(&numbered(1)).expect("put");
        },
        after: After::Appears,
    })
}

fn open() -> Outcome {
    everywhere(&Operation {
        scene: || Scene::channel().unattended(),
        prepare: nothing,
        act: |scene, ()| drop(scene.writer()),
        after: After::GoesOn,
    })
}

fn put() -> Outcome {
    everywhere(&Operation {
        scene: || {
            let mut scene = Scene::channel();
            scene.last += 1;
            scene
        },
        prepare: writer,
        act: |scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
        },
        after: After::GoesOn,
    })
}

/// The first put of a process that inherited its writer by a fork: it makes its presence.
fn put_first() -> Outcome {
    everywhere(&Operation {
        scene: Scene::channel,
        prepare: Scene::writer,
        act: |scene, mut writer| {
            writer.put(&numbered(scene.last + 1)).expect("put");
        },
        after: After::GoesOn,
    })
}

fn grow() -> Outcome {
    everywhere(&Operation {
        scene: || {
            let mut scene = Scene::channel();
            scene.last += 1;
            scene
        },
        prepare: writer,
        act: |_, mut writer| writer.grow(GROWN).expect("grow"),
        after: After::GoesOn,
    })
}

fn remove() -> Outcome {
    everywhere(&Operation {
        scene: Scene::channel,
        prepare: nothing,
        act: |scene, ()| value::remove(scene.name.clone()).expect("remove"),
        after: After::MayBeGone,
    })
}

fn read() -> Outcome {
    everywhere(&Operation {
        scene: Scene::channel,
        prepare: nothing,
        act: |scene, ()| {
            let mut reader = Reader::open(scene.name.clone()).expect("open");
            reader.get().expect("get").expect("a message");
        },
        after: After::GoesOn,
    })
}
