//! `tombolo msgsnd` and `tombolo msgrcv`: the kernel's message queues from the shell.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value as Json;
use tombolo::sysv::Errno;
use tombolo::sysv::msg::{Queue, Select, Wait};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::object::{self, Object};
use crate::output::{Fields, Output};
use crate::place::{self, PlaceArgs, calls};
use crate::refuse::refused;
use crate::target::{self, Target, TargetOptions};
use crate::wait::{self, Patience, WaitArgs};

/// Send a message to a message queue of the kernel
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo msgsnd 7 hello                     a message of type 1
  tombolo msgsnd 0x4d2 --type 3 --file order.bin
  date | tombolo msgsnd ftok:/etc/fstab,R --no-wait

{}

{}", target::HELP, wait::HELP))]
pub struct SendArgs {
    /// The message queue
    #[arg(allow_negative_numbers = true)]
    queue: Option<OsString>,
    /// The message; standard input if neither it nor --file is given
    #[arg(allow_negative_numbers = true)]
    text: Option<OsString>,
    #[command(flatten)]
    options: TargetOptions,
    /// The message's type, at least 1
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    r#type: i64,
    /// Send the contents of this file
    #[arg(short, long, conflicts_with = "text")]
    file: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Receive a message from a message queue of the kernel, and write it byte for byte
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo msgrcv 7                           the oldest message
  tombolo msgrcv 7 --type 3                  the oldest of type 3
  tombolo msgrcv 7 --type=-3                 the lowest type up to 3, the oldest of it
  tombolo msgrcv 7 --type 3 --except         the oldest that is not of type 3
  tombolo msgrcv 7 --copy 0                  a copy of the first: it stays where it is
  tombolo msgrcv 7 --timeout 5s --json       with its type

A message is received when it has left the queue: if it cannot be written then, it is lost.

{}

{}", target::HELP, wait::HELP))]
pub struct ReceiveArgs {
    /// The message queue
    #[arg(allow_negative_numbers = true)]
    queue: Option<String>,
    #[command(flatten)]
    options: TargetOptions,
    /// Which type: N that one, 0 any, -N the lowest up to N
    #[arg(short, long, default_value_t = 0, allow_negative_numbers = true)]
    r#type: i64,
    /// Any type but that of --type
    #[arg(long)]
    except: bool,
    /// Copy the message at this place, counted from 0, and leave it there; never waits
    #[arg(long, value_name = "N", conflicts_with_all = ["type", "except", "truncate", "timeout"])]
    copy: Option<usize>,
    /// Cut a message that is longer than this many bytes; what is cut off is lost
    #[arg(long, value_name = "BYTES")]
    truncate: Option<usize>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Describe the message as an array of one object; its bytes as text if they are, and in hex
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to send.
pub struct Sending {
    target: Target,
    message_type: i64,
    source: Source,
    patience: Patience,
}

enum Source {
    Text(Vec<u8>),
    File(PathBuf),
    Input,
}

impl SendArgs {
    /// Tells the queue from the message.
    pub fn plan(self) -> anyhow::Result<Sending> {
        self.place.enter()?;
        let (target, text) = self.options.and_rest(self.queue, self.text)?;
        let source = match (text, self.file) {
            (Some(_), Some(file)) => {
                let file = file.display();
                return Err(Failure::usage(format!(
                    "the message is given, and the file {file} too; give one of the two"
                ))
                .into());
            }
            (Some(text), None) => Source::Text(text.as_bytes().to_vec()),
            (None, Some(file)) => Source::File(file),
            (None, None) => Source::Input,
        };
        Ok(Sending {
            target,
            message_type: self.r#type,
            source,
            patience: self.wait.patience(),
        })
    }
}

impl Plan for Sending {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        let id = self.target.id(Kind::Msg, "send to")?;
        let text = self.source.read()?;
        self.would_ever_fit(id, text.len())?;
        let queue = Queue::from_id_in(calls(), id);
        let send = |wait| queue.send(self.message_type, &text, wait);
        let sent = match self.patience {
            Patience::Forever => send(Wait::Block),
            Patience::None => send(Wait::Never),
            Patience::For(time) => wait::retry(time, Errno::AGAIN, || send(Wait::Never)),
        };
        sent.map_err(|errno| self.refused(id, text.len(), errno))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Source {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(file) => {
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))
            }
            Self::Input => {
                let mut text = Vec::new();
                io::stdin()
                    .lock()
                    .read_to_end(&mut text)
                    .context("cannot read standard input")?;
                Ok(text)
            }
        }
    }
}

