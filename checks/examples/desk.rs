//! What a test works with: a key file of its own, processes, a name; all gone when it ends, also
//! when it fails.

use crate::programs::Language;
use std::cell::Cell;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use sysv::{Errno, Key, Segment};

/// How long anything may take.
const BOUND: Duration = Duration::from_secs(30);

/// Waits for something, bounded.
///
/// # Panics
/// If it does not come.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < BOUND, "too late: {what}");
        sleep(Duration::from_millis(1));
    }
}

/// A folder with a key file whose key nobody uses.
pub struct Desk {
    folder: PathBuf,
    key: Key,
    files: Cell<u32>,
}

impl Desk {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            // Relaxed: only the number matters.
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tombolo-examples-{}-{count}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).expect("a new folder");
            let file = folder.join("key");
            fs::write(&file, "").expect("a key file");
            let key = Key::ftok(&file, b'T').expect("the file is there");
            // `ftok` keeps 16 bits of the inode's number: somebody may have that key already.
            if Segment::open(key) == Err(Errno::NOENT) {
                return Self {
                    folder,
                    key,
                    files: Cell::new(0),
                };
            }
            fs::remove_dir_all(folder).expect("it is ours");
        }
    }

    pub fn key(&self) -> Key {
        self.key
    }

    /// The key as the command takes it: `PATH,ID`.
    pub fn ftok(&self) -> String {
        format!("{},T", self.folder.join("key").display())
    }

    /// A channel's name.
    pub fn name(&self) -> String {
        let folder = self.folder.file_name().expect("it has one");
        folder.to_str().expect("made of ASCII").to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.set(self.files.get() + 1);
        self.folder.join(format!("{name}.{}", self.files.get()))
    }

    /// A new file with these bytes.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a new file");
        path
    }

    /// Starts a program.
    pub fn run(&self, command: &mut Command) -> Running {
        let (out, err) = (self.path("out"), self.path("err"));
        let file = |path| File::create(path).expect("a new file");
        let command = command
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&err));
        let child = command.spawn().expect("it starts");
        Running { child, out, err }
    }

    pub fn serve(&self, language: Language, text: &[u8]) -> Running {
        let mut command = Command::new(language.program("server"));
        self.run(
            command
                .arg(self.folder.join("key"))
                .arg(self.file("input", text)),
        )
    }

    pub fn client(&self, language: Language) -> Running {
        self.run(Command::new(language.program("client")).arg(self.folder.join("key")))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Ok(segment) = Segment::open(self.key) {
            let _ = segment.remove();
        }
        if let Ok(name) = self.name().parse::<tombolo::Name>() {
            let _ = tombolo::value::remove(name);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process of a test, ended with it.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until it sleeps in a system call that waits, which it does not leave by itself.
    pub fn sleeps(&mut self) {
        const WAITS: [i64; 3] = [
            libc::SYS_nanosleep,
            libc::SYS_clock_nanosleep,
            libc::SYS_futex,
        ];
        let file = format!("/proc/{}/syscall", self.pid());
        until("it sleeps", || {
            let ended = self.child.try_wait().expect("it is our child");
            assert_eq!(ended, None, "it did not wait: {}", self.complaint());
            match fs::read_to_string(&file) {
                Ok(call) => {
                    let number = call.split(' ').next()?.parse().ok()?;
                    WAITS.contains(&number).then_some(())
                }
                // A kernel that does not say in which call: asleep in any.
                Err(_) => {
                    let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
                    stat.contains(") S ").then_some(())
                }
            }
        });
    }

    fn complaint(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    fn ends(&mut self) -> ExitStatus {
        until("it ends", || {
            self.child.try_wait().expect("it is our child")
        })
    }

    /// Waits until it has ended well, and answers what it wrote.
    pub fn succeeds(mut self) -> Vec<u8> {
        let status = self.ends();
        assert!(status.success(), "{status}: {}", self.complaint());
        assert_eq!(self.complaint(), "");
        fs::read(&self.out).expect("its output")
    }

    /// Waits until it has ended with an error that mentions `what`, and not by a signal.
    pub fn fails(mut self, what: &str) {
        let status = self.ends();
        assert_eq!(status.code(), Some(1), "{}", self.complaint());
        assert!(self.complaint().contains(what), "{}", self.complaint());
        assert_ne!(self.complaint(), "");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
