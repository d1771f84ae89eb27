//! `tombolo demo`: the whole story, told by the processes themselves.
//!
//! This process directs: it starts a server and a client, lets them go on step by step, and shows
//! after each step what the kernel says about the segment. What they do is in `demo_roles`; the
//! comparison that follows is in `demo_race`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{self, SigSet, Signal};
use tombolo::sysv::{Segment, shm};
use tombolo::{Address, Name, Patience, value};

use crate::Plan;
use crate::demo_race;
use crate::demo_roles::{self, LOOK, Player, Role, STEP, play};
use crate::output::Output;
use crate::users::{Users, me};
use crate::value::clock;

/// See it work: a server and a client share a file through a segment, then the reason to do so
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo demo
  tombolo demo /etc/services

Takes a few seconds and leaves nothing behind, also when it is interrupted.")]
pub struct Args {
    /// What the server reads, - for standard input; README.md without, or a text of its own where
    /// there is none
    file: Option<PathBuf>,
    /// Play a part in the demonstration
    #[arg(long, hide = true)]
    role: Option<Role>,
}

/// What to show.
pub struct Showing {
    file: Option<PathBuf>,
    role: Option<Role>,
}

impl Args {
    /// Nothing can be wrong with it yet.
    pub fn plan(self) -> anyhow::Result<Showing> {
        Ok(Showing {
            file: self.file,
            role: self.role,
        })
    }
}

impl Plan for Showing {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        if let Some(role) = self.role {
            return play(&role, self.file.as_deref(), out);
        }
        let ends = Ends::catch()?;
        let told = Stage::set(self.file).and_then(|stage| {
            stage.tell(out)?;
            demo_race::run(out, &fs::read(&stage.file)?, &stage.folder)
        });
        if told.is_err() {
            // Who types ^C ends the players as well, and they may be first.
            thread::sleep(LOOK);
        }
        ends.follow()?;
        told?;
        out.line("\nNothing is left behind: see for yourself with `ipcs -a`, or `tombolo ls`.")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The signals that end this process, once it has cleaned up.
struct Ends(SigSet);

impl Ends {
    /// From now on they end the players, and with that the story.
    fn catch() -> anyhow::Result<Self> {
        let ends: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        ends.thread_block().context("cannot block signals")?;
        thread::spawn(move || {
            if let Ok(end) = ends.wait() {
                demo_roles::interrupt(end);
            }
        });
        Ok(Self(ends))
    }

    /// Ends this process by the signal that came, if one did.
    fn follow(self) -> anyhow::Result<()> {
        if let Some(end) = demo_roles::interrupted() {
            self.0.thread_unblock().context("cannot unblock signals")?;
            signal::raise(end).context("cannot end by a signal")?;
        }
        Ok(())
    }
}

/// What the demonstration makes; all of it goes when this is dropped.
struct Stage {
    name: Name,
    folder: PathBuf,
    file: PathBuf,
    /// What the audience is told about the file.
    shown: String,
    users: Users,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Not there, if all went well: the story ends with its removal.
        let _ = value::remove(self.name.clone());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Of the first column.
const WIDTH: usize = 29;
const OWN_TEXT: &str = "Processes are islands; a tombolo is the bar of sand that joins them.\n";

impl Stage {
    fn set(file: Option<PathBuf>) -> anyhow::Result<Self> {
        let pid = std::process::id();
        let folder = std::env::temp_dir().join(format!("tombolo-demo-{pid}"));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let readme = PathBuf::from("README.md");
        let own = folder.join("a-text-of-its-own");
        let mut stage = Self {
            name: Name::mine(&format!("demo-{pid}"))?,
            shown: "a text of its own".to_owned(),
            file: own,
            folder,
            users: Users::default(),
        };
        match file.or(readme.is_file().then_some(readme)) {
            Some(file) => stage.take(file)?,
            None => fs::write(&stage.file, OWN_TEXT)?,
        }
        Ok(stage)
    }

    /// Takes a file that each player can read from its beginning: a pipe can be read only once.
    fn take(&mut self, mut file: PathBuf) -> anyhow::Result<()> {
        self.shown = file.display().to_string();
        if file == Path::new("-") {
            self.shown = "standard input".to_owned();
            file = PathBuf::from("/dev/stdin");
        }
        let cannot = || format!("cannot read {}", self.shown);
        let mut open = File::open(&file).with_context(cannot)?;
        if open.metadata().with_context(cannot)?.is_file() {
            self.file = file;
        } else {
            let mut copy = File::create(&self.file)?;
            io::copy(&mut open, &mut copy).with_context(cannot)?;
        }
        Ok(())
    }

