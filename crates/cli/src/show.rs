//! `tombolo show`: everything known about one object, and who uses it.

use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value as Json;
use tombolo::inspect::Inspection;
use tombolo::shmem::header;
use tombolo::shmem::{name, presence};
use tombolo::sysv::procfs::{Attaches, Mapping};

use crate::Plan;
use crate::channels;
use crate::columns::{self, COLUMNS};
use crate::exit::Failure;
use crate::kind::Kind;
use crate::ls::fields;
use crate::object::{self, Object, Semaphore, Surroundings};
use crate::output::{Fields, Output};
use crate::participants;
use crate::peek::{self, Peeks, Unseen};
use crate::place::{self, PlaceArgs};
use crate::target::{self, Target, TargetOptions, missing, no_channel};
use crate::value::{Human, Value};

/// Show everything known about one object, attached processes included
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo show shm 42                 by id
  tombolo show msg 0x4d2              by key
  tombolo show greeting               the channel of that name
  tombolo show sem --ftok /etc/fstab,R --json

A segment comes with the processes that have it attached: process, command, user, address, and
whether it may only read. Those of other users are seen by root only; it says how many it could
not see. A message queue comes with its last sender and receiver, a semaphore set with the value,
the last process and the waiters of each semaphore. Looking changes nothing.

A channel comes with its participants: what each does, whether it lives and whether it sleeps, its
messages so far, what it has yet to do (lag): messages of a producer that nobody has received,
messages that a subscriber has yet to receive, calls of a client without a reply, calls that a
server has in hand; and what it has lost. A mailbox comes with how many messages of which type
wait, unless that changes while one looks, or they are more than some 8,000. This is read from the memory of a process that has the
segment attached. Where nobody has, or you may not look into who has, --attach reads it directly.

