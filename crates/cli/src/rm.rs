//! `tombolo rm`: removes objects, and asks before it takes away what others use.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value as Json;
use tombolo::shmem::close;
use tombolo::sysv::{Errno, Segment, msg, sem};

use crate::Plan;
use crate::columns;
use crate::exit::{Exit, Failure, Failures};
use crate::kind::Kind;
use crate::ls::fields;
use crate::object::{self, Object, Surroundings};
use crate::output::{Fields, Output};
use crate::place::{self, PlaceArgs, calls};
use crate::refuse::refused;
use crate::rm_spaces::Spaces;
use crate::target::{self, Target, TargetOptions, missing};
use crate::users;

/// Remove objects: by id, key or name, all of mine, or all orphans
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo rm shm 42 0x4d2             two segments, by id and by key
  tombolo rm greeting                 the channel of that name
  tombolo rm msg --mine --dry-run     which message queues of mine would go
  tombolo rm --orphans                what nobody is left to use, of every kind
  tombolo rm sem 7 --force            although processes wait on it
  tombolo rm namespace build          a name space of `tombolo run`, with all that is in it

What is in use is left alone: a segment that is attached, a message queue that holds messages, a
semaphore set that processes wait on. On a terminal you are asked; elsewhere say --force.

{}

{}", target::HELP, object::ORPHANS), group(clap::ArgGroup::new("all").multiple(true)))]
pub struct Args {
    /// shm, msg or sem, then the objects; without a kind, channels by name; or namespace and names
    #[arg(value_name = "KIND|TARGET", allow_negative_numbers = true)]
    words: Vec<String>,
    #[command(flatten)]
    options: TargetOptions,
    /// All that I own or made
    #[arg(long, group = "all")]
    mine: bool,
    /// All that this user (name or number) owns or made
    #[arg(long, group = "all", conflicts_with = "mine")]
    user: Option<String>,
    /// All that nobody is left to use; with --mine or --user, theirs
    #[arg(long, group = "all")]
    orphans: bool,
    /// Also what is in use
    #[arg(short, long)]
    force: bool,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Say what was done as an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// The word for name spaces in the place of a kind; a channel of that name is `name:namespace`.
const NAMESPACE: &str = "namespace";

/// What to remove.
pub enum Planned {
    /// Objects.
    Objects(Removal),
    /// Name spaces.
    Spaces(Spaces),
}

impl Plan for Planned {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        match *self {
            Self::Objects(removal) => removal.run(out),
            Self::Spaces(spaces) => spaces.run(out),
        }
    }
}

/// What to remove, and how.
pub struct Removal {
    what: What,
    force: bool,
    dry_run: bool,
    json: bool,
}

enum What {
    Named(Kind, Vec<Target>),
    All {
        kinds: Vec<Kind>,
        owner: Option<u32>,
        orphans: bool,
    },
}

impl Args {
    /// Sorts the words into a kind and objects.
    pub fn plan(self) -> anyhow::Result<Planned> {
        if self.words.first().is_some_and(|word| word == NAMESPACE) {
            return Ok(Planned::Spaces(self.spaces()?));
        }
        self.place.enter()?;
        let kind = self
            .words
            .first()
            .and_then(|word| Kind::from_str(word, false).ok());
        let words = &self.words[usize::from(kind.is_some())..];
        let mut targets: Vec<Target> = words
            .iter()
            .map(|word| word.parse())
            .collect::<Result<_, _>>()?;
        targets.extend(self.options.target());
        let owner = match (self.mine, &self.user) {
            (true, _) => Some(users::me()),
            (false, Some(user)) => Some(users::parse_user(user)?),
            (false, None) => None,
        };
        let all = owner.is_some() || self.orphans;
        let what = match (all, kind, targets.is_empty()) {
            (true, _, false) => {
                return Err(Failure::usage(
                    "objects are named, and --mine, --user or --orphans given; choose one of the two",
                )
                .into());
            }
            (true, kind, true) => What::All {
                kinds: kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]),
                owner,
                orphans: self.orphans,
            },
            (false, _, true) => {
                return Err(Failure::usage(
                    "which objects? name them, as in `tombolo rm shm 42`, or say --mine or --orphans; \
                     list them with: tombolo ls",
                )
                .into());
            }
            (false, Some(kind), false) => What::Named(kind, targets),
            (false, None, false) => What::Named(Kind::Shm, only_names(targets)?),
        };
        Ok(Planned::Objects(Removal {
            what,
            force: self.force,
            dry_run: self.dry_run,
            json: self.json,
        }))
    }

    fn spaces(&self) -> Result<Spaces, Failure> {
        let odd = [
            (self.options.target().is_some(), "an object is named"),
            (self.mine, "--mine is given"),
            (self.user.is_some(), "--user is given"),
            (self.orphans, "--orphans is given"),
            (self.place.is_given(), "--namespace is given"),
        ];
        if let Some((_, what)) = odd.iter().find(|(given, _)| *given) {
            return Err(Failure::usage(format!(
                "{what}, which says nothing about removing name spaces; expected: tombolo rm \
                 namespace NAME..."
            )));
        }
        Spaces::plan(&self.words[1..], self.force, self.dry_run, self.json)
    }
}

