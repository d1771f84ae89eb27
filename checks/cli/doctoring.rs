//! `doctor`: what it takes away, and what it leaves.

use shmem::Region;
use shmem::header::ENDED;
use sysv::{Segment, procfs};

use crate::Test;
use crate::queues::{is_empty, recv, send, start_send, until_attached};
use crate::users::setpriv;
use crate::values::signal;
use crate::world::{World, ended, feed};

pub const TESTS: &[Test] = &[
    ("what_is_well_is_left_alone", well),
    ("what_the_killed_left_is_reclaimed", killed),
    ("what_holds_messages_is_left", holds),
    ("halves_of_creations_and_removals", halves),
    ("names_of_what_is_no_more", stale),
    ("what_is_not_mine_is_left", not_mine),
];

const WELL: &str = "nothing was left behind\n";

fn well(world: &World) {
    assert_eq!(world.run("doctor").text(), WELL);
    assert!(world.run("doctor --json").json().is_empty());
    world.run_with("put greeting", b"hello").text();
    world.mk("shm 4096");
    world.mk("msg");
    let (sender, input) = start_send(world, "jobs");
    until_attached(world, "jobs", &sender);
    let before = procfs::segments().expect("segments").len();
    assert_eq!(world.run("doctor").text(), WELL);
    assert_eq!(procfs::segments().expect("segments").len(), before);
    assert_eq!(world.run("get greeting").text(), "hello");
    drop(input);
    ended(sender).text();
}

fn killed(world: &World) {
    // A presence that its process had no time to attach.
    world.mk("shm 107 --mode 400");
    let mut publisher = world.start(&mut world.command("pub log"));
    let input = publisher.stdin.take();
    until_attached(world, "log", &publisher);
    signal(&publisher, libc::SIGKILL);
    ended(publisher);
    drop(input);
    let said = world.run("doctor --dry-run").text();
    let reclaims = |word: &str| said.lines().filter(|line| line.contains(word)).count();
    assert_eq!(reclaims("would reclaim"), 2, "{said}");
    assert!(said.contains("(topic log): nobody uses it"), "{said}");
    assert!(said.contains("presence"), "{said}");
    assert_eq!(world.run("ls shm --json").json().len(), 2, "not yet");
    let said = world.run("doctor --json").json();
    assert!(said.iter().all(|it| it["reclaimed"] == true) && said.len() == 2);
    assert!(
        world.run("ls --json").json().is_empty(),
        "the directory too"
    );
    assert_eq!(world.run("doctor").text(), WELL);
}

fn holds(world: &World) {
    send(world, "jobs", b"one\ntwo\n");
    for _ in 0..2 {
        let said = world.run("doctor").text();
        let expected =
            "(queue jobs): it holds messages; receive 2 messages with: tombolo recv jobs";
        assert!(
            said.starts_with("left ") && said.contains(expected),
            "{said}"
        );
    }
    assert_eq!(recv(world, "jobs"), b"one\ntwo\n");
    assert_eq!(world.run("doctor").text(), WELL);
}

fn halves(world: &World) {
    world.mk("shm 4096 --key 0x7b000001");
    let ended = world.mk("shm 4096 --key 0x7b000002");
    let region = Region::attach(ended).expect("attached");
    region.copy_in(0, &ENDED.to_ne_bytes()).expect("in bounds");
    assert!(world.run("doctor").text().contains("0"), "one of the two");
    drop(region);
    // By another key it may be any program's.
    world.mk("shm 4096 --key 0x7a000001");
    let foreign = world.mk("shm 4096 --key 0x7b000003");
    let region = Region::attach(foreign).expect("attached");
    region.copy_in(0, b"anything").expect("in bounds");
    drop(region);
    let said = world.run("doctor").text();
    assert!(said.contains("remover was killed"), "{said}");
    assert!(
        said.contains("left segment") && said.contains("no channel"),
        "{said}"
    );
    assert_eq!(world.run("ls shm --json").json().len(), 2);
}

fn stale(world: &World) {
    world.run_with("put greeting", b"hello").text();
    let id = world.run("show greeting --json").json()[0]["id"].as_i64();
    let id = i32::try_from(id.expect("a number")).expect("an id");
    Segment::from_id(id).remove().expect("as ipcrm does it");
    let said = world.run("doctor --dry-run").text();
    assert_eq!(
        said,
        "would reclaim the entry `greeting` of a directory: its segment is no more\n"
    );
    assert!(!is_empty_of_queues(world));
    assert!(
        world
            .run("doctor")
            .text()
            .starts_with("reclaimed the entry")
    );
    assert!(is_empty_of_queues(world) && is_empty(world));
}

fn is_empty_of_queues(world: &World) -> bool {
    world.run("ls msg --json").json().is_empty()
}

fn not_mine(world: &World) {
    world.mk("shm 107 --mode 400");
    let Some(mut command) = setpriv() else {
        return;
    };
    let mut child = world.start(command.arg("doctor"));
    feed(&mut child, b"");
    assert_eq!(ended(child).text(), WELL);
    assert!(!is_empty(world));
}
