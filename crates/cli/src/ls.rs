//! `tombolo ls`: the objects of the IPC name space.

use std::cmp::Ordering;
use std::process::ExitCode;
use std::time::Duration;

use crate::Plan;
use crate::columns::{self, COLUMNS, Column};
use crate::exit::Failure;
use crate::kind::Kind;
use crate::limits;
use crate::ls_channels::{self, Channels};
use crate::ls_spaces::{self, Spaces};
use crate::object::{self, Object, Surroundings};
use crate::output::{Fields, Format, Output};
use crate::place::{self, PlaceArgs};
use crate::users;
use crate::value::{Human, Value};
use crate::wait::parse_time;

/// The options that choose and order objects: they say nothing about limits and sums.
const LISTING: [&str; 10] = [
    "time", "pids", "creator", "bytes", "output", "sort", "user", "mine", "orphans", "raw",
];

/// List segments, message queues and semaphore sets, channels, or name spaces
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo ls                          everything
  tombolo ls shm --sort size,desc     segments, the largest first
  tombolo ls -tpc                     with times, process ids and creators
  tombolo ls --orphans                what nobody is left to use
  tombolo ls --output id,size,user    these columns; `all` for every one
  tombolo ls msg --json | jq '.[] | select(.qnum > 0)'
  tombolo ls channels                 how full they are, how fast, who takes part
  tombolo ls namespaces               those of `tombolo run`, and whether anybody is in them
  tombolo ls --namespace build        what is in one of them

{}

{}
{}
{}
{}

Listing attaches nothing and moves no time stamp. What is in a channel is read from the memory of
processes that have it attached: of your own, as far as the machine allows that, or of all for root.
What cannot be seen is shown as -, and `--output name,unseen` says why; see also: tombolo show.",
object::ORPHANS, columns::help(), ls_channels::help(), ls_spaces::help(), place::HELP))]
pub struct Args {
    /// Only this kind
    kind: Option<Listed>,
    /// Show the times: attached, detached, sent, received, operated on, changed
    #[arg(short, long)]
    time: bool,
    /// Show the process ids: creator, last to use, last sender and receiver
    #[arg(short, long)]
    pids: bool,
    /// Show creators and groups
    #[arg(short, long)]
    creator: bool,
    /// Show the kernel's limits instead (as `tombolo limits`)
    #[arg(short, long, conflicts_with_all = LISTING, conflicts_with = "summary")]
    limits: bool,
    /// Show how many objects there are and what they take instead
    #[arg(short = 'u', long, conflicts_with_all = LISTING)]
    summary: bool,
    /// Show sizes in bytes
    #[arg(short, long)]
    bytes: bool,
    /// Show exactly these columns (names below), or `all`
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',')]
    output: Vec<String>,
    /// Order by a column; by id otherwise
    #[arg(long, value_name = "COLUMN[,desc]")]
    sort: Option<String>,
    /// Only what this user (name or number) owns or made
    #[arg(long, conflicts_with = "mine")]
    user: Option<String>,
    /// Only what I own or made
    #[arg(long)]
    mine: bool,
    /// Only what nobody is left to use
    #[arg(long)]
    orphans: bool,
    /// An array of objects, numbers as numbers, nothing rounded
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// One line for each object without headings: fields between tabs, nothing rounded
    #[arg(short, long)]
    raw: bool,
    /// How long to measure the rate of channels: 1s, 50ms, 0 for not at all; 200ms without
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    interval: Option<Duration>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What can be listed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Listed {
    /// Shared memory segments
    Shm,
    /// Message queues
    Msg,
    /// Semaphore sets
    Sem,
    /// Channels
    Channels,
    /// Name spaces of `tombolo run`
    Namespaces,
}

impl Listed {
    /// The kind of System V object, unless it is more than that.
    fn kind(self) -> Option<Kind> {
        match self {
            Self::Shm => Some(Kind::Shm),
            Self::Msg => Some(Kind::Msg),
            Self::Sem => Some(Kind::Sem),
            Self::Channels | Self::Namespaces => None,
        }
    }
}

/// What to list.
pub enum Planned {
    /// Objects of the kernel.
    Objects(Listing),
    /// Channels.
    Channels(Channels),
    /// Name spaces.
    Spaces(Spaces),
}

impl Plan for Planned {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        match *self {
            Self::Objects(listing) => Box::new(listing).run(out),
            Self::Channels(channels) => Box::new(channels).run(out),
            Self::Spaces(spaces) => Box::new(spaces).run(out),
        }
    }
}

