//! `tombolo ls channels`: a line for each channel: how full it is, how fast, and who takes part.

use std::collections::HashSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::inspect::Inspection;
use tombolo::shmem::{name, presence};
use tombolo::sysv::procfs;

use crate::Plan;
use crate::exit::Failure;
use crate::kind::Kind;
use crate::object::{self, Object, Surroundings};
use crate::output::{Fields, Format, Output};
use crate::participants;
use crate::peek::{Peeks, Unseen};
use crate::value::{Human, Value};

/// How long the rate is measured, if nothing else is said.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// What stands in a line.
struct Row {
    object: Object,
    seen: Result<Inspection, Unseen>,
    /// Messages a second.
    rate: Option<u64>,
}

/// One column.
struct Column {
    name: &'static str,
    help: &'static str,
    value: fn(&Row, &Surroundings) -> Value,
}

impl Row {
    fn segment(&self) -> &procfs::Segment {
        match &self.object {
            Object::Shm(segment) => segment,
            Object::Msg(_) | Object::Sem(_) => unreachable!("channels are segments"),
        }
    }

    /// A fact of what is in the channel, if that can be seen.
    fn seen(&self, fact: impl FnOnce(&Inspection) -> Option<Value>) -> Value {
        self.seen
            .as_ref()
            .ok()
            .and_then(fact)
            .unwrap_or(Value::None)
    }
}

/// All columns, in the order of `--output all` and of JSON.
static COLUMNS: &[Column] = &[
    Column {
        name: "name",
        help: "by which it is reached; - if by its key or id",
        value: |row, around| {
            let listed = around.channel(&row.object).and_then(|channel| channel.name);
            let named = || {
                let seen = row.seen.as_ref().ok()?;
                let name = name::Name::of(row.object.perm().cuid, &seen.header.name);
                name.ok().map(|name| name.to_string())
            };
            listed.or_else(named).map_or(Value::None, Value::Text)
        },
    },
    Column {
        name: "channel",
        help: "value, queue, topic, mailbox or service",
        value: |row, around| {
            let listed = around.channel(&row.object).map(|channel| channel.kind);
            let seen = || Some(row.seen.as_ref().ok()?.kind.name().to_owned());
            listed.or_else(seen).map_or(Value::None, Value::Text)
        },
    },
    Column {
        name: "id",
        help: "the segment's id",
        value: |row, _| Value::Number(row.object.id().into()),
    },
    Column {
        name: "key",
        help: "the segment's key",
        value: |row, _| Value::Key(row.object.perm().key),
    },
    Column {
        name: "user",
        help: "the owner's name",
        value: |row, around| Value::Text(around.users.user(row.object.perm().uid)),
    },
    Column {
        name: "mode",
        help: "the permissions in octal; a number in JSON",
        value: |row, _| Value::Mode(row.object.perm().mode),
    },
    Column {
        name: "size",
        help: "bytes of the segment",
        value: |row, _| Value::Bytes(row.segment().status.size),
    },
    Column {
        name: "rss",
        help: "bytes of it in memory",
        value: |row, _| Value::Bytes(row.segment().resident),
    },
    Column {
        name: "nattch",
        help: "how many attaches there are",
        value: |row, _| Value::Count(row.segment().status.attaches),
    },
    Column {
        name: "capacity",
        help: "bytes for each producer or publisher, of a mailbox, of a message or a request",
        value: |row, _| row.seen(|seen| Some(Value::Bytes(seen.capacity))),
    },
    Column {
        name: "messages",
        help: "how many wait: for a consumer, a taker, the slowest subscriber, a server",
        value: |row, _| row.seen(|seen| seen.waiting.map(Value::Count)),
    },
    Column {
        name: "bytes",
        help: "how many bytes those take",
        value: |row, _| row.seen(|seen| seen.bytes.map(Value::Bytes)),
    },
    Column {
        name: "total",
        help: "messages, calls or puts that there ever were",
        value: |row, _| row.seen(|seen| Some(Value::Count(seen.total))),
    },
    Column {
        name: "rate",
        help: "of them in a second, while this looked (--interval)",
        value: |row, _| row.rate.map_or(Value::None, Value::Count),
    },
    Column {
        name: "dead",
        help: "participants that died, whose place nobody has taken yet",
        value: |row, _| row.seen(|seen| Some(Value::Count(participants::dead(seen)))),
    },
    Column {
        name: "parked",
        help: "participants that sleep: for a message, or for room",
        value: |row, _| row.seen(|seen| Some(Value::Count(participants::parked(seen)))),
    },
    Column {
        name: "participants",
        help: "who takes part and lives; an array in JSON, as `tombolo show` has it",
        value: |row, _| {
            row.seen(|seen| {
                let text = participants::summary(seen);
                (!text.is_empty()).then_some(Value::Text(text))
            })
        },
    },
    Column {
        name: "lost",
        help: "messages that the subscribers of a topic have lost",
        value: |row, _| {
            row.seen(|seen| {
                let lost = seen.participants.iter().filter_map(|p| p.lost);
                lost.reduce(u64::saturating_add).map(Value::Count)
            })
        },
    },
    Column {
        name: "policy",
        help: "of a topic: wait-for-slowest, overrun",
        value: |row, _| {
            row.seen(|seen| {
                let policy = seen.policy.map(participants::policy);
                policy.map(|policy| Value::Text(policy.to_owned()))
            })
        },
    },
    Column {
        name: "unseen",
        help: "why nothing can be told of what is in it",
        value: |row, _| match &row.seen {
            Ok(_) => Value::None,
            Err(why) => Value::Text(why.why()),
        },
    },
];