/// Without a kind, ids and keys could mean three things.
fn only_names(targets: Vec<Target>) -> Result<Vec<Target>, Failure> {
    let odd = targets
        .iter()
        .find(|target| !matches!(target, Target::Name(_)));
    match odd {
        None => Ok(targets),
        Some(target) => Err(Failure::usage(format!(
            "of which kind is the object {target}? say: tombolo rm shm|msg|sem OBJECT"
        ))),
    }
}

type Candidate = (Target, Result<Object, Failure>);

/// What became of an object.
enum Outcome {
    Removed,
    WouldRemove,
    LeftAlone,
    /// It went away by itself while we were at it.
    Gone,
}

impl Removal {
    fn run(&self, out: &mut Output) -> anyhow::Result<ExitCode> {
        let around = Surroundings::look();
        let mut failures = Failures::default();
        let mut report: Vec<Fields> = Vec::new();
        for (target, found) in self.candidates(&around)? {
            let outcome = found
                .and_then(|object| Ok((self.remove(&target, &object)?, object)))
                .map_err(anyhow::Error::from);
            match outcome {
                Ok((Outcome::Gone | Outcome::LeftAlone, _)) => {}
                Ok((outcome, object)) if self.json => {
                    let mut entry =
                        fields(&object, &columns::named(&["kind", "id", "key"]), &around);
                    let removed = matches!(outcome, Outcome::Removed);
                    entry.insert("removed".to_owned(), Json::Bool(removed));
                    report.push(entry);
                }
                Ok((outcome, object)) => out.line(&sentence(&outcome, &object))?,
                Err(error) => {
                    out.flush()?;
                    failures.say(&error);
                }
            }
        }
        if self.json {
            out.json(report.into_iter())?;
        }
        Ok(failures.exit())
    }

    fn candidates(&self, around: &Surroundings) -> anyhow::Result<Vec<Candidate>> {
        match &self.what {
            What::Named(kind, targets) => {
                let objects = object::list(*kind)?;
                let find = |target: &Target| {
                    let id = target.id(*kind, "remove")?;
                    let found = objects.iter().find(|object| object.id() == id);
                    found
                        .cloned()
                        .ok_or_else(|| missing(*kind, target, "remove"))
                };
                Ok(targets
                    .iter()
                    .map(|target| (target.clone(), find(target)))
                    .collect())
            }
            What::All {
                kinds,
                owner,
                orphans,
            } => {
                let mut all = Vec::new();
                for kind in kinds {
                    let mut objects = object::list(*kind)?;
                    // What is marked is removed already: it only waits for the last detach. A
                    // directory goes with the last channel in it.
                    objects.retain(|object| {
                        owner.is_none_or(|owner| object.belongs_to(owner))
                            && !object.is_marked()
                            && !object.is_directory()
                            && (!orphans || around.is_orphan(object))
                    });
                    all.extend(
                        objects
                            .into_iter()
                            .map(|object| (Target::Id(object.id()), Ok(object))),
                    );
                }
                Ok(all)
            }
        }
    }

    fn remove(&self, target: &Target, object: &Object) -> Result<Outcome, Failure> {
        let kind = object.kind();
        let why = if self.force {
            None
        } else {
            object::in_use(object)
        };
        if self.dry_run {
            return match why {
                None => Ok(Outcome::WouldRemove),
                Some(why) => Err(in_use(kind, target, &why)),
            };
        }
        if let Some(why) = why {
            if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
                return Err(in_use(kind, target, &why));
            }
            if !confirmed(&format!("{kind} {target}: {why}; remove it? [y/N] ")) {
                return Ok(Outcome::LeftAlone);
            }
        }
        let id = object.id();
        let removed = match kind {
            // Tells whoever has it open, if it is a channel.
            Kind::Shm if place::space().is_some() => Segment::from_id_in(calls(), id).remove(),
            Kind::Shm => close::remove_segment(id),
            Kind::Msg => msg::Queue::from_id_in(calls(), id).remove(),
            Kind::Sem => sem::Set::from_id_in(calls(), id).remove(),
        };
        match removed {
            Ok(()) => Ok(Outcome::Removed),
            Err(Errno::INVAL | Errno::IDRM) if matches!(self.what, What::All { .. }) => {
                Ok(Outcome::Gone)
            }
            Err(errno) => Err(refused("remove", kind, target, id, errno)),
        }
    }
}

fn in_use(kind: Kind, target: &Target, why: &str) -> Failure {
    Failure::new(
        Exit::InUse,
        format!("cannot remove {kind} {target}: {why}; to remove it nevertheless, add --force"),
    )
}

fn sentence(outcome: &Outcome, object: &Object) -> String {
    let done = if matches!(outcome, Outcome::WouldRemove) {
        "would remove"
    } else {
        "removed"
    };
    format!(
        "{done} {} {} (key {})",
        object.kind(),
        object.id(),
        object.perm().key
    )
}

/// Asks on the terminal. What cannot be asked or is not a yes is a no.
fn confirmed(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush());
    asked.is_ok()
        && io::stdin().lock().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}