{}", target::HELP))]
pub struct Args {
    /// shm, msg or sem, then the object; without a kind, a channel by name
    #[arg(value_name = "KIND|TARGET", num_args = 0..=2, allow_negative_numbers = true)]
    words: Vec<String>,
    #[command(flatten)]
    options: TargetOptions,
    /// Show sizes in bytes
    #[arg(short, long)]
    bytes: bool,
    /// An array of one object, numbers as numbers, nothing rounded
    #[arg(long)]
    json: bool,
    /// Attach a channel's segment for reading, where what is in it cannot be seen otherwise; this
    /// moves its atime, dtime and lpid
    #[arg(long)]
    attach: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to show.
pub struct Showing {
    kind: Kind,
    target: Target,
    exact: bool,
    json: bool,
    attach: bool,
}

impl Args {
    /// Tells the kind from the object.
    pub fn plan(self) -> anyhow::Result<Showing> {
        self.place.enter()?;
        let mut words = self.words.into_iter().peekable();
        let kind = words
            .peek()
            .and_then(|word| Kind::from_str(word, false).ok());
        if kind.is_some() {
            words.next();
        }
        let target = self.options.only(words.next())?;
        if let Some(word) = words.next() {
            return Err(Failure::usage(format!(
                "`{word}` is one object too many; say: tombolo show shm|msg|sem OBJECT"
            ))
            .into());
        }
        let kind = match (kind, &target) {
            (Some(kind), _) => kind,
            (None, Target::Name(_)) => Kind::Shm,
            (None, target) => {
                return Err(Failure::usage(format!(
                    "of which kind is the object {target}? say: tombolo show shm|msg|sem OBJECT"
                ))
                .into());
            }
        };
        Ok(Showing {
            kind,
            target,
            exact: self.bytes,
            json: self.json,
            attach: self.attach,
        })
    }
}

impl Plan for Showing {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let id = match &self.target {
            Target::Name(name) if self.kind == Kind::Shm && place::space().is_none() => {
                channels::look_for(name).ok_or_else(|| no_channel(name, "show"))?
            }
            target => target.id(self.kind, "show")?,
        };
        let object =
            object::find(self.kind, id)?.ok_or_else(|| missing(self.kind, &self.target, "show"))?;
        let around = Surroundings::look();
        let users = match &object {
            Object::Shm(_) => {
                let key = object.perm().key;
                let all = place::attached(id, key).context("cannot look who is attached")?;
                InUse::Attaches(all, self.inside(&object, &around)?.map(Box::new))
            }
            Object::Msg(_) => InUse::Nothing,
            Object::Sem(set) => InUse::Semaphores(object::semaphores(id, set.count).ok()),
        };
        if self.json {
            out.json(std::iter::once(describe(&object, &users, &around)))?;
        } else {
            self.print(out, &object, &users, &around)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is known beside the kernel's description.
enum InUse {
    /// Of a segment; and what is in it if it is a channel.
    Attaches(Attaches, Option<Box<Result<Inspection, Unseen>>>),
    /// None: not for us to read.
    Semaphores(Option<Vec<Semaphore>>),
    Nothing,
}

impl Showing {
    /// What is in a segment, if it is a channel.
    fn inside(
        &self,
        object: &Object,
        around: &Surroundings,
    ) -> Result<Option<Result<Inspection, Unseen>>, Failure> {
        let Object::Shm(segment) = object else {
            return Ok(None);
        };
        if place::space().is_some() {
            return Ok(None);
        }
        let status = &segment.status;
        let listed = around.channels.contains_key(&status.id);
        let ours = listed || name::is_name_key(status.perm.key) || self.attach;
        // Memory of other programs is left alone.
        if !ours || presence::is_presence(status) {
            return Ok(None);
        }
        match Peeks::look().inspect(status) {
            Err(why) if self.attach && why.is_for_want_of_an_attach() => {
                peek::attach(status).map(Some)
            }
            seen => Ok(Some(seen)),
        }
    }

    fn print(
        &self,
        out: &mut Output,
        object: &Object,
        users: &InUse,
        around: &Surroundings,
    ) -> anyhow::Result<()> {
        let how = Human::new(self.exact);
        let facts: Vec<(&str, Value)> = COLUMNS
            .iter()
            .filter(|column| column.applies_to(self.kind))
            .map(|column| (column.name, column.value(object, around)))
            .filter(|(_, value)| *value != Value::None)
            .map(|(name, value)| (name, with_process(name, value, around)))
            .collect();
        let mut facts = facts;
        if let InUse::Attaches(_, Some(inside)) = users
            && let Ok(seen) = &**inside
        {
            let inside = participants::facts(seen).into_iter();
            facts.extend(inside.filter(|(_, value)| *value != Value::None));
        }
        out.facts(&facts, &how)?;
        match users {
            InUse::Attaches(all, inside) => {
                match inside.as_deref() {
                    Some(Ok(seen)) => {
                        participants::print_types(out, seen, &how)?;
                        participants::print(out, seen, around, &how)?;
                    }
                    Some(Err(why)) => print_unseen(out, *why)?,
                    None => {}
                }
                print_attaches(out, object, all, around, &how)
            }
            InUse::Semaphores(all) => print_semaphores(out, all.as_deref(), around, &how),
            InUse::Nothing => Ok(()),
        }
    }
}

fn print_unseen(out: &mut Output, why: Unseen) -> anyhow::Result<()> {
    out.line("")?;
    out.line(&format!("what is in it cannot be seen: {}", why.why()))?;
    if why.is_for_want_of_an_attach() {
        out.line("to see it nevertheless, add --attach, which moves its atime, dtime and lpid")?;
    }
    Ok(())
}

/// Says of a process what it runs, or that it is gone.
fn with_process(name: &str, value: Value, around: &Surroundings) -> Value {
    match value {
        Value::Number(pid) if name.ends_with("pid") => {
            let pid = i32::try_from(pid).unwrap_or_default();
            Value::Text(match pid {
                0 => "-".to_owned(),
                _ if around.processes.is_gone(pid) => format!("{pid} (gone)"),
                _ => match around.processes.command(pid) {
                    Some(command) => format!("{pid} ({command})"),
                    None => pid.to_string(),
                },
            })
        }
        value => value,
    }
}

fn print_attaches(
    out: &mut Output,
    object: &Object,
    all: &Attaches,
    around: &Surroundings,
    how: &Human,
) -> anyhow::Result<()> {
    if !all.mappings.is_empty() {
        out.line("")?;
        out.heading("Attached")?;
        let rows: Vec<Vec<Value>> = all
            .mappings
            .iter()
            .map(|mapping| {
                vec![
                    Value::Number(mapping.pid.into()),
                    Value::Text(around.users.user(mapping.uid)),
                    Value::Text(format!("{:#x}", mapping.address)),
                    Value::Bytes(mapping.length),
                    Value::Text(access(mapping).to_owned()),
                    Value::Text(command(mapping, around)),
                ]
            })
            .collect();
        out.table(
            &["pid", "user", "address", "length", "access", "command"],
            &rows,
            how,
        )?;
    }
    let hidden = hidden(object, all);
    if hidden > 0 {
        out.line("")?;
        out.line(&format!(
            "{hidden} more cannot be seen: they are among the {} processes that you may not look \
             into (root may), or in another PID name space",
            all.unreadable.len()
        ))?;
    }
    Ok(())
}

/// How many attaches the kernel counts beyond those that were found.
fn hidden(object: &Object, all: &Attaches) -> u64 {
    match object {
        Object::Shm(segment) => segment
            .status
            .attaches
            .saturating_sub(all.mappings.len() as u64),
        Object::Msg(_) | Object::Sem(_) => 0,
    }
}

fn access(mapping: &Mapping) -> &'static str {
    match (mapping.read_only, mapping.executable) {
        (true, false) => "ro",
        (false, false) => "rw",
        (true, true) => "ro,exec",
        (false, true) => "rw,exec",
    }
}

fn command(mapping: &Mapping, around: &Surroundings) -> String {
    around
        .processes
        .command(mapping.pid)
        .unwrap_or_else(|| mapping.command.clone())
}

fn print_semaphores(
    out: &mut Output,
    all: Option<&[Semaphore]>,
    around: &Surroundings,
    how: &Human,
) -> anyhow::Result<()> {
    out.line("")?;
    let Some(all) = all else {
        out.line("its values are not for you to read")?;
        return Ok(());
    };
    out.heading("Semaphores")?;
    let rows: Vec<Vec<Value>> = (0_i64..)
        .zip(all)
        .map(|(number, semaphore)| {
            let pid = Value::Number(semaphore.pid.into());
            vec![
                Value::Number(number),
                Value::Number(semaphore.value.into()),
                Value::Count(semaphore.ncount as u64),
                Value::Count(semaphore.zcount as u64),
                with_process("pid", pid, around),
            ]
        })
        .collect();
    Ok(out.table(&["number", "value", "ncount", "zcount", "pid"], &rows, how)?)
}

fn describe(object: &Object, users: &InUse, around: &Surroundings) -> Fields {
    let mut all = fields(object, &columns::free(), around);
    all.insert("orphan".to_owned(), around.is_orphan(object).into());
    for name in ["cpid", "lpid", "lspid", "lrpid"] {
        if let Some(pid) = all.get(name).and_then(Json::as_i64) {
            let pid = i32::try_from(pid).unwrap_or_default();
            let alive = if pid == 0 {
                Json::Null
            } else {
                around.processes.is_alive(pid).into()
            };
            all.insert(format!("{name}_alive"), alive);
        }
    }
    match users {
        InUse::Attaches(found, inside) => {
            match inside.as_deref() {
                Some(Ok(seen)) => {
                    let facts = participants::facts(seen).into_iter();
                    all.extend(facts.map(|(name, value)| (name.to_owned(), value.json())));
                    if seen.kind == header::Kind::Mailbox {
                        all.insert("types".to_owned(), participants::types_json(seen));
                    }
                    let participants = participants::json(seen, around);
                    all.insert("participants".to_owned(), participants);
                }
                Some(Err(why)) => {
                    all.insert("unseen".to_owned(), why.why().into());
                }
                None => {}
            }
            let mappings = found
                .mappings
                .iter()
                .map(|mapping| attach(mapping, around))
                .collect();
            all.insert("attached".to_owned(), Json::Array(mappings));
            all.insert("attached_hidden".to_owned(), hidden(object, found).into());
        }
        InUse::Semaphores(semaphores) => {
            let list = semaphores.as_ref().map_or(Json::Null, |all| {
                Json::Array(all.iter().map(semaphore).collect())
            });
            all.insert("semaphores".to_owned(), list);
        }
        InUse::Nothing => {}
    }
    all
}

fn attach(mapping: &Mapping, around: &Surroundings) -> Json {
    serde_json::json!({
        "pid": mapping.pid,
        "command": command(mapping, around),
        "user": around.users.user(mapping.uid),
        "uid": mapping.uid,
        "address": mapping.address,
        "length": mapping.length,
        "access": access(mapping),
    })
}

fn semaphore(semaphore: &Semaphore) -> Json {
    serde_json::json!({
        "value": semaphore.value,
        "pid": semaphore.pid,
        "ncount": semaphore.ncount,
        "zcount": semaphore.zcount,
    })
}