/// What to list.
pub struct Listing {
    kinds: Vec<Kind>,
    what: What,
    owner: Option<u32>,
    orphans: bool,
    sort: Option<(&'static Column, bool)>,
    format: Format,
    exact: bool,
}

enum What {
    Limits,
    Summary,
    /// Columns chosen for each kind: those that say nothing are left out of tables.
    Views(Vec<&'static [&'static str]>),
    /// Columns as they were asked for.
    Columns(Vec<&'static Column>),
}

impl Args {
    /// Finds the columns and the user.
    pub fn plan(self) -> anyhow::Result<Planned> {
        let owner = match (&self.user, self.mine) {
            (Some(user), _) => Some(users::parse_user(user)?),
            (None, true) => Some(users::me()),
            (None, false) => None,
        };
        let format = match (self.json, self.raw) {
            (true, _) => Format::Json,
            (false, true) => Format::Raw,
            (false, false) => Format::Table,
        };
        match self.kind {
            Some(Listed::Channels) => {
                return Ok(Planned::Channels(self.channels(owner, format)?));
            }
            Some(Listed::Namespaces) => return Ok(Planned::Spaces(self.spaces(owner, format)?)),
            _ => self.place.enter()?,
        }
        if self.interval.is_some() {
            let text = "--interval is for channels: tombolo ls channels --interval 1s";
            return Err(Failure::usage(text).into());
        }
        let kind = self.kind.and_then(Listed::kind);
        let kinds = kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
        let what = if self.limits {
            What::Limits
        } else if self.summary {
            What::Summary
        } else if self.output.is_empty() {
            What::Views(self.views())
        } else if let [all] = &self.output[..]
            && all.eq_ignore_ascii_case("all")
        {
            What::Columns(COLUMNS.iter().collect())
        } else {
            let columns = self
                .output
                .iter()
                .map(|name| columns::parse(name.trim(), &kinds));
            What::Columns(columns.collect::<Result<_, _>>()?)
        };
        let sort = match self.sort.as_deref().map(split_sort).transpose()? {
            Some((name, descending)) => Some((columns::parse(name, &kinds)?, descending)),
            None => None,
        };
        Ok(Planned::Objects(Listing {
            kinds,
            what,
            owner,
            orphans: self.orphans,
            sort,
            format,
            exact: self.bytes,
        }))
    }

    /// An option that is about objects only, if one was given.
    fn odd(&self) -> Option<&'static str> {
        let odd = [
            (self.time, "--time"),
            (self.pids, "--pids"),
            (self.creator, "--creator"),
            (self.orphans, "--orphans"),
            (self.limits, "--limits"),
            (self.summary, "--summary"),
        ];
        odd.iter()
            .find(|(given, _)| *given)
            .map(|(_, option)| *option)
    }

    fn spaces(&self, owner: Option<u32>, format: Format) -> Result<Spaces, Failure> {
        let given = |given: bool, option| given.then_some(option);
        let odd = self
            .odd()
            .or(given(!self.output.is_empty(), "--output"))
            .or(given(self.sort.is_some(), "--sort"))
            .or(given(self.interval.is_some(), "--interval"));
        if let Some(option) = odd {
            return Err(ls_spaces::odd(option));
        }
        if self.place.is_given() {
            return Err(Failure::usage(
                "--namespace is for what is in a name space: tombolo ls --namespace NAME",
            ));
        }
        Ok(Spaces::new(owner, format, self.bytes))
    }

    fn channels(&self, owner: Option<u32>, format: Format) -> Result<Channels, Failure> {
        if self.place.is_given() {
            return Err(Failure::usage(
                "a name space of `tombolo run` has no channels: they are the kernel's segments; \
                 leave --namespace away",
            ));
        }
        if let Some(option) = self.odd() {
            return Err(Failure::usage(format!(
                "{option} says nothing about channels; list their segments with: tombolo ls shm {option}"
            )));
        }
        let sort = self.sort.as_deref().map(split_sort).transpose()?;
        let interval = self.interval.unwrap_or(ls_channels::INTERVAL);
        Channels::plan(&self.output, sort, owner, interval, format, self.bytes)
    }

    fn views(&self) -> Vec<&'static [&'static str]> {
        let chosen = [
            (
                self.creator,
                ["mode", "user", "group", "cuser", "cgroup"].as_slice(),
            ),
            (
                self.pids,
                &["user", "cpid", "lpid", "lspid", "lrpid", "command"],
            ),
            (
                self.time,
                &["user", "atime", "dtime", "stime", "rtime", "otime", "ctime"],
            ),
        ];
        let mut views = vec![["id", "key", "name", "channel"].as_slice()];
        views.extend(
            chosen
                .iter()
                .filter(|(wanted, _)| *wanted)
                .map(|(_, names)| names),
        );
        if views.len() == 1 {
            views.push(&[
                "user", "mode", "size", "nattch", "status", "cbytes", "qbytes", "qnum", "nsems",
            ]);
        }
        views
    }
}

/// The column to sort by, and whether the order descends.
fn split_sort(text: &str) -> Result<(&str, bool), Failure> {
    match text.split_once(',') {
        None => Ok((text, false)),
        Some((name, order)) => match order.to_ascii_lowercase().as_str() {
            "asc" => Ok((name, false)),
            "desc" => Ok((name, true)),
            _ => Err(Failure::usage(format!(
                "cannot sort in the order `{order}`; write {name} or {name},desc"
            ))),
        },
    }
}

