//! An X server and its client: pictures go by shared segments, which the server attaches by id, some
//! of them read-only, after the client has marked them for destruction.

use crate::Piece;
use crate::need::Need;
use crate::stage::Stage;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

pub const PIECES: &[Piece] = &[Piece {
    name: "xvfb",
    needs: &[
        Need::Program("Xvfb", "xvfb"),
        Need::Program("x11perf", "x11-apps"),
        Need::Program("ipcs", "util-linux"),
    ],
    ordinary: false,
    play: xvfb,
}];

fn xvfb(stage: &Stage) {
    let number = File::create(stage.path("display")).expect("the folder is ours");
    let descriptor = number.as_raw_fd();
    let mut server = stage.at(&stage.program("Xvfb"));
    server.args(["-displayfd", &descriptor.to_string(), "-nolisten", "tcp"]);
    server.args(["-screen", "0", "800x600x24"]);
    let stay_open = move || {
        // SAFETY: a system call by numbers: the descriptor is to outlive `exec`.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
        Ok(())
    };
    // SAFETY: it makes one system call and nothing else.
    unsafe { server.pre_exec(stay_open) };
    let mut server = stage.start(&mut server, "server.log");
    stage.until("the server has a display", || {
        assert!(server.runs(), "{}", stage.read("server.log"));
        stage.read("display").ends_with('\n')
    });
    let display = format!(":{}", stage.read("display").trim());
    let tests = [
        "-shmput10",
        "-shmput100",
        "-shmput500",
        "-shmget10",
        "-shmget100",
        "-shmget500",
    ];
    let mut client = stage.at(&stage.program("x11perf"));
    client
        .args([
            "-display", &display, "-sync", "-repeat", "2", "-reps", "200",
        ])
        .args(tests);
    let ran = stage.run(&mut client);
    print!("{}{}", ran.out, ran.err);
    let done = ran.out.lines().filter(|line| line.contains("reps @"));
    for line in done {
        // `400 reps @   0.0012 msec (…/sec): ShmPutImage 10x10 square`
        let (reps, what) = (line.split("reps").next(), line.split("): ").nth(1));
        stage.tell(&format!(
            "{} {}",
            reps.unwrap_or("?").trim(),
            what.unwrap_or("?")
        ));
    }
    stage.tell(&format!("errors: {}", ran.err));
    // Every segment has gone with its client.
    stage.until("no segment is left", || {
        !stage.shell("ipcs -m").contains("0x")
    });
    server.signal(libc::SIGTERM);
    stage.tell(&format!("server {}", server.wait()));
}
