//! An IPC name space for each test, and what runs in it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use checks::bin_under_test;
use serde_json::Value as Json;
use sysv::Segment;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Sees to it that name spaces can be made: as root they can, others need a user name space, which
/// makes them root in it. False if the machine allows neither.
pub fn prepare() -> bool {
    // SAFETY: takes a number.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } == 0 {
        return true;
    }
    // SAFETY: no arguments.
    let (uid, gid) = (unsafe { libc::geteuid() }, {
        // SAFETY: no arguments.
        unsafe { libc::getegid() }
    });
    // SAFETY: takes a number.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC) } != 0 {
        eprintln!("these tests need an IPC name space of their own, which this machine denies");
        return false;
    }
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    maps.into_iter().all(|(file, text)| {
        let written = fs::write(file, text);
        if let Err(error) = &written {
            eprintln!(
                "these tests need a user name space, which this machine denies: {file}: {error}"
            );
        }
        written.is_ok()
    })
}

/// A user beside this one. None in a user name space that has only this one.
pub fn other_user() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").expect("the map");
    let numbers: Vec<u32> = map
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let found = numbers
        .chunks(3)
        .any(|range| range[0] <= 12345 && range[2] > 12345);
    if !found {
        eprintln!("skipped in part: there is no other user in this user name space");
    }
    found.then_some(12345)
}

/// A fresh IPC name space, of this thread and of what it starts. It goes with them, and what is
/// in it.
pub struct World(());

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let status = output.status;
        Self {
            code: status
                .code()
                .or(status.signal().map(|signal| 128 + signal))
                .expect("it ended"),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as text, of a run that succeeded and had nothing to say against it.
    pub fn text(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""));
        String::from_utf8(self.out).expect("text")
    }

    /// Standard output as an array of objects.
    pub fn json(self) -> Vec<Json> {
        serde_json::from_str(&self.text()).expect("an array")
    }

    /// Asserts a failure with this code whose message has all these words.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {}", self.err);
        }
    }
}

impl World {
    pub fn new() -> Self {
        // SAFETY: takes a number.
        let left = unsafe { libc::unshare(libc::CLONE_NEWIPC) };
        assert_eq!(left, 0, "unshare: {}", io::Error::last_os_error());
        Self(())
    }

    /// The command with these arguments, which stand in one string between spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(bin_under_test::tombolo());
        command
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .env("TZ", "UTC");
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, arguments: &str) -> Ran {
        self.run_with(arguments, b"")
    }

    /// Runs the command to its end, with these bytes on standard input.
    pub fn run_with(&self, arguments: &str, input: &[u8]) -> Ran {
        let mut child = self.start(&mut self.command(arguments));
        feed(&mut child, input);
        ended(child)
    }

    /// Starts a command with pipes.
    pub fn start(&self, command: &mut Command) -> Child {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    }

    /// Makes an object by `tombolo mk` and answers its id.
    pub fn mk(&self, arguments: &str) -> i32 {
        self.run(&format!("mk {arguments}"))
            .text()
            .trim()
            .parse()
            .expect("an id")
    }

    /// What `tombolo ls --json` says about an object.
    pub fn object(&self, kind: &str, id: i32) -> Option<Json> {
        let all = self.run(&format!("ls {kind} --json")).json();
        all.into_iter().find(|object| object["id"] == id)
    }

    /// What `tombolo show --json` says about an object.
    pub fn show(&self, kind: &str, id: i32) -> Json {
        let mut all = self.run(&format!("show {kind} {id} --json")).json();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// Another process that has a segment attached until the answer is dropped.
    pub fn attach(&self, id: i32, access: &str) -> Attached {
        let this = std::env::current_exe().expect("the path of this test");
        let mut child = self.start(Command::new(this).args(["--hold", &id.to_string(), access]));
        let mut ready = [0];
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut ready)
            .expect("it attaches");
        Attached { child }
    }
}

/// A folder of a test's own, open to every user, that goes with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        Self::within(std::env::temp_dir(), name)
    }

    /// One for name spaces of `tombolo run`: in memory, if there is such a place.
    pub fn for_spaces(name: &str) -> Self {
        let memory = PathBuf::from("/dev/shm");
        let folder = match memory.is_dir() {
            true => Self::within(memory, name),
            false => Self::new(name),
        };
        let sticky = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(&folder.0, sticky).expect("it is ours");
        folder
    }

    fn within(folder: PathBuf, name: &str) -> Self {
        let folder = folder.join(format!("tombolo-checks-{}-{name}", std::process::id()));
        fs::create_dir(&folder).expect("made");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that holds an attach.
pub struct Attached {
    child: Child,
}

impl Attached {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The end of its input is the end of it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The other side of `World::attach`: attaches, says so, and waits for the end of its input.
pub fn hold(id: &str, access: &str) -> ExitCode {
    let segment = Segment::from_id(id.parse().expect("an id"));
    let attaches = match access {
        "ro" => (None, Some(segment.attach_read_only().expect("attached"))),
        _ => (Some(segment.attach().expect("attached")), None),
    };
    io::stdout()
        .write_all(b".")
        .and_then(|()| io::stdout().flush())
        .expect("the test listens");
    let _ = io::stdin().read(&mut [0]);
    drop(attaches);
    ExitCode::SUCCESS
}

/// Writes `input` and closes the pipe. Who does not read it to the end says so by its exit.
pub fn feed(child: &mut Child, input: &[u8]) {
    let mut pipe = child.stdin.take().expect("a pipe");
    match pipe.write_all(input) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => panic!("{error}"),
        _ => {}
    }
}

/// Waits for a process that we started, not for ever.
pub fn ended(child: Child) -> Ran {
    let pid = child.id().cast_signed();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(LONG) else {
        // SAFETY: takes numbers; the process is our child and not reaped yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        panic!("it does not end");
    };
    Ran::of(output.expect("it was waited for"))
}

/// Waits until a state is reached, not for ever.
#[track_caller]
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < LONG, "not reached: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
