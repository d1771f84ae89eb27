//! The players of the demonstration: processes of their own, which wait for their cue.
//!
//! A player gets its cues as lines on standard input, tells the director what it has done by
//! lines on standard error, and displays on standard output, which it shares with the director.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{SigSet, Signal};
use tombolo::Patience;
use tombolo::value::{Options, Reader, Writer};

use crate::demo::address;
use crate::demo_race;
use crate::output::Output;

/// How long any step may take.
pub const STEP: Duration = Duration::from_secs(20);
/// How long an interruption may go unnoticed while a player is listened to.
pub const LOOK: Duration = Duration::from_millis(20);
/// The number of the signal that interrupted the demonstration; 0 while none has.
static INTERRUPTED: AtomicI32 = AtomicI32::new(0);

/// Breaks the demonstration off at its next step.
pub fn interrupt(by: Signal) {
    // Relaxed: it stands for nothing but itself.
    INTERRUPTED.store(by as i32, Ordering::Relaxed);
}

/// The signal that interrupted the demonstration.
pub fn interrupted() -> Option<Signal> {
    Signal::try_from(INTERRUPTED.load(Ordering::Relaxed)).ok()
}

/// How much of the message the client displays.
const SHOWN_LINES: usize = 8;
const SHOWN_COLUMNS: usize = 75;

/// A part to play.
#[derive(Clone, Debug)]
pub enum Role {
    /// Creates the value of that name and puts the file into it.
    Server(String),
    /// Waits for a message in the value of that name and displays it.
    Client(String),
    /// Tries to open the value of that name, and is to be refused.
    Stranger(String),
    /// Takes the bytes of the comparison from a transport.
    Receiver(String),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => write!(f, "server={name}"),
            Self::Client(name) => write!(f, "client={name}"),
            Self::Stranger(name) => write!(f, "stranger={name}"),
            Self::Receiver(transport) => write!(f, "receiver={transport}"),
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, what) = text.split_once('=').ok_or("expected ROLE=NAME")?;
        let what = what.to_owned();
        match role {
            "server" => Ok(Self::Server(what)),
            "client" => Ok(Self::Client(what)),
            "stranger" => Ok(Self::Stranger(what)),
            "receiver" => Ok(Self::Receiver(what)),
            _ => Err(format!("there is no role {role}")),
        }
    }
}