    fn tell(&self, out: &mut Output) -> anyhow::Result<()> {
        let name = &self.name;
        out.heading("Two processes and a segment between them")?;
        let mut server = Player::start(&Role::Server(name.to_string()), &self.file)?;
        let id: i32 = server
            .says("created")?
            .parse()
            .context("the server named no segment")?;
        let status = Segment::from_id(id).status_any()?;
        out.line(&format!(
            "server, pid {}: has created '{name}', to hold {}",
            server.pid(),
            self.shown
        ))?;
        self.introduce(out, &status)?;
        out.line("")?;
        let mut client = Player::start(&Role::Client(name.to_string()), &self.file)?;
        client.says("started")?;
        let cast = [(server.pid(), "server"), (client.pid(), "client")];
        let row = |out: &mut Output, step: &str| -> anyhow::Result<()> {
            let status = Segment::from_id(id).status_any()?;
            out.line(&row(step, &status, &cast))?;
            Ok(out.flush()?)
        };
        out.heading(&format!(
            "{:<WIDTH$}{:>6}  {:<16}{:<9}{:<9}{}",
            "shmid_ds after each step", "nattch", "lpid", "atime", "dtime", "ctime"
        ))?;
        row(out, "server has created it")?;
        client.go()?;
        client.says("attached")?;
        row(out, "client has attached it, ro")?;
        client.go()?;
        wait_until_parked(id)?;
        row(out, "client waits by a bell, rw")?;
        server.go()?;
        let written = server.says("written")?;
        row(out, "server has written: no call")?;
        client.says("read")?;
        row(out, "client has read: no call")?;
        server.go()?;
        server.ends()?;
        row(out, "server has detached, ended")?;
        let pid = client.pid();
        client.go()?;
        client.says("detached")?;
        row(out, "client has detached")?;
        out.line(&format!(
            "\nclient, pid {pid}: has {written} bytes, those of the file, and displays"
        ))?;
        out.flush()?;
        client.go()?;
        client.says("displayed")?;
        client.ends()?;
        out.line("")?;
        self.refuse(out)?;
        value::remove(name.clone())?;
        let gone = Segment::from_id(id).status_any().is_err();
        anyhow::ensure!(gone, "segment {id} is still there after its removal");
        out.line(&format!("{:<WIDTH$}it is gone", "it is removed (IPC_RMID)"))?;
        Ok(())
    }

    /// What does not change from step to step.
    fn introduce(&self, out: &mut Output, status: &shm::Status) -> anyhow::Result<()> {
        out.line(&format!(
            "segment {}  key {}  size {} bytes  mode {} ({})",
            status.id,
            status.perm.key,
            status.size,
            status.perm.mode,
            status.perm.mode.symbolic()
        ))?;
        out.line(&format!(
            "owner {}:{}  creator {}:{}  cpid {}",
            self.users.user(status.perm.uid),
            self.users.group(status.perm.gid),
            self.users.user(status.perm.cuid),
            self.users.group(status.perm.cgid),
            status.creator_pid
        ))?;
        Ok(())
    }

    /// Another user is refused, where this process may act as one.
    fn refuse(&self, out: &mut Output) -> anyhow::Result<()> {
        const NOBODY: u32 = 65534;
        let step = "another user asks for it";
        if me() != 0 {
            out.line(&format!(
                "{step:<WIDTH$}left out: only root can act as another user"
            ))?;
            return Ok(());
        }
        let role = Role::Stranger(format!("0/{}", self.name.text()));
        let line = match Player::start_with(&role, Path::new("-"), Some(NOBODY), ()) {
            Ok(mut stranger) => {
                stranger.says("refused")?;
                format!("{step:<WIDTH$}permission denied, as mode 600 demands")
            }
            Err(_) => format!("{step:<WIDTH$}left out: cannot act as another user here"),
        };
        out.line(&line)?;
        Ok(())
    }
}

/// Waits until the client has made the attach that it is woken through.
fn wait_until_parked(id: i32) -> anyhow::Result<()> {
    let patience = Patience::from(STEP);
    while Segment::from_id(id).status_any()?.attaches < 3 {
        anyhow::ensure!(
            !patience.is_over(),
            "the client does not wait for a message"
        );
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// One line about the segment as it is now.
fn row(step: &str, status: &shm::Status, cast: &[(u32, &str)]) -> String {
    let who = cast.iter().find(|(pid, _)| *pid as i32 == status.last_pid);
    let last = match (status.last_pid, who) {
        (0, _) => "-".to_owned(),
        (pid, Some((_, role))) => format!("{pid} {role}"),
        (pid, None) => format!("{pid}"),
    };
    format!(
        "{step:<WIDTH$}{:>6}  {last:<16}{:<9}{:<9}{}",
        status.attaches,
        clock(status.attached),
        clock(status.detached),
        clock(status.changed)
    )
}

/// The address of the name that a role is given.
pub fn address(name: &str) -> anyhow::Result<Address> {
    Ok(name.parse::<Name>()?.into())
}
