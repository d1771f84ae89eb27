//! fakeroot over System V queues and semaphores: each `stat`, `chown` or `unlink` of a program is a
//! question to the daemon `faked`, put into one queue, under a semaphore with undo, and answered in
//! another.

use crate::Piece;
use crate::need::Need;
use crate::side::has_users;
use crate::stage::Stage;

const NEEDS: &[Need] = &[
    Need::Program("fakeroot-sysv", "fakeroot"),
    Need::Program("ipcs", "util-linux"),
    Need::Program("tar", "tar"),
    // It gives files to others, which it does not survive to be refused as an invalid number.
    Need::Right("users beside this one, which root has", has_users),
];

pub const PIECES: &[Piece] = &[Piece {
    name: "fakeroot",
    needs: NEEDS,
    ordinary: true,
    play: fakeroot,
}];

/// 50 folders with 99 files each, and themselves: 5,000 and the top.
pub const TREE: &str = "
    mkdir tree
    for folder in $(seq 50); do
        mkdir tree/$folder
        for file in $(seq 99); do echo $folder $file; done |
            split --lines=1 --suffix-length=2 --numeric-suffixes=1 - tree/$folder/file
    done
    find tree -exec touch --no-dereference --date=@1000000000 {} +
";

/// What packagers do with a tree.
pub const WORK: &str = "
    chown -R 12:34 tree
    tar --create --file=tree.tar --sort=name tree
    cp -a tree copy
    ls -lnR --time-style=+%s copy > listing
";

fn fakeroot(stage: &Stage) {
    stage.shell(TREE);
    stage.fakeroot(WORK);
    stage.tell(&stage.read("listing"));
    // The archive carries the owners, too.
    stage.tell(
        &stage.shell("tar --list --verbose --numeric-owner --utc --file=tree.tar | head -200"),
    );
    // Four programs at a time, modes, devices, what is removed, and what is in the way.
    stage.tell(&stage.fakeroot(
        "
        tar --extract --file=tree.tar --directory=. --one-top-level=out
        ls -d out/tree/* | xargs -P 4 -n 3 chown -R 7:8
        ls -d out/tree/* | xargs -P 4 -n 5 chmod -R go-r
        mknod out/device c 1 3
        mknod out/block b 7 1
        chmod 6755 out/tree/1/file01
        ln out/tree/1/file02 out/hard
        chown 99:98 out/hard
        ln -s nowhere out/soft
        chown -h 5:6 out/soft
        rm -r out/tree/2
        chown 1:2 out/missing || echo refused: $?
        ls -lnR --time-style=+ out
        id -u; id -g
        ",
    ));
    // What the daemon knew is kept for the next one.
    let (tool, state) = (stage.program("fakeroot-sysv"), stage.path("state"));
    let mut save = stage.at(&tool);
    save.arg("-s").arg(&state);
    stage.run(save.args(["sh", "-c", "chown 3:4 copy; mknod copy/null c 1 3"]));
    let mut load = stage.at(&tool);
    load.arg("-i").arg(&state);
    let kept = stage.run(load.args(["sh", "-c", "ls -ldn --time-style=+ copy copy/null"]));
    stage.tell(&kept.out);
    // Exit statuses pass through.
    stage.tell(&format!(
        "status {}",
        stage
            .ended(stage.at(&tool).args(["sh", "-c", "exit 7"]))
            .code
    ));
    // The daemons remove their objects when they are told to end, which is after the end of fakeroot.
    stage.until("the daemons have ended", || objects(stage).is_empty());
}

fn objects(stage: &Stage) -> String {
    stage
        .shell("ipcs -q; ipcs -s; ipcs -m")
        .lines()
        .filter(|line| line.starts_with("0x"))
        .collect()
}

impl Stage {
    /// Runs a script of the shell under fakeroot.
    pub fn fakeroot(&self, script: &str) -> String {
        let mut command = self.at(&self.program("fakeroot-sysv"));
        self.run(command.args(["sh", "-ec", script])).out
    }
}
