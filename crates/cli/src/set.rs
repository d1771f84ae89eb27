//! `tombolo set`: changes owner, group, mode, and what a queue may hold.

use std::process::ExitCode;

use tombolo::sysv::{Change, Errno, Mode, msg, sem, shm};

use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::object::{self, Object, Surroundings};
use crate::output::Output;
use crate::place::{self, PlaceArgs, calls};
use crate::refuse::refused;
use crate::target::{self, Target, TargetOptions, missing};
use crate::users::{parse_group, parse_user};
use crate::value::parse_size;
use crate::{Plan, columns, ls};

/// Change an object's owner, group and mode, or what a message queue may hold
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo set shm 42 --mode 640
  tombolo set shm 0x4d2 --owner alice --group staff
  tombolo set msg 7 --qbytes 64K

The change holds for what is done from now on: who has a segment attached keeps it. The owner, the
creator and root may change an object; --qbytes above the limit msgmnb needs CAP_SYS_RESOURCE.

{}", target::HELP))]
pub struct Args {
    /// shm, msg or sem
    kind: Kind,
    /// The object
    #[arg(allow_negative_numbers = true)]
    target: Option<String>,
    #[command(flatten)]
    options: TargetOptions,
    /// The new owner: a name or a number, or USER:GROUP
    #[arg(long, value_name = "USER[:GROUP]")]
    owner: Option<String>,
    /// The new group: a name or a number
    #[arg(long)]
    group: Option<String>,
    /// The new permissions in octal
    #[arg(long)]
    mode: Option<Mode>,
    /// How many bytes a message queue may hold
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    qbytes: Option<u64>,
    /// Describe the object afterwards as an array of one
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to change.
pub struct Setting {
    kind: Kind,
    target: Target,
    change: Change,
    capacity: Option<u64>,
    json: bool,
}

impl Args {
    /// Finds the users, and refuses to change nothing.
    pub fn plan(self) -> anyhow::Result<Setting> {
        self.place.enter()?;
        let (user, group) = match self.owner.as_deref().map(|owner| owner.split_once(':')) {
            Some(Some((user, group))) => (Some(user), Some(group)),
            _ => (self.owner.as_deref(), None),
        };
        if group.is_some() && self.group.is_some() {
            return Err(Failure::usage("two groups are given; name one").into());
        }
        let group = group.or(self.group.as_deref());
        let change = Change {
            uid: user
                .filter(|user| !user.is_empty())
                .map(parse_user)
                .transpose()?,
            gid: group.map(parse_group).transpose()?,
            mode: self.mode,
        };
        if self.qbytes.is_some() && self.kind != Kind::Msg {
            return Err(Failure::usage(format!(
                "--qbytes is for message queues; a {} has none",
                self.kind
            ))
            .into());
        }
        if change == Change::default() && self.qbytes.is_none() {
            return Err(Failure::usage(
                "nothing to change; give --owner, --group, --mode or, for a message queue, --qbytes",
            )
            .into());
        }
        Ok(Setting {
            kind: self.kind,
            target: self.options.only(self.target)?,
            change,
            capacity: self.qbytes,
            json: self.json,
        })
    }
}

impl Plan for Setting {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let id = self.target.id(self.kind, "change")?;
        let object = object::find(self.kind, id)?
            .ok_or_else(|| missing(self.kind, &self.target, "change"))?;
        self.set(&object).map_err(|errno| self.refused(id, errno))?;
        if self.json {
            let around = Surroundings::look();
            let object = object::find(self.kind, id)?;
            let described = object
                .iter()
                .map(|object| ls::fields(object, &columns::free(), &around));
            out.json(described)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Setting {
    fn set(&self, object: &Object) -> Result<(), Errno> {
        let change = self.change;
        match object {
            Object::Shm(segment) => {
                shm::Segment::from_id_in(calls(), segment.status.id).set(&change)
            }
            Object::Msg(queue) => msg::Queue::from_id_in(calls(), queue.id).set(&msg::Change {
                perm: change,
                capacity: self.capacity,
            }),
            Object::Sem(set) => sem::Set::from_id_in(calls(), set.id).set(&change),
        }
    }

    fn refused(&self, id: i32, errno: Errno) -> Failure {
        let what = format!("cannot change {} {}", self.kind, self.target);
        match (errno, self.capacity) {
            (Errno::PERM, Some(bytes)) if self.owned(id) => Failure::new(
                Exit::Denied,
                format!(
                    "{what}: {bytes} bytes are more than the limit msgmnb, which only \
                     CAP_SYS_RESOURCE may pass; see: tombolo limits{}",
                    place::option()
                ),
            ),
            (Errno::PERM, None) if self.kind == Kind::Msg && self.owned(id) => Failure::new(
                Exit::Denied,
                format!(
                    "{what}: it may hold more than the limit msgmnb, which only CAP_SYS_RESOURCE \
                     may leave so; lower that too, with --qbytes"
                ),
            ),
            (Errno::INVAL, _)
                if self.change.uid.or(self.change.gid).is_some()
                    && matches!(object::find(self.kind, id), Ok(Some(_))) =>
            {
                Failure::new(
                    Exit::Failed,
                    format!("{what}: there is no such user or group in this user name space"),
                )
            }
            _ => refused("change", self.kind, &self.target, id, errno),
        }
    }

    fn owned(&self, id: i32) -> bool {
        object::find(self.kind, id)
            .ok()
            .flatten()
            .is_some_and(|object| object::is_mine(&object))
    }
}