impl Sending {
    /// The kernel would let a message wait that is longer than the queue may hold, in silence.
    fn would_ever_fit(&self, id: i32, length: usize) -> anyhow::Result<()> {
        let capacity = match object::find(Kind::Msg, id)? {
            Some(Object::Msg(queue)) => queue.capacity,
            _ => return Ok(()),
        };
        if length as u64 <= capacity || above_msgmax(length) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Limit,
            format!(
                "cannot send to {} {}: {length} bytes never fit into the {capacity} that it may \
                 hold; raise that with: tombolo set msg {id} --qbytes BYTES{}",
                Kind::Msg,
                self.target,
                place::option(),
            ),
        )
        .into())
    }

    fn refused(&self, id: i32, length: usize, errno: Errno) -> Failure {
        let what = format!("cannot send to {} {}", Kind::Msg, self.target);
        match errno {
            Errno::AGAIN => {
                let (held, capacity) = match object::find(Kind::Msg, id) {
                    Ok(Some(Object::Msg(queue))) => (queue.bytes, queue.capacity),
                    _ => (0, 0),
                };
                let why = match self.patience {
                    Patience::For(_) => format!("it stayed full ({held} of {capacity} bytes)"),
                    _ => format!("it is full ({held} of {capacity} bytes)"),
                };
                Failure::new(
                    Exit::WouldWait,
                    format!(
                        "{what}: {why}; receive from it, or raise that with: tombolo set msg {id} \
                         --qbytes BYTES{}",
                        place::option()
                    ),
                )
            }
            Errno::INVAL if above_msgmax(length) => Failure::new(
                Exit::Limit,
                format!(
                    "{what}: {length} bytes are above the limit msgmax; see: tombolo limits{}",
                    place::option()
                ),
            ),
            _ => refused("send to", Kind::Msg, &self.target, id, errno),
        }
    }
}

fn above_msgmax(length: usize) -> bool {
    place::limits().is_ok_and(|limits| length as u64 > limits.msgmax)
}

/// What to receive.
pub struct Receiving {
    target: Target,
    select: Select,
    truncate: Option<usize>,
    patience: Patience,
    json: bool,
}

impl ReceiveArgs {
    /// Tells which messages are meant.
    pub fn plan(self) -> anyhow::Result<Receiving> {
        self.place.enter()?;
        let select = match (self.copy, self.r#type, self.except) {
            (Some(place), _, _) => Select::At(place),
            (None, wanted @ 1.., true) => Select::Except(wanted),
            (None, _, true) => {
                return Err(Failure::usage(
                    "--except needs the type that is not wanted, at least 1: --type 3 --except",
                )
                .into());
            }
            (None, 0, false) => Select::Any,
            (None, wanted @ 1.., false) => Select::Type(wanted),
            (None, wanted, false) => Select::UpTo(wanted.checked_neg().unwrap_or(i64::MAX)),
        };
        Ok(Receiving {
            target: self.options.only(self.queue)?,
            select,
            truncate: self.truncate,
            patience: if self.copy.is_some() {
                Patience::None
            } else {
                self.wait.patience()
            },
            json: self.json,
        })
    }
}

impl Plan for Receiving {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let id = self.target.id(Kind::Msg, "receive from")?;
        let queue = Queue::from_id_in(calls(), id);
        let mut text = Vec::new();
        let mut receive = |wait| match self.truncate {
            None => queue.receive(self.select, &mut text, wait),
            Some(most) => {
                text.resize(most, 0);
                let received = queue.receive_truncated(self.select, &mut text, wait)?;
                text.truncate(received.length);
                Ok(received)
            }
        };
        let received = match self.patience {
            Patience::Forever => receive(Wait::Block),
            Patience::None => receive(Wait::Never),
            Patience::For(time) => wait::retry(time, Errno::NOMSG, || receive(Wait::Never)),
        };
        let received = received.map_err(|errno| self.refused(id, errno))?;
        if self.json {
            out.json(std::iter::once(describe(
                id,
                received.message_type,
                received.truncated,
                &text,
            )))?;
        } else {
            out.bytes(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Receiving {
    fn refused(&self, id: i32, errno: Errno) -> Failure {
        let what = format!("cannot receive from {} {}", Kind::Msg, self.target);
        match errno {
            Errno::NOMSG => {
                let why = match self.select {
                    Select::Any => "it holds no message".to_owned(),
                    Select::Type(wanted) => format!("it holds no message of type {wanted}"),
                    Select::UpTo(highest) => {
                        format!("it holds no message of a type up to {highest}")
                    }
                    Select::Except(unwanted) => {
                        format!("it holds no message of another type than {unwanted}")
                    }
                    Select::At(place) => format!("it holds no message at place {place}"),
                };
                let next = match self.patience {
                    Patience::For(_) => "the time is up",
                    _ if matches!(self.select, Select::At(_)) => "places are counted from 0",
                    _ => "wait for one with --timeout, or without --no-wait",
                };
                Failure::new(Exit::WouldWait, format!("{what}: {why}; {next}"))
            }
            Errno::NOSYS => Failure::new(
                Exit::Failed,
                format!(
                    "{what}: this kernel was built without copying (CONFIG_CHECKPOINT_RESTORE)"
                ),
            ),
            _ => refused("receive from", Kind::Msg, &self.target, id, errno),
        }
    }
}

fn describe(id: i32, message_type: i64, truncated: bool, text: &[u8]) -> Fields {
    let key = match object::find(Kind::Msg, id) {
        Ok(Some(queue)) => Json::from(queue.perm().key.raw()),
        _ => Json::Null,
    };
    let mut hex = String::with_capacity(text.len() * 2);
    for byte in text {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    [
        ("kind", Json::from("message")),
        ("id", id.into()),
        ("key", key),
        ("type", message_type.into()),
        ("length", text.len().into()),
        ("truncated", truncated.into()),
        (
            "text",
            std::str::from_utf8(text).map_or(Json::Null, Json::from),
        ),
        ("hex", hex.into()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
