//! What `ls` calls the objects that are Tombolo's own.

use crate::Test;
use crate::values::{put, signal};
use crate::world::{World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("channels_presence_and_directory", own_objects),
    ("a_channel_in_no_directory_is_no_orphan", unlisted),
    ("a_channel_by_key_is_known", keyed),
];

fn own_objects(world: &World) {
    let mut keeper = world.start(&mut world.command("put greeting --while-used"));
    feed(&mut keeper, b"hello");
    until("it is put", || {
        world.run("get greeting --no-wait").out == b"hello"
    });
    let plain = world.mk("shm 4096");
    let queue = world.mk("msg");
    let segments = world.run("ls shm --json").json();
    let mut named: Vec<(Option<&str>, Option<&str>)> = segments
        .iter()
        .map(|segment| (segment["channel"].as_str(), segment["name"].as_str()))
        .collect();
    named.sort_unstable();
    let presence = format!("pid {}", keeper.id());
    let expected = [
        (None, None),
        (Some("presence"), Some(presence.as_str())),
        (Some("value"), Some("greeting")),
    ];
    assert_eq!(named, expected);
    assert!(world.object("shm", plain).expect("it")["channel"].is_null());
    let queues = world.run("ls msg --json").json();
    let directory = queues.iter().find(|it| it["id"] != queue).expect("it");
    assert_eq!(directory["channel"], "directory");
    assert!(world.object("msg", queue).expect("it")["channel"].is_null());
    let text = world.run("ls msg").text();
    assert!(
        text.contains("CHANNEL") && text.contains("directory"),
        "{text}"
    );
    let shown = world.run("show greeting --json").json();
    assert_eq!(shown[0]["name"], "greeting");
    assert_eq!(shown[0]["attached"][0]["pid"], keeper.id());
    signal(&keeper, libc::SIGTERM);
    ended(keeper).text();
}

/// Where no queue can be made, a channel is in no directory, and still holds what was put.
fn unlisted(world: &World) {
    world.mk("msg");
    if world.run("limits --set msgmni=1").code != 0 {
        eprintln!("skipped: may not set msgmni here");
        return;
    }
    put(world, "greeting", b"hello");
    let named = world.run("ls shm --json").json();
    assert!(named[0]["name"].is_null(), "or this tests nothing");
    assert!(world.run("ls shm --orphans --json").json().is_empty());
    world.run("rm --orphans").text();
    assert_eq!(world.run("get greeting").out, b"hello");
}

/// A channel without a name is known for one all the same, and goes out of the directory with its
/// segment.
fn keyed(world: &World) {
    put(world, "--key 0x4d2", b"hello");
    let listed = world.run("ls shm --json").json();
    assert_eq!(listed[0]["channel"], "value");
    assert!(listed[0]["name"].is_null());
    let refused = world.run_with("load --key 0x4d2", b"x");
    refused.fails(1, &["it is a channel, a value", "tombolo put --id"]);
    world.run("rm --orphans").text();
    assert_eq!(world.run("get --key 0x4d2").out, b"hello");
    world.run("rm shm 0x4d2").text();
    assert!(world.run("ls --json").json().is_empty());
}
