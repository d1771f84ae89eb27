//! `ls channels` and `show`: what is in a channel, and that looking leaves no trace.

use std::io::Write;

use serde_json::Value as Json;
use sysv::procfs;

use crate::Test;
use crate::queues::{line, send, start_recv, start_send};
use crate::users::setpriv;
use crate::values::signal;
use crate::world::{World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("a_queue_shows_what_waits_and_who_sends", waiting),
    ("looking_leaves_no_trace", no_trace),
    ("who_sleeps_and_who_is_dead", asleep_and_dead),
    ("the_rate_is_that_of_the_interval", rate),
    ("what_nobody_has_attached_needs_attach", unattached),
    ("others_are_shown_as_far_as_they_may_be", others),
    ("by_key_and_without_a_name", keyed),
    ("wrong_lines", wrong),
];

/// What `ls channels` says of the channel of that name, without measuring.
pub fn channel(world: &World, name: &str) -> Option<Json> {
    let all = world.run("ls channels --json --interval 0").json();
    all.into_iter().find(|channel| channel["name"] == name)
}

/// Waits until `ls channels` says so of a channel, and answers what it says.
#[track_caller]
pub fn until_it_shows(world: &World, name: &str, is: impl Fn(&Json) -> bool) -> Json {
    let mut shown = Json::Null;
    until("it shows", || {
        shown = channel(world, name).unwrap_or_default();
        is(&shown)
    });
    shown
}

/// The participants of that role.
fn of<'a>(shown: &'a Json, role: &str) -> Vec<&'a Json> {
    let all = shown["participants"].as_array().expect("an array");
    all.iter().filter(|p| p["role"] == role).collect()
}

fn waiting(world: &World) {
    assert_eq!(world.run("ls channels").text(), "no channels\n");
    assert!(world.run("ls channels --json").json().is_empty());
    let (sender, mut input) = start_send(world, "jobs --capacity 64K --mode 640");
    input.write_all(b"one\ntwo\nthree\n").expect("it listens");
    let shown = until_it_shows(world, "jobs", |shown| shown["messages"] == 3);
    assert_eq!(shown["channel"], "queue");
    // A header and a message, each of eight bytes or less.
    assert_eq!((&shown["total"], &shown["bytes"]), (&3.into(), &48.into()));
    assert_eq!(shown["mode"], 0o640);
    assert_eq!(shown["capacity"], 64 << 10);
    assert_eq!((&shown["dead"], &shown["unseen"]), (&0.into(), &Json::Null));
    let producers = of(&shown, "producer");
    assert_eq!(producers.len(), 1);
    let producer = producers[0];
    assert_eq!(producer["pid"], sender.id());
    assert_eq!(
        (&producer["alive"], &producer["lag"]),
        (&true.into(), &3.into())
    );
    assert!(
        producer["command"]
            .as_str()
            .is_some_and(|c| c.contains("send jobs"))
    );
    assert!(of(&shown, "consumer").is_empty());
    let text = world.run("ls channels --interval 0").text();
    let row: Vec<&str> = text
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row[..2], ["jobs", "queue"]);
    assert!(
        text.contains("1 producer") && text.contains("PARKED"),
        "{text}"
    );
    let raw = world.run("ls channels --raw --output name,messages,rate --interval 0");
    assert_eq!(raw.text(), "jobs\t3\t-\n");
    // What is received waits no more.
    assert_eq!(world.run("recv jobs --count 2").text(), "one\ntwo\n");
    let shown = channel(world, "jobs").expect("it");
    assert_eq!(
        (&shown["messages"], &shown["total"]),
        (&1.into(), &3.into())
    );
    let shown = world.run("show jobs").text();
    for word in ["Participants", "producer", "awake", "send jobs"] {
        assert!(shown.contains(word), "no {word} in {shown}");
    }
    drop(input);
    // Its one receiver has left in good order.
    ended(sender);
}

fn no_trace(world: &World) {
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"one\n").expect("it listens");
    until_it_shows(world, "jobs", |shown| shown["messages"] == 1);
    send(world, "left", b"one\n");
    let before = procfs::segments().expect("segments");
    for arguments in [
        "ls channels",
        "ls channels --json --output all",
        "ls",
        "show jobs",
        "show left",
        "show nobody/jobs",
    ] {
        world.run(arguments);
        let now = procfs::segments().expect("segments");
        assert_eq!(now, before, "{arguments}");
    }
    drop(input);
    ended(sender).text();
}

fn asleep_and_dead(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs");
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"one\n").expect("it listens");
    assert_eq!(line(&mut output), "one\n");
    let asleep = |shown: &Json| {
        let consumers = shown["participants"].as_array();
        consumers.is_some_and(|all| {
            all.iter()
                .any(|p| p["role"] == "consumer" && p["asleep"] == true)
        })
    };
    let shown = until_it_shows(world, "jobs", asleep);
    assert_eq!(
        (&shown["parked"], &shown["messages"]),
        (&1.into(), &0.into())
    );
    assert_eq!(of(&shown, "consumer")[0]["pid"], receiver.id());
    signal(&receiver, libc::SIGKILL);
    ended(receiver);
    let shown = until_it_shows(world, "jobs", |shown| shown["dead"] == 1);
    let consumer = of(&shown, "consumer")[0];
    assert_eq!(
        (&consumer["alive"], &consumer["asleep"], &consumer["pid"]),
        (&false.into(), &false.into(), &Json::Null)
    );
    assert!(world.run("show jobs").text().contains("dead"));
    drop(input);
    ended(sender);
}

