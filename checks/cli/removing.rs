//! `tombolo rm`: what it removes, and what it leaves alone.

use sysv::{Key, Mode, Queue, Segment};
use tombolo::value::{Options, PutError, Writer};

use crate::Test;
use crate::world::{self, World};

pub const TESTS: &[Test] = &[
    ("several_go_on_after_a_failure", several),
    ("what_is_attached_needs_force", attached),
    ("what_is_marked_is_not_removed_again", marked),
    ("mine_are_of_every_kind_or_of_one", mine),
    ("channels_go_with_their_names", channels),
    ("a_terminal_is_asked", asked),
];

fn several(world: &World) {
    world.mk("shm 4096 --key 5");
    world.mk("shm 4096");
    let ran = world.run("rm shm 0x77 1 99 0x5");
    assert_eq!(String::from_utf8_lossy(&ran.out).lines().count(), 2);
    ran.fails(
        3,
        &[
            "segment with key 0x00000077",
            "segment 99",
            "tombolo ls shm",
        ],
    );
    assert_eq!(world.run("ls --json").json().len(), 0);
}

fn attached(world: &World) {
    let id = world.mk("shm 4096");
    world.mk("shm 4096");
    let holder = world.attach(id, "ro");
    let ran = world.run("rm --mine");
    assert_eq!(ran.code, 6);
    assert!(String::from_utf8_lossy(&ran.out).contains("removed segment 1"));
    ran.fails(6, &["segment 0", "it is attached", "--force"]);
    world.run("rm shm 0 --dry-run").fails(6, &["--force"]);
    let said = world.run("rm shm 0 --dry-run --force --json").json();
    assert_eq!(
        (&said[0]["id"], &said[0]["removed"]),
        (&id.into(), &false.into())
    );
    let said = world.run("rm shm 0 --force --json").json();
    assert_eq!(
        (&said[0]["kind"], &said[0]["removed"]),
        (&"shm".into(), &true.into())
    );
    let object = world
        .object("shm", id)
        .expect("kept by who has it attached");
    assert_eq!(object["status"], "dest");
    drop(holder);
    assert!(world.object("shm", id).is_none());
}

fn marked(world: &World) {
    let id = world.mk("shm 4096");
    let _holder = world.attach(id, "rw");
    world.run("rm shm 0 --force").text();
    assert_eq!(world.run("rm --mine").text(), "");
    assert_eq!(world.run("rm --mine --force").text(), "");
}

fn mine(world: &World) {
    world.mk("shm 4096");
    world.mk("msg");
    world.mk("sem 1");
    world.run("rm msg --mine").text();
    let left = world.run("ls --json").json();
    assert!(left.len() == 2 && left.iter().all(|object| object["kind"] != "msg"));
    Queue::create(Key::PRIVATE, Mode::default()).expect("made");
    if let Some(other) = world::other_user() {
        world
            .run(&format!("set shm 0 --owner {other} --group {other}"))
            .text();
        world.run(&format!("rm --user {other}")).text();
        assert!(world.object("shm", 0).is_none());
    }
    world.run("rm --mine").text();
    assert_eq!(world.run("ls --json").json().len(), 0);
}

fn channels(world: &World) {
    let open = |name: &str| {
        Writer::open_or_create(
            name.parse::<tombolo::Name>().expect("a name"),
            &Options::default(),
        )
    };
    // The writer's presence is a segment too, which is marked from the start.
    let left = || -> Vec<_> {
        let all = world.run("ls --json").json();
        all.into_iter()
            .filter(|object| object["status"] != "dest")
            .collect()
    };
    let mut writer = open("one").expect("made");
    writer.put(b"message").expect("put");
    drop(open("two").expect("made"));
    assert_eq!(left().len(), 3, "two channels and the directory");
    // The one in use stays, and so does the directory that has its name.
    world.run("rm --mine").fails(6, &["it is attached"]);
    assert_eq!(left().len(), 2);
    world.run("rm msg 0").fails(6, &["directory"]);
    world.run("rm --mine --force").text();
    assert_eq!(left(), Vec::<serde_json::Value>::new());
    assert!(
        matches!(writer.put(b"message"), Err(PutError::Removed)),
        "the writer learns of it"
    );
}

fn asked(world: &World) {
    let Some(answer_to) = crate::output::terminal(world) else {
        return;
    };
    let segment = Segment::create(Key::PRIVATE, 4096, Mode::default()).expect("made");
    let attach = segment.attach().expect("attached");
    let ran = answer_to("rm shm 0", "n\n");
    assert!(ran.contains("it is attached; remove it? [y/N]"), "{ran}");
    assert!(!segment.status().expect("left alone").marked);
    answer_to("rm shm 0", "y\n");
    assert!(segment.status().expect("attached").marked);
    drop(attach);
}