/// What a table has unless it is asked for others.
const VIEW: [&str; 11] = [
    "name",
    "channel",
    "id",
    "user",
    "mode",
    "messages",
    "bytes",
    "rate",
    "dead",
    "parked",
    "participants",
];

/// The list of all columns for the help.
pub fn help() -> String {
    let mut help = String::from("Columns of `tombolo ls channels`:\n");
    for column in COLUMNS {
        help.push_str(&format!("  {:12} {}\n", column.name, column.help));
    }
    help
}

fn column(name: &str) -> Result<&'static Column, Failure> {
    let found = COLUMNS
        .iter()
        .find(|column| column.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let valid: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        Failure::usage(format!(
            "channels have no column `{name}`; choose from: {}",
            valid.join(",")
        ))
    })
}

/// What to list.
pub struct Channels {
    columns: Vec<&'static Column>,
    sort: Option<(&'static Column, bool)>,
    owner: Option<u32>,
    interval: Duration,
    format: Format,
    exact: bool,
}

impl Channels {
    /// `output` and `sort` are the names of columns, the latter with whether it descends.
    pub fn plan(
        output: &[String],
        sort: Option<(&str, bool)>,
        owner: Option<u32>,
        interval: Duration,
        format: Format,
        exact: bool,
    ) -> Result<Self, Failure> {
        let all = |name: &str| name.eq_ignore_ascii_case("all");
        let columns = match output {
            [] if format == Format::Json => COLUMNS.iter().collect(),
            [one] if all(one) => COLUMNS.iter().collect(),
            [] => VIEW.into_iter().map(column).collect::<Result<_, _>>()?,
            names => {
                let columns = names.iter().map(|name| column(name.trim()));
                columns.collect::<Result<_, _>>()?
            }
        };
        let sort = sort.map(|(name, descending)| Ok((column(name)?, descending)));
        Ok(Self {
            columns,
            sort: sort.transpose()?,
            owner,
            interval,
            format,
            exact,
        })
    }

    fn rows(&self, around: &Surroundings) -> anyhow::Result<Vec<Row>> {
        let mut rows = look(around)?;
        rows.retain(|row| self.owner.is_none_or(|owner| row.object.belongs_to(owner)));
        if !self.interval.is_zero() && rows.iter().any(|row| row.seen.is_ok()) {
            let began = Instant::now();
            thread::sleep(self.interval);
            let peeks = Peeks::look();
            for row in &mut rows {
                let again = peeks.inspect(&row.segment().status);
                let took = began.elapsed().as_secs_f64();
                row.rate = match (&row.seen, &again) {
                    (Ok(before), Ok(now)) => {
                        let more = now.total.saturating_sub(before.total);
                        Some((more as f64 / took).round() as u64)
                    }
                    _ => None,
                };
                // What was seen does not get lost with who had it attached.
                if again.is_ok() {
                    row.seen = again;
                }
            }
        }
        rows.sort_by_key(|row| row.object.id());
        if let Some((column, descending)) = self.sort {
            let mut keyed: Vec<(Value, Row)> = rows
                .into_iter()
                .map(|row| ((column.value)(&row, around), row))
                .collect();
            keyed.sort_by(|(a, _), (b, _)| {
                let order = a.sort_key().cmp(&b.sort_key());
                if descending { order.reverse() } else { order }
            });
            rows = keyed.into_iter().map(|(_, row)| row).collect();
        }
        Ok(rows)
    }
}

/// Every channel: what the users' directories list, what has the key of a named one, and what
/// those who take part in channels have attached without a key.
fn look(around: &Surroundings) -> anyhow::Result<Vec<Row>> {
    let objects = object::list(Kind::Shm)?;
    let peeks = Peeks::look();
    let presences = objects.iter().filter_map(|object| match object {
        Object::Shm(segment) => presence::is_presence(&segment.status).then_some(object.id()),
        Object::Msg(_) | Object::Sem(_) => None,
    });
    let taking_part: HashSet<i32> = peeks.pids(presences).into_iter().collect();
    let mut rows = Vec::new();
    for object in objects {
        let Object::Shm(segment) = &object else {
            continue;
        };
        let status = segment.status;
        if presence::is_presence(&status) || presence::is_orphan(&status) {
            continue;
        }
        let listed = around.channel(&object).is_some();
        let keyed = name::is_name_key(status.perm.key) && !status.marked;
        // Memory of other programs is left alone.
        let unnamed =
            status.marked && peeks.is_used_by(status.id, |pid| taking_part.contains(&pid));
        if !(listed || keyed || unnamed) {
            continue;
        }
        let seen = peeks.inspect(&status);
        if listed || keyed || seen.is_ok() {
            rows.push(Row {
                object,
                seen,
                rate: None,
            });
        }
    }
    Ok(rows)
}

impl Plan for Channels {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let around = Surroundings::look();
        let rows = self.rows(&around)?;
        let values = |row: &Row| -> Vec<Value> {
            let columns = self.columns.iter();
            columns.map(|column| (column.value)(row, &around)).collect()
        };
        match self.format {
            Format::Json => out.json(rows.iter().map(|row| {
                let mut fields: Fields = self
                    .columns
                    .iter()
                    .zip(values(row))
                    .map(|(column, value)| (column.name.to_owned(), value.json()))
                    .collect();
                if let (Some(participants), Ok(seen)) = (fields.get_mut("participants"), &row.seen)
                {
                    *participants = participants::json(seen, &around);
                }
                fields
            }))?,
            Format::Raw => {
                for row in &rows {
                    out.raw(values(row).into_iter())?;
                }
            }
            Format::Table if rows.is_empty() => out.line("no channels")?,
            Format::Table => {
                let headings: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
                let rows: Vec<Vec<Value>> = rows.iter().map(values).collect();
                out.table(&headings, &rows, &Human::new(self.exact))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
