//! `serve` and `call`: requests and replies, errors, time, deaths, addresses.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::Test;
use crate::world::{Folder, World, ended, until};

pub const TESTS: &[Test] = &[
    ("replies_are_what_the_command_writes", replies),
    ("a_call_waits_for_the_service", waits),
    ("the_exit_code_says_that_the_command_failed", refused),
    ("jobs_serve_at_a_time", jobs),
    ("a_killed_server_is_told_of", killed),
    ("nobody_serves", nobody),
    ("a_command_that_is_not_there", no_command),
    ("limits_and_mode", made),
    ("wrong_lines", wrong),
];

/// A server whose service is there. It has its seat a moment later.
fn serve(world: &World, arguments: &str) -> Child {
    let child = world.start(&mut world.command(&format!("serve {arguments}")));
    let name = arguments.split(' ').next().expect("a name");
    until("it serves", || world.run(&format!("show {name}")).code == 0);
    child
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
}

fn replies(world: &World) {
    let server = serve(world, "upper -- tr a-z A-Z");
    assert_eq!(world.run("call upper --wait --text hello").text(), "HELLO");
    assert_eq!(
        world.run_with("call upper", b"two\nlines\n").text(),
        "TWO\nLINES\n"
    );
    assert_eq!(world.run_with("call upper -", b"").text(), "");
    let folder = Folder::new("service");
    let file = folder.0.join("request");
    fs::write(&file, vec![b'x'; 200_000]).expect("a file");
    let large = world.run(&format!("call upper {}", file.display())).text();
    assert_eq!(large, "X".repeat(200_000));
    let id = world.run("show upper --json").json()[0]["id"].clone();
    let by_id = world.run(&format!("call --id {id} --text id"));
    assert_eq!(by_id.text(), "ID");
    kill(server);
}

fn waits(world: &World) {
    let call = world.start(&mut world.command("call later --wait --text hello"));
    let server = world.start(&mut world.command("serve later --count 1 -- rev"));
    assert_eq!(ended(call).text().trim(), "olleh");
    assert_eq!(ended(server).code, 0);
    assert!(world.run("ls shm --json").json().is_empty(), "it went");
}

fn refused(world: &World) {
    let server = serve(world, "fails -- false");
    world
        .run("call fails --wait --text x")
        .fails(9, &["answered with an error", "false", "status: 1"]);
    world.run("call fails --text x").fails(9, &[]);
    kill(server);
    // The reply is longer than may be; the server goes on.
    let server = serve(world, "long --reply 100 -- seq 1000");
    world
        .run("call long --wait --text x")
        .fails(9, &["longer", "--reply"]);
    kill(server);
}

fn jobs(world: &World) {
    let server = serve(world, "naps --jobs 3 -- sleep 0.5");
    let start = Instant::now();
    let calls: Vec<_> = (0..3)
        .map(|_| world.start(&mut world.command("call naps --wait --text x")))
        .collect();
    for call in calls {
        ended(call).text();
    }
    assert!(start.elapsed() < Duration::from_millis(1400));
    world
        .run("call naps --text x --timeout 50ms")
        .fails(5, &["a server has the call"]);
    kill(server);
}

fn killed(world: &World) {
    let server = serve(world, "dies -- sleep 60");
    let call = world.start(&mut world.command("call dies --wait --text x"));
    let taken = || {
        // Of a thread that serves; the main one has none.
        let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).expect("tasks");
        let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
        tasks
            .filter_map(Result::ok)
            .any(|task| of(task).is_ok_and(|text| !text.trim().is_empty()))
    };
    until("the command runs", taken);
    let start = Instant::now();
    kill(server);
    ended(call).fails(1, &["the server died", "in part"]);
    assert!(start.elapsed() < Duration::from_secs(1));
}

fn nobody(world: &World) {
    world
        .run("call nobody --text x")
        .fails(3, &["no channel", "nobody"]);
    world
        .run("call nobody --wait --timeout 20ms --text x")
        .fails(5, &["no service came", "tombolo serve"]);
    let server = serve(world, "left --until-removed -- cat");
    kill(server);
    world
        .run("call left --text x")
        .fails(1, &["has no server", "--wait"]);
    world
        .run("call left --wait --timeout 20ms --text x")
        .fails(5, &["no server took the call"]);
    world.run("rm left").text();
}

fn no_command(world: &World) {
    let server = serve(world, "none -- /does/not/exist");
    world
        .run("call none --wait --text x")
        .fails(9, &["cannot run /does/not/exist"]);
    ended(server).fails(127, &["cannot run /does/not/exist"]);
}

fn made(world: &World) {
    let server = serve(world, "small --mode 640 --request 10 --reply 20 -- cat");
    let mut all = world.run("show small --json").json();
    let small = all.remove(0);
    assert_eq!(
        (&small["mode"], &small["channel"]),
        (&0o640.into(), &"service".into())
    );
    world
        .run("call small --wait --text 12345678901")
        .fails(1, &["11 bytes", "10 bytes", "--request"]);
    assert_eq!(
        world.run("call small --text 1234567890").text(),
        "1234567890"
    );
    world.run("recv small").fails(1, &["service", "queue"]);
    kill(server);
}

fn wrong(world: &World) {
    for (arguments, words) in [
        ("serve x", "COMMAND"),
        ("serve x --jobs 0 -- cat", "at least 1"),
        ("serve x --request much -- cat", "64K"),
        ("call", "which object"),
        ("call x file --text y", "not both"),
        ("call x --timeout soon", "5s"),
    ] {
        world.run(arguments).fails(2, &[words]);
    }
}
