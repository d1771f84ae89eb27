//! `tombolo ls namespaces`: the name spaces of a user, who is in them, and what they hold.

use std::process::ExitCode;

use preload::InSpace;
use tombolo::sysv::{Mode, msg, sem, shm};
use userspace::Space;

use crate::exit::Failure;
use crate::output::{Fields, Format, Output};
use crate::spaces::{self, Found};
use crate::users::Users;
use crate::value::{Human, Value};
use crate::{Plan, place, users};

/// The columns: name, and what it means.
const COLUMNS: [(&str, &str); 9] = [
    (
        "name",
        "what --namespace wants; @PID is that of one `tombolo run`",
    ),
    (
        "state",
        "in use; kept: until it is removed; left: the next `tombolo run` takes it away",
    ),
    ("user", "the owner's name"),
    ("mode", "who may use it, in octal; a number in JSON"),
    (
        "processes",
        "how many of the processes that may be looked at are in it",
    ),
    ("segments", "segments in it; - where you may not look"),
    ("queues", "message queues in it"),
    ("sets", "semaphore sets in it"),
    ("bytes", "memory that it takes"),
];

/// What help says about them.
pub fn help() -> String {
    let mut help = String::from("Columns of name spaces:\n");
    for (name, meaning) in COLUMNS {
        help.push_str(&format!("  {name:16} {meaning}\n"));
    }
    help
}

/// Which to list, and how.
pub struct Spaces {
    owner: Option<u32>,
    format: Format,
    exact: bool,
}

impl Spaces {
    /// All of a user, or of this one.
    pub fn new(owner: Option<u32>, format: Format, exact: bool) -> Self {
        Self {
            owner,
            format,
            exact,
        }
    }
}

impl Plan for Spaces {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let owner = self.owner.unwrap_or_else(users::me);
        let all = spaces::all(owner)?;
        let users = Users::default();
        let user = users.user(owner);
        let rows = all.iter().map(|found| row(found, &user));
        let names = COLUMNS.map(|(name, _)| name);
        match self.format {
            Format::Json => {
                let object = |row: Vec<Value>| -> Fields {
                    let kind = ("kind".to_owned(), "namespace".into());
                    let named = names.iter().zip(row);
                    let fields = named.map(|(name, value)| ((*name).to_owned(), value.json()));
                    std::iter::once(kind).chain(fields).collect()
                };
                out.json(rows.map(object))?;
            }
            Format::Raw => {
                for row in rows {
                    out.raw(row.into_iter())?;
                }
            }
            Format::Table if all.is_empty() => out.line("no name spaces")?,
            Format::Table => {
                let rows: Vec<_> = rows.collect();
                out.table(&names, &rows, &Human::new(self.exact))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(found: &Found, user: &str) -> Vec<Value> {
    let [segments, queues, sets] = match Space::open(&found.folder) {
        Ok(space) => objects(&space).map(Value::Count),
        Err(_) => [Value::None, Value::None, Value::None],
    };
    vec![
        Value::Text(found.name.to_string()),
        Value::Text(found.state.word().to_owned()),
        Value::Text(user.to_owned()),
        Value::Mode(Mode::from_bits_truncate(found.mode)),
        Value::Count(place::processes_in(&found.folder).len() as u64),
        segments,
        queues,
        sets,
        Value::Bytes(found.bytes),
    ]
}

fn objects(space: &Space) -> [u64; 3] {
    let calls = InSpace(space);
    [
        shm::usage(calls).map_or(0, |usage| usage.segments),
        msg::usage(calls).map_or(0, |usage| usage.queues),
        sem::usage(calls).map_or(0, |usage| usage.sets),
    ]
}

/// Why an option says nothing about name spaces.
pub fn odd(option: &str) -> Failure {
    Failure::usage(format!(
        "{option} says nothing about name spaces; list what is in one with: tombolo ls --namespace \
         NAME {option}"
    ))
}
