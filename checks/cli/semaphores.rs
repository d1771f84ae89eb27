//! Semaphore operations from the shell, and those that last as long as a command.

use sysv::{Operation, Set};

use crate::Test;
use crate::world::{World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("operations_are_all_or_none", all_or_none),
    ("a_command_has_its_exit_code_and_its_input", a_command_runs),
    ("what_a_command_held_comes_back_however_it_ends", comes_back),
    ("it_is_a_lock", it_is_a_lock),
    ("a_waiter_goes_on", a_waiter_goes_on),
];

fn all_or_none(world: &World) {
    let id = world.mk("sem 3 --values 1,1,0");
    world
        .run(&format!("semop {id} 0:-1 1:-1 2:-1 --no-wait"))
        .fails(5, &["nothing was done"]);
    assert_eq!(Set::from_id(id).values().expect("values"), [1, 1, 0]);
    world.run(&format!("semop {id} 0:-1 1:-1 2:+2")).text();
    assert_eq!(Set::from_id(id).values().expect("values"), [0, 0, 2]);
}

fn a_command_runs(world: &World) {
    let id = world.mk("sem 1");
    let ran = world.run_with(&format!("semop {id} 0:+1 -- cat"), b"through\0");
    assert_eq!((ran.code, &ran.out[..]), (0, &b"through\0"[..]));
    assert_eq!(world.run(&format!("semop {id} 0:+1 -- false")).code, 1);
    world
        .run(&format!("semop {id} 0:+1 -- /no/such/program"))
        .fails(127, &["/no/such/program"]);
    world
        .run(&format!("semop {id} 0:+1 -- /"))
        .fails(126, &["cannot run /"]);
    assert_eq!(
        Set::from_id(id).values().expect("values"),
        [0],
        "all is undone"
    );
}

fn comes_back(world: &World) {
    let id = world.mk("sem 1 --values 1");
    let set = Set::from_id(id);
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGPIPE] {
        let child =
            world.start(&mut world.command(&format!("semop {id} 0:-1 --undo -- sleep 600")));
        let pid = child.id().cast_signed();
        until("it is held", || set.value(0) == Ok(0));
        assert_eq!(
            set.pid(0),
            Ok(pid),
            "the command has the process id of tombolo"
        );
        // It may hold it and not have become the command yet.
        let name = format!("/proc/{pid}/comm");
        until("it is sleep", || {
            std::fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")
        });
        // SAFETY: takes numbers; the process is our child and not reaped yet.
        unsafe { libc::kill(pid, signal) };
        assert_eq!(ended(child).code, 128 + signal);
        until("it came back", || set.value(0) == Ok(1));
    }
}

fn it_is_a_lock(world: &World) {
    let id = world.mk("sem 1 --values 1");
    let file = std::env::temp_dir().join(format!("tombolo-lock-{}", std::process::id()));
    std::fs::write(&file, "0").expect("written");
    let add = format!("n=$(cat {0}); echo $((n + 1)) > {0}", file.display());
    let children: Vec<_> = (0..20)
        .map(|_| {
            let mut command = world.command(&format!("semop {id} 0:-1 -- sh -c"));
            let mut child = world.start(command.arg(&add));
            feed(&mut child, b"");
            child
        })
        .collect();
    for child in children {
        ended(child).text();
    }
    let counted = std::fs::read_to_string(&file).expect("read");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(counted.trim(), "20");
}

fn a_waiter_goes_on(world: &World) {
    let id = world.mk("sem 1");
    let set = Set::from_id(id);
    for arguments in ["", "--timeout 50s"] {
        let child = world.start(&mut world.command(&format!("semop {id} 0:-2 {arguments}")));
        until("it waits", || set.waiting_for_increase(0) == Ok(1));
        assert_eq!(world.show("sem", id)["semaphores"][0]["ncount"], 1);
        world
            .run(&format!("rm sem {id}"))
            .fails(6, &["1 process waits on it", "--force"]);
        set.operate(&[Operation::add(0, 2)]).expect("added");
        ended(child).text();
    }
    let child = world.start(&mut world.command(&format!("semop {id} 0:-2")));
    until("it waits", || set.waiting_for_increase(0) == Ok(1));
    world.run(&format!("rm sem {id} --force")).text();
    ended(child).fails(3, &["removed meanwhile"]);
}
