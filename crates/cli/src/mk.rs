//! `tombolo mk`: makes segments, message queues and semaphore sets.

use std::path::PathBuf;
use std::process::ExitCode;

use tombolo::sysv::{Errno, Key, Mode, msg, sem, shm};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::object::{self, Surroundings};
use crate::output::Output;
use crate::place::{self, PlaceArgs, calls};
use crate::target::{ftok, parse_ftok};
use crate::value::parse_size;
use crate::{columns, ls};

/// Make a segment, a message queue or a semaphore set, and write its id
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo mk shm 64K                          a private segment
  tombolo mk shm 4096 --key 0x4d2 --mode 640
  tombolo mk msg --ftok /etc/fstab,R
  tombolo mk sem 3 --values 1,0,0

Without --key or --ftok the object is private: it is reached by its id. A key that is in use is an
error (exit code 7) unless --reuse is given.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Make a segment
    #[command(after_help = "\
Examples:
  tombolo mk shm 64K --key 0x4d2 --mode 640
  tombolo mk shm 1G --huge=2M --no-reserve")]
    Shm {
        /// Bytes: 4096, 64K, 1M, 2G
        #[arg(value_parser = parse_size)]
        size: u64,
        /// Use huge pages: 2M, 1G, or the machine's default size
        #[arg(long, value_name = "SIZE", num_args = 0..=1, default_missing_value = "default",
              require_equals = true)]
        huge: Option<String>,
        /// Reserve no swap: writing may fail for want of memory
        #[arg(long)]
        no_reserve: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make a message queue
    #[command(after_help = "\
