//! Running a program and being as good as it: what would have reached it reaches it, and how it
//! ends we end.
//!
//! | what | what happens |
//! | --- | --- |
//! | `^C`, `^\` | the terminal sends it to both; we stay until the program has ended |
//! | a signal that a process sent to us | is passed on |
//! | `^Z`, and what else stops both | stops both |
//! | the program stops by itself | so do we, if there is a terminal: its shell continues both |
//! | the program ends by a signal | so do we |
//!
//! We block the signals and read them from a descriptor; the program starts with those blocked that
//! were blocked before. What is ignored stays ignored in it.
//!
//! **Crash.** If we are killed, the program goes on, and its name space stays as long as it does.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tombolo::shmem::signals::Blocked;

/// What is passed on, and what tells of the program.
const SIGNALS: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGCHLD,
];

/// How a program ended.
pub struct Ended(ExitStatus);

/// Runs a program to its end.
///
/// # Errors
/// If it can't be started.
pub fn run(command: &mut Command) -> io::Result<Ended> {
    // All of them for a moment, and then those that we read.
    Blocked::new().hand_to(command);
    let mine = SigSet::from_iter(SIGNALS);
    mine.thread_set_mask()?;
    let signals = SignalFd::with_flags(&mine, SfdFlags::SFD_CLOEXEC)?;
    let child = command.spawn()?;
    let child = Pid::from_raw(child.id().cast_signed());
    loop {
        let Some(signal) = read(&signals)? else {
            continue;
        };
        let mut continued = false;
        match Signal::try_from(signal.ssi_signo.cast_signed()) {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(Signal::SIGCONT) => {
                continued = true;
                let _ = kill(child, Signal::SIGCONT);
            }
            Ok(other) if is_for_us(&signal, child) => {
                let _ = kill(child, other);
            }
            Ok(_) => {}
        }
        if let Some(status) = look(child, continued)? {
            return Ok(Ended(status));
        }
    }
}

/// After the program's end: waits until something is so, or a signal asks us to end. Answers whether
/// it is so.
///
/// # Errors
/// If signals can't be read.
pub fn wait_until(over: impl Fn() -> bool) -> io::Result<bool> {
    const LOOK: Duration = Duration::from_millis(50);
    let mut pause = Duration::from_millis(1);
    // Those that ask nothing of us come as well, so that they don't stay.
    let signals = SignalFd::with_flags(
        &SigSet::from_iter(SIGNALS),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?;
    while !over() {
        let mut polled = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Some(signal) = read(&signals)? {
            let asks = Signal::try_from(signal.ssi_signo.cast_signed());
            if asks.is_ok_and(|signal| !matches!(signal, Signal::SIGCHLD | Signal::SIGCONT)) {
                return Ok(false);
            }
        }
        pause = (pause * 2).min(LOOK);
    }
    Ok(true)
}

fn read(signals: &SignalFd) -> io::Result<Option<siginfo>> {
    match signals.read_signal() {
        Err(Errno::EINTR) => Ok(None),
        signal => Ok(signal?),
    }
}

/// Whether a process meant us, and not the terminal both of us, and not the program us.
fn is_for_us(signal: &siginfo, child: Pid) -> bool {
    const SI_KERNEL: i32 = 0x80;
    signal.ssi_code != SI_KERNEL && signal.ssi_pid != child.as_raw().cast_unsigned()
}

/// The program's end, if it has ended. Stops with it if it has stopped.
fn look(child: Pid, continued: bool) -> io::Result<Option<ExitStatus>> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Some(ExitStatus::from_raw(code << 8))),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(Some(ExitStatus::from_raw(signal as i32)));
            }
            // Continued since, by what has continued us.
            Ok(WaitStatus::Stopped(..)) if continued => {}
            Ok(WaitStatus::Stopped(..)) if has_terminal() => raise(Signal::SIGSTOP)?,
            Ok(_) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether there is a terminal, and so may be a shell that continues who has stopped.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

impl Ended {
    /// Ends this process as the program ended: by the same signal, or with its exit code.
    pub fn pass_on(self) -> anyhow::Result<ExitCode> {
        let Some(signal) = self.0.signal() else {
            let code = self.0.code().unwrap_or_default();
            return Ok(ExitCode::from(u8::try_from(code & 0xff)?));
        };
        // The program has left its core already.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
        }
        if let Ok(named) = Signal::try_from(signal) {
            die_by(named);
        }
        // A signal that does not kill us, as those of real time do not have names.
        Ok(ExitCode::from(u8::try_from(128 + signal)?))
    }
}

/// Ends this process by a signal, if that can be done.
fn die_by(signal: Signal) {
    let _ = SigSet::from_iter([signal]).thread_unblock();
    // Of those that the run-time handles the first raise only gives the handler up.
    for _ in 0..2 {
        let _ = raise(signal);
    }
}