/// Plays a part.
pub fn play(role: &Role, file: Option<&Path>, out: &mut Output) -> anyhow::Result<ExitCode> {
    // The director has them blocked, and a player inherits that.
    SigSet::all()
        .thread_unblock()
        .context("cannot unblock signals")?;
    let file = file.context("no file was named")?;
    match role {
        Role::Server(name) => serve(name, file)?,
        Role::Client(name) => display(name, file, out)?,
        Role::Stranger(name) => ask(name)?,
        Role::Receiver(transport) => demo_race::receive(transport)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(name: &str, file: &Path) -> anyhow::Result<()> {
    let message = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let capacity = Options::default().capacity.max(message.len());
    let mut writer = Writer::open_or_create(
        address(name)?,
        &Options {
            capacity,
            ..Options::default()
        },
    )?;
    say("created", &writer.id().to_string());
    wait_for_cue()?;
    writer.put(&message)?;
    say("written", &message.len().to_string());
    wait_for_cue()
}

fn display(name: &str, file: &Path, out: &mut Output) -> anyhow::Result<()> {
    say("started", "");
    wait_for_cue()?;
    let mut reader = Reader::wait(address(name)?, STEP.into())?;
    say("attached", &reader.id().to_string());
    wait_for_cue()?;
    let message = reader.watch(STEP.into())?.context("no message came")?;
    say("read", "");
    wait_for_cue()?;
    drop(reader);
    say("detached", "");
    wait_for_cue()?;
    let same = message.bytes == fs::read(file)?;
    ensure!(same, "the message is not what is in {}", file.display());
    let text = String::from_utf8_lossy(&message.bytes);
    for line in text.lines().take(SHOWN_LINES) {
        let line = crate::value::printable(line);
        let shown: String = line.chars().take(SHOWN_COLUMNS).collect();
        let more = if shown.len() < line.len() { "…" } else { "" };
        out.line(&format!("  | {shown}{more}"))?;
    }
    let rest = text.lines().count().saturating_sub(SHOWN_LINES);
    if rest > 0 {
        out.line(&format!("  | … and {rest} more lines"))?;
    }
    out.flush()?;
    say("displayed", "");
    Ok(())
}

fn ask(name: &str) -> anyhow::Result<()> {
    match Reader::wait(address(name)?, Patience::none()) {
        Err(error) if error.is_permission_denied() => say("refused", ""),
        Err(error) => return Err(error.into()),
        Ok(_) => bail!("another user was let in"),
    }
    Ok(())
}

/// Tells the director that a step is done.
pub fn say(what: &str, detail: &str) {
    // A director that is gone closes the cues as well, which ends the player.
    let _ = writeln!(io::stderr(), "{what} {detail}");
}

fn wait_for_cue() -> anyhow::Result<()> {
    let mut cue = String::new();
    io::stdin()
        .read_line(&mut cue)
        .context("cannot read the cue")?;
    ensure!(!cue.is_empty(), "the demonstration was broken off");
    Ok(())
}

/// A process that plays a part, ended when this is dropped.
pub struct Player {
    child: Child,
    cues: Option<ChildStdin>,
    said: Receiver<String>,
    listener: Option<JoinHandle<()>>,
    role: String,
}

impl Player {
    /// Starts a process for a part.
    pub fn start(role: &Role, file: &Path) -> anyhow::Result<Self> {
        Self::start_with(role, file, None, ())
    }

    /// Starts a process for a part, as another user if one is named. When it ends, however it
    /// does, `companion` is dropped.
    pub fn start_with(
        role: &Role,
        file: &Path,
        user: Option<u32>,
        companion: impl Send + 'static,
    ) -> anyhow::Result<Self> {
        // Not `current_exe`: another user may not be let into the folders on the way to it.
        let mut command = Command::new("/proc/self/exe");
        command.arg("demo").arg(file).arg(format!("--role={role}"));
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user).current_dir("/");
        }
        let mut child = command.spawn().context("cannot start a process for it")?;
        let cues = child.stdin.take();
        let told = child.stderr.take().context("a player without a voice")?;
        let (say, said) = mpsc::channel();
        // A thread, because a pipe can't be read with a bound on the time.
        let listener = thread::spawn(move || {
            for line in BufReader::new(told).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    break;
                }
            }
            drop(companion);
        });
        let role = role
            .to_string()
            .split('=')
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            child,
            cues,
            said,
            listener: Some(listener),
            role,
        })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the player says that something is done, and answers the detail.
    pub fn says(&mut self, what: &str) -> anyhow::Result<String> {
        let patience = Patience::from(STEP);
        let line = loop {
            match self.said.recv_timeout(LOOK) {
                Ok(line) => break line,
                Err(_) if interrupted().is_some() => bail!("interrupted"),
                Err(RecvTimeoutError::Timeout) if !patience.is_over() => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the {} did not answer for {STEP:?}", self.role)
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the {} has ended", self.role),
            }
        };
        match line.split_once(' ') {
            Some((word, detail)) if word == what => Ok(detail.to_owned()),
            // What the player's own `exit::finish` says.
            _ => bail!(
                "the {}: {}",
                self.role,
                line.trim_start_matches("tombolo: ")
            ),
        }
    }

    /// Lets the player do the next step.
    pub fn go(&mut self) -> anyhow::Result<()> {
        let cues = self
            .cues
            .as_mut()
            .context("the player gets no cues any more")?;
        Ok(writeln!(cues, "go")?)
    }

    /// What the player reads, as a stream of bytes instead of cues.
    pub fn take_cues(&mut self) -> Option<ChildStdin> {
        self.cues.take()
    }

    /// Waits until the process has ended well.
    pub fn ends(mut self) -> anyhow::Result<()> {
        drop(self.cues.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the {} ended with {status}", self.role);
        Ok(())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Both fail if it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