Examples:
  tombolo mk msg --ftok /etc/fstab,R
  tombolo mk msg --key 1234 --qbytes 8K --reuse")]
    Msg {
        /// Bytes that it may hold (above the limit msgmnb only with CAP_SYS_RESOURCE)
        #[arg(long, value_name = "BYTES", value_parser = parse_size)]
        qbytes: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Make a semaphore set
    #[command(after_help = "\
Examples:
  tombolo mk sem 1 --values 1      a lock
  tombolo mk sem 3 --key 0x4d2 --mode 660

The values are set after the set is made: who finds it by its key in between sees zeroes.")]
    Sem {
        /// How many semaphores
        count: u16,
        /// Their first values; 0 where there are fewer
        #[arg(long, value_name = "VALUE,…", value_delimiter = ',')]
        values: Vec<u16>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// The key: 0x4d2, 1234 or 02322
    #[arg(long, allow_hyphen_values = true, conflicts_with = "ftok")]
    key: Option<Key>,
    /// The key that ftok(PATH, ID) gives
    #[arg(long, value_name = "PATH,ID", value_parser = parse_ftok)]
    ftok: Option<(PathBuf, u8)>,
    /// The permissions in octal
    #[arg(long, default_value = "600")]
    mode: Mode,
    /// Answer the object that has the key, if there is one
    #[arg(long)]
    reuse: bool,
    /// Describe the object as an array of one, instead of its id
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to make.
pub struct Making {
    what: What,
    key: Key,
    huge: Option<shm::HugePages>,
}

impl Args {
    /// Finds the key and checks what can be checked without making anything.
    pub fn plan(self) -> anyhow::Result<Making> {
        let common = self.what.common();
        common.place.enter()?;
        let key = match (&common.key, &common.ftok) {
            (Some(key), _) => *key,
            (None, Some((path, project))) => ftok(path, *project)?,
            (None, None) => Key::PRIVATE,
        };
        if common.reuse && key.is_private() {
            return Err(Failure::usage(
                "a private object cannot be found again; give --key or --ftok with --reuse",
            )
            .into());
        }
        let mut huge = None;
        match &self.what {
            What::Shm {
                huge: Some(text), ..
            } => huge = Some(parse_huge(text)?),
            What::Sem { count, values, .. } if values.len() > usize::from(*count) => {
                let many = values.len();
                return Err(Failure::usage(format!(
                    "{many} values for {count} semaphores; make the set larger or give fewer values"
                ))
                .into());
            }
            _ => {}
        }
        Ok(Making {
            what: self.what,
            key,
            huge,
        })
    }
}

fn parse_huge(text: &str) -> Result<shm::HugePages, Failure> {
    if text == "default" {
        return Ok(shm::HugePages::DEFAULT);
    }
    let bytes = parse_size(text).map_err(Failure::usage)?;
    shm::HugePages::of_size(bytes)
        .ok_or_else(|| Failure::usage(format!("{text} is no size of a page; expected 2M or 1G")))
}

impl What {
    fn common(&self) -> &Common {
        match self {
            Self::Shm { common, .. } | Self::Msg { common, .. } | Self::Sem { common, .. } => {
                common
            }
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Shm { .. } => Kind::Shm,
            Self::Msg { .. } => Kind::Msg,
            Self::Sem { .. } => Kind::Sem,
        }
    }
}

impl Plan for Making {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let made = match self.make(true) {
            Err(Errno::EXIST) if self.what.common().reuse => self.make(false).map(|id| (id, false)),
            made => made.map(|id| (id, true)),
        };
        let (id, new) = made.map_err(|errno| self.refused(errno))?;
        if new {
            self.fill(id)?;
        }
        if self.what.common().json {
            let around = Surroundings::look();
            let object = object::find(self.what.kind(), id)?;
            let described = object
                .iter()
                .map(|object| ls::fields(object, &columns::free(), &around));
            out.json(described)?;
        } else {
            out.line(&id.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Making {
    fn make(&self, new: bool) -> Result<i32, Errno> {
        let (key, mode) = (self.key, self.what.common().mode);
        match &self.what {
            What::Shm {
                size, no_reserve, ..
            } => {
                let size = usize::try_from(*size).map_err(|_| Errno::INVAL)?;
                let mut options = shm::Options::new(size).mode(mode).no_reserve(*no_reserve);
                if let Some(pages) = self.huge {
                    options = options.huge_pages(pages);
                }
                let made = if new {
                    options.create_in(calls(), key)
                } else {
                    options.open_in(calls(), key)
                };
                made.map(|segment| segment.id())
            }
            What::Msg { .. } => {
                let made = if new {
                    msg::Queue::create_in(calls(), key, mode)
                } else {
                    msg::Queue::open_in(calls(), key)
                };
                made.map(|queue| queue.id())
            }
            What::Sem { count, .. } => {
                if new {
                    return Ok(sem::Set::create_in(calls(), key, (*count).into(), mode)?.id());
                }
                let set = sem::Set::open_in(calls(), key)?;
                let large_enough = set.status_any()?.count >= (*count).into();
                if large_enough {
                    Ok(set.id())
                } else {
                    Err(Errno::INVAL)
                }
            }
        }
    }

    /// Gives a new object its first contents; an object that cannot have them is not left behind.
    fn fill(&self, id: i32) -> Result<(), Failure> {
        let kind = self.what.kind();
        let filled = match &self.what {
            What::Msg {
                qbytes: Some(bytes),
                ..
            } => {
                let queue = msg::Queue::from_id_in(calls(), id);
                let change = msg::Change {
                    capacity: Some(*bytes),
                    ..msg::Change::default()
                };
                queue.set(&change)
            }
            What::Sem { count, values, .. } if !values.is_empty() => {
                let set = sem::Set::from_id_in(calls(), id);
                let mut values = values.clone();
                values.resize((*count).into(), 0);
                set.set_values(&values)
            }
            _ => Ok(()),
        };
        filled.map_err(|errno| {
            // It is new and nobody knows it; if it cannot be removed either, the first error counts.
            let _ = match kind {
                Kind::Shm => Ok(()),
                Kind::Msg => msg::Queue::from_id_in(calls(), id).remove(),
                Kind::Sem => sem::Set::from_id_in(calls(), id).remove(),
            };
            let why = match (kind, errno) {
                (Kind::Msg, Errno::PERM) => format!(
                    "more than the limit msgmnb needs CAP_SYS_RESOURCE; see: tombolo limits{}",
                    place::option()
                ),
                (Kind::Sem, Errno::RANGE) => "a semaphore's value is at most 32767".to_owned(),
                _ => errno.to_string(),
            };
            Failure::new(Exit::of(errno), format!("cannot make {kind}: {why}"))
        })
    }

    fn refused(&self, errno: Errno) -> Failure {
        let kind = self.what.kind();
        let word = kind.word();
        let what = match &self.what {
            What::Shm { size: bytes, .. } => format!("cannot make a segment of {bytes} bytes"),
            What::Msg { .. } => "cannot make a message queue".to_owned(),
            What::Sem { count, .. } => format!("cannot make a set of {count} semaphores"),
        };
        let key = self.key;
        let here = place::option();
        let why = match (errno, kind) {
            (Errno::EXIST, _) => format!(
                "key {key} has one already; look at it with: tombolo show {word} {key}{here}, or add --reuse"
            ),
            (Errno::INVAL, Kind::Shm | Kind::Sem) if self.what.common().reuse => format!(
                "what has key {key} is smaller, or there is none and the size is 0 or above its \
                 limit; look with: tombolo ls {word}{here}, tombolo limits{here}"
            ),
            (Errno::INVAL, Kind::Shm) if self.huge.is_some() => {
                "this machine has no huge pages of that size, or the size is 0".to_owned()
            }
            (Errno::INVAL, Kind::Shm) => {
                format!("the size is 0 or above the limit shmmax; see: tombolo limits{here}")
            }
            (Errno::INVAL, Kind::Sem) => {
                format!("the count is 0 or above the limit semmsl; see: tombolo limits{here}")
            }
            (Errno::NOMEM, Kind::Shm) if self.huge.is_some() => {
                "the pool of huge pages is too small; raise it with: sysctl -w vm.nr_hugepages=N"
                    .to_owned()
            }
            (Errno::PERM, Kind::Shm) if self.huge.is_some() => {
                "huge pages need CAP_IPC_LOCK, or the group of vm.hugetlb_shm_group".to_owned()
            }
            (Errno::NOSPC, _) => format!(
                "a limit is reached; see: tombolo limits{here}, and remove what nobody needs with: tombolo rm {word} --orphans{here}"
            ),
            (Errno::ACCESS, _) => format!(
                "the {kind} with key {key} does not allow what mode {} asks for",
                self.what.common().mode
            ),
            _ => errno.to_string(),
        };
        let exit = match errno {
            Errno::INVAL => Exit::Failed,
            errno => Exit::of(errno),
        };
        Failure::new(exit, format!("{what}: {why}"))
    }
}