impl Plan for Listing {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Limits => limits::print(out, &self.kinds, self.format == Format::Json)?,
            What::Summary => limits::print_usage(out, &self.kinds, self.format == Format::Json)?,
            What::Views(_) | What::Columns(_) => self.list(out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Listing {
    fn list(&self, out: &mut Output) -> anyhow::Result<()> {
        let around = Surroundings::look();
        let lists: Vec<(Kind, Vec<Object>)> = self
            .kinds
            .iter()
            .map(|kind| Ok((*kind, self.select(*kind, &around)?)))
            .collect::<anyhow::Result<_>>()?;
        match self.format {
            Format::Json => {
                let columns = self.json_columns();
                let objects = lists.iter().flat_map(|(_, objects)| objects);
                out.json(objects.map(|object| fields(object, &columns, &around)))?;
            }
            Format::Raw => {
                for (kind, objects) in &lists {
                    let columns = self.raw_columns(*kind);
                    for object in objects {
                        out.raw(columns.iter().map(|column| column.value(object, &around)))?;
                    }
                }
            }
            Format::Table => {
                for (at, (kind, objects)) in lists.iter().enumerate() {
                    if at > 0 {
                        out.line("")?;
                    }
                    self.table(out, *kind, objects, &around)?;
                }
            }
        }
        Ok(())
    }

    fn select(&self, kind: Kind, around: &Surroundings) -> anyhow::Result<Vec<Object>> {
        let mut objects = object::list(kind)?;
        if let Some(owner) = self.owner {
            objects.retain(|object| object.belongs_to(owner));
        }
        if self.orphans {
            objects.retain(|object| around.is_orphan(object));
        }
        objects.sort_by_key(Object::id);
        if let Some((column, descending)) = self.sort {
            let mut keyed: Vec<(Value, Object)> = objects
                .into_iter()
                .map(|object| (column.value(&object, around), object))
                .collect();
            let order = |a: &Value, b: &Value| -> Ordering { a.sort_key().cmp(&b.sort_key()) };
            keyed.sort_by(|(a, _), (b, _)| if descending { order(b, a) } else { order(a, b) });
            objects = keyed.into_iter().map(|(_, object)| object).collect();
        }
        Ok(objects)
    }

    /// The columns of tables for one kind.
    fn columns(&self, kind: Kind) -> Vec<&'static Column> {
        let mut columns: Vec<&'static Column> = Vec::new();
        let all = match &self.what {
            What::Columns(columns) => columns.clone(),
            What::Views(views) => columns::named(&views.concat()),
            What::Limits | What::Summary => Vec::new(),
        };
        for column in all.into_iter().filter(|column| column.applies_to(kind)) {
            if !columns.iter().any(|known| known.name == column.name) {
                columns.push(column);
            }
        }
        columns
    }

    /// The columns of raw lines: every line has all that were asked for, so that a field keeps
    /// its place; lines of more than one kind begin with it.
    fn raw_columns(&self, kind: Kind) -> Vec<&'static Column> {
        match &self.what {
            What::Columns(columns) => columns.clone(),
            _ if self.kinds.len() > 1 => columns::named(&["kind"])
                .into_iter()
                .chain(self.columns(kind))
                .collect(),
            _ => self.columns(kind),
        }
    }

    fn json_columns(&self) -> Vec<&'static Column> {
        match &self.what {
            What::Columns(asked) => {
                let named = columns::named(&["kind", "id", "key"]);
                let rest = asked
                    .iter()
                    .filter(|column| !named.iter().any(|n| n.name == column.name));
                named.iter().chain(rest).copied().collect()
            }
            _ => columns::free(),
        }
    }

    fn table(
        &self,
        out: &mut Output,
        kind: Kind,
        objects: &[Object],
        around: &Surroundings,
    ) -> anyhow::Result<()> {
        if self.kinds.len() > 1 {
            out.heading(&format!("{} ({})", kind.heading(), objects.len()))?;
        }
        if objects.is_empty() {
            if self.kinds.len() == 1 {
                out.line(&format!("no {}s", kind.noun()))?;
            }
            return Ok(());
        }
        let columns = self.columns(kind);
        let mut rows: Vec<Vec<Value>> = objects
            .iter()
            .map(|object| {
                columns
                    .iter()
                    .map(|column| column.value(object, around))
                    .collect()
            })
            .collect();
        let mut headings: Vec<&str> = columns.iter().map(|column| column.name).collect();
        if matches!(self.what, What::Views(_)) {
            let says: Vec<bool> = (0..columns.len())
                .map(|at| rows.iter().any(|row| row[at] != Value::None))
                .collect();
            keep(&mut headings, &says);
            rows.iter_mut().for_each(|row| keep(row, &says));
        }
        Ok(out.table(&headings, &rows, &Human::new(self.exact))?)
    }
}

fn keep<T>(row: &mut Vec<T>, which: &[bool]) {
    let mut which = which.iter();
    row.retain(|_| which.next().copied().unwrap_or(true));
}

/// An object as JSON has it: the columns that its kind has.
pub fn fields(object: &Object, columns: &[&Column], around: &Surroundings) -> Fields {
    columns
        .iter()
        .filter(|column| column.applies_to(object.kind()))
        .map(|column| (column.name.to_owned(), column.value(object, around).json()))
        .collect()
}
