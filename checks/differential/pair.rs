//! Two processes that make the same calls, one on the kernel, one in user space.

use crate::call::{Answer, Call, Side, WORDS};
use checks::process::{self, BOUND, Child, child, is_asleep, wait_until};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use sysv::Calls;

/// Who a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Root, with what capabilities there are.
    Root,
    /// Root without capabilities.
    Powerless,
    /// Another user.
    User(u32),
}

/// One process of a pair.
pub struct Half {
    process: Child,
    to: PipeWriter,
    from: PipeReader,
}

extern "C" fn nothing(_: i32) {}

impl Half {
    fn new(calls: &'static (dyn Calls + Sync), who: Who) -> Self {
        let (mut commands, to) = std::io::pipe().expect("a pipe");
        let (from, mut answers) = std::io::pipe().expect("a pipe");
        let process = child(move || {
            process::on_signal(libc::SIGUSR1, 0, nothing);
            match who {
                Who::Root => {}
                Who::Powerless => process::keep_capabilities(&[]),
                Who::User(id) => process::become_user(id, id, &[]),
            }
            let mut side = Side {
                calls,
                attaches: Vec::new(),
            };
            let mut bytes = [0u8; WORDS * 8];
            while commands.read_exact(&mut bytes).is_ok() {
                let mut words = [0i64; WORDS];
                for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
                    *word = i64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
                }
                let answer = side.make(Call::from_words(words));
                let answer: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
                answers.write_all(&answer).expect("an answer");
            }
        });
        Self { process, to, from }
    }

    fn send(&mut self, call: Call) {
        let bytes: Vec<u8> = call.words().iter().flat_map(|w| w.to_ne_bytes()).collect();
        self.to.write_all(&bytes).expect("a command");
    }

    fn has_answered(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.from.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one element to read and write.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    fn receive(&mut self) -> Answer {
        let mut bytes = [0u8; 24];
        self.from.read_exact(&mut bytes).expect("an answer");
        let word = |i: usize| i64::from_ne_bytes(bytes[8 * i..][..8].try_into().expect("eight"));
        [word(0), word(1), word(2)]
    }

    /// Waits until it has answered, or sleeps in its call; whether it has answered.
    fn settle(&self) -> bool {
        wait_until(BOUND, || {
            self.has_answered() || is_asleep(self.process.pid())
        });
        self.has_answered()
    }
}

/// A pair.
pub struct Pair {
    kernel: Half,
    user: Half,
    /// The call that it sleeps in.
    pub blocked: Option<Call>,
    pub who: Who,
    /// How many attaches it has.
    pub attaches: usize,
}

impl Pair {
    pub fn new(
        kernel: &'static (dyn Calls + Sync),
        user: &'static (dyn Calls + Sync),
        who: Who,
    ) -> Self {
        Self {
            kernel: Half::new(kernel, who),
            user: Half::new(user, who),
            blocked: None,
            who,
            attaches: 0,
        }
    }

    /// The pids of its two processes.
    pub fn pids(&self) -> [i32; 2] {
        [self.kernel.process.pid(), self.user.process.pid()]
    }

    /// Makes a call that does not wait.
    pub fn call(&mut self, call: Call) -> [Answer; 2] {
        self.kernel.send(call);
        self.user.send(call);
        [self.kernel.receive(), self.user.receive()]
    }

    /// Makes a call that may wait: the answers, or `None` if both sleep.
    pub fn call_and_maybe_sleep(&mut self, call: Call) -> Option<[Answer; 2]> {
        self.kernel.send(call);
        self.user.send(call);
        self.blocked = Some(call);
        self.look()
    }

    /// Looks whether a call that slept has ended.
    pub fn look(&mut self) -> Option<[Answer; 2]> {
        let answered = [self.kernel.settle(), self.user.settle()];
        if answered == [false, false] {
            return None;
        }
        // The other one's waking may still be on its way.
        wait_until(BOUND, || {
            self.kernel.has_answered() && self.user.has_answered()
        });
        self.blocked = None;
        Some([self.kernel.receive(), self.user.receive()])
    }

    /// Sends both a signal that they handle.
    pub fn interrupt(&self) {
        self.kernel.process.signal(libc::SIGUSR1);
        self.user.process.signal(libc::SIGUSR1);
    }

    /// Kills both and waits until they are gone.
    pub fn kill(self) {
        self.kernel.process.kill();
        self.user.process.kill();
    }
}