fn rate(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs");
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"go\n").expect("it listens");
    assert_eq!(line(&mut output), "go\n");
    let shown = world.run("ls channels --json --interval 50ms").json();
    assert_eq!(shown[0]["rate"], 0, "nothing moves");
    let shown = world.run("ls channels --json --interval 0").json();
    assert_eq!(shown[0]["rate"], Json::Null, "nothing was measured");
    let reading = std::thread::spawn(move || while !line(&mut output).is_empty() {});
    let writing = std::thread::spawn(move || {
        let lines = b"0123456789\n".repeat(1000);
        // Until it is killed.
        while input.write_all(&lines).is_ok() {}
    });
    until("it moves", || {
        let shown = world.run("ls channels --json --interval 50ms").json();
        shown[0]["rate"].as_u64().is_some_and(|rate| rate > 1000)
    });
    signal(&sender, libc::SIGKILL);
    ended(sender);
    ended(receiver);
    writing.join().expect("no panic");
    reading.join().expect("no panic");
}

fn unattached(world: &World) {
    send(world, "jobs", b"one\ntwo\n");
    let shown = channel(world, "jobs").expect("it");
    assert_eq!(
        (&shown["messages"], &shown["participants"]),
        (&Json::Null, &Json::Null)
    );
    assert!(
        shown["unseen"]
            .as_str()
            .is_some_and(|why| why.contains("no process"))
    );
    let text = world.run("show jobs").text();
    assert!(
        text.contains("cannot be seen") && text.contains("--attach"),
        "{text}"
    );
    let before = procfs::segments().expect("segments");
    let text = world.run("show jobs --attach").text();
    assert!(!text.contains("cannot be seen"), "{text}");
    let shown = world.run("show jobs --attach --json").json();
    assert_eq!(
        (&shown[0]["messages"], &shown[0]["total"]),
        (&2.into(), &2.into())
    );
    assert_eq!(shown[0]["participants"], serde_json::json!([]));
    let now = procfs::segments().expect("segments");
    assert_ne!(
        now[0].status.last_pid, before[0].status.last_pid,
        "as it says"
    );
    assert_eq!(
        world.run("recv jobs").text(),
        "one\ntwo\n",
        "nothing is taken"
    );
    // A segment that is no channel is none after an attach either.
    let id = world.mk("shm 4096");
    let text = world.run(&format!("show shm {id} --attach")).text();
    assert!(text.contains("being made, or given up"), "{text}");
}

fn others(world: &World) {
    let (sender, mut input) = start_send(world, "jobs --mode 644");
    input.write_all(b"one\n").expect("it listens");
    until_it_shows(world, "jobs", |shown| shown["messages"] == 1);
    let before = procfs::segments().expect("segments");
    let as_nobody = |arguments: &str| {
        let mut child = world.start(setpriv()?.args(arguments.split_whitespace()));
        feed(&mut child, b"");
        Some(ended(child))
    };
    if let Some(ran) = as_nobody("ls channels --json") {
        let shown = ran.json();
        assert_eq!(
            (&shown[0]["user"], &shown[0]["messages"]),
            (&"root".into(), &Json::Null)
        );
        let shown = as_nobody("show root/jobs").expect("as before").text();
        assert!(shown.contains("--attach"), "{shown}");
        assert_eq!(
            procfs::segments().expect("segments"),
            before,
            "without a trace"
        );
        let shown = as_nobody("show root/jobs --attach")
            .expect("as before")
            .text();
        assert!(shown.contains("Participants"), "{shown}");
        world.run("set shm jobs --mode 600");
        let refused = as_nobody("show root/jobs --attach").expect("as before");
        assert!(refused.code == 4 || refused.code == 0, "{}", refused.err);
    }
    drop(input);
    ended(sender).text();
}

fn keyed(world: &World) {
    send(world, "--key 0x4d2", b"by key\n");
    let shown = world.run("ls channels --json --interval 0").json();
    assert_eq!(
        (&shown[0]["name"], &shown[0]["key"], &shown[0]["channel"]),
        (&Json::Null, &0x4d2.into(), &"queue".into())
    );
    // Segments of other programs are no channels.
    world.mk("shm 4096 --key 7");
    assert_eq!(world.run("ls channels --json").json().len(), 1);
}

fn wrong(world: &World) {
    for (arguments, word) in [
        ("ls shm --interval 1s", "ls channels --interval"),
        ("ls channels --time", "tombolo ls shm --time"),
        ("ls channels --output nonsense", "participants"),
        ("ls channels --sort rate,up", "rate,desc"),
        ("ls channels --interval soon", "500ms"),
    ] {
        world.run(arguments).fails(2, &[word]);
    }
}
