//! The columns of `tombolo ls`: one table that drives the lists, `--output`, `--sort`, JSON,
//! `tombolo show` and the help. They bear the kernel's names, so that they are those of
//! `/proc/sysvipc`, of `shmid_ds` and its fellows, and of their manual pages.

use crate::exit::Failure;
use crate::kind::Kind;
use crate::object::{Object, Surroundings};
use crate::value::Value;

/// One column.
pub struct Column {
    /// Its name: the heading, and the field in JSON.
    pub name: &'static str,
    /// What `lsipc` and others call it.
    aliases: &'static [&'static str],
    kinds: &'static [Kind],
    /// What it means, units included.
    pub help: &'static str,
    /// What it takes to know it.
    pub cost: Cost,
    value: fn(&Object, &Surroundings) -> Value,
}

/// What it takes to know a column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// The kernel's description says it.
    Free,
    /// A question for each object: only where it is asked for by name.
    Dear,
}

impl Column {
    /// Whether objects of this kind have it.
    pub fn applies_to(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Its value for an object; none if the object's kind does not have it.
    pub fn value(&self, object: &Object, around: &Surroundings) -> Value {
        if self.applies_to(object.kind()) {
            (self.value)(object, around)
        } else {
            Value::None
        }
    }
}

const SHM: &[Kind] = &[Kind::Shm];
const SHM_MSG: &[Kind] = &[Kind::Shm, Kind::Msg];
const MSG: &[Kind] = &[Kind::Msg];
const SEM: &[Kind] = &[Kind::Sem];

macro_rules! column {
    ($name:literal $aliases:expr, $kinds:expr, $help:literal, $value:expr) => {
        column!($name $aliases, $kinds, $help, $value, Cost::Free)
    };
    ($name:literal $aliases:expr, $kinds:expr, $help:literal, $value:expr, $cost:expr) => {
        Column {
            name: $name,
            aliases: &$aliases,
            kinds: $kinds,
            help: $help,
            cost: $cost,
            value: $value,
        }
    };
}

/// A field of one kind's description; the table's `kinds` keep others away.
macro_rules! field {
    ($kind:ident, |$it:ident| $value:expr) => {
        |object, _| match object {
            Object::$kind($it) => $value,
            _ => Value::None,
        }
    };
}

/// Every column, in the order of `--output all` and of JSON.
pub static COLUMNS: &[Column] = &[
    column!("kind" [], &Kind::ALL, "shm, msg or sem",
        |object, _| Value::Text(object.kind().word().to_owned())),
    column!("id" ["shmid", "msqid", "semid"], &Kind::ALL, "the kernel's id",
        |object, _| Value::Number(object.id().into())),
    column!("key" [], &Kind::ALL, "the key, 0 if private; a signed number in JSON",
        |object, _| Value::Key(object.perm().key)),
    column!("name" [], SHM, "the channel's name, if it is one of Tombolo's",
        |object, around| text(around.channel(object).and_then(|channel| channel.name))),
    column!("channel" [], SHM_MSG, "the kind of channel; directory: the queue that lists a user's",
        |object, around| text(around.channel(object).map(|channel| channel.kind))),
    column!(
        "user"["owner"],
        &Kind::ALL,
        "the owner's name",
        |object, around| Value::Text(around.users.user(object.perm().uid))
    ),
    column!("uid" [], &Kind::ALL, "the owner's number",
        |object, _| Value::Number(object.perm().uid.into())),
    column!("group" [], &Kind::ALL, "the owning group's name",
        |object, around| Value::Text(around.users.group(object.perm().gid))),
    column!("gid" [], &Kind::ALL, "the owning group's number",
        |object, _| Value::Number(object.perm().gid.into())),
    column!(
        "cuser"["creator"],
        &Kind::ALL,
        "the creator's name",
        |object, around| Value::Text(around.users.user(object.perm().cuid))
    ),
    column!("cuid" [], &Kind::ALL, "the creator's number",
        |object, _| Value::Number(object.perm().cuid.into())),
    column!("cgroup" [], &Kind::ALL, "the creator's group's name",
        |object, around| Value::Text(around.users.group(object.perm().cgid))),
    column!("cgid" [], &Kind::ALL, "the creator's group's number",
        |object, _| Value::Number(object.perm().cgid.into())),
    column!("mode" [], &Kind::ALL, "the permissions in octal; a number in JSON",
        |object, _| Value::Mode(object.perm().mode)),
    column!("perms" [], &Kind::ALL, "the permissions as rw-r-----",
        |object, _| Value::Text(object.perm().mode.symbolic())),
    column!("size" ["bytes", "segsz"], SHM, "bytes",
        field!(Shm, |it| Value::Bytes(it.status.size))),
    column!(
        "nattch"["attached"],
        SHM,
        "how many attaches there are",
        field!(Shm, |it| Value::Count(it.status.attaches))
    ),
    column!(
        "status"["state"],
        SHM,
        "dest: removed, gone after the last detach; locked: in memory",
        field!(Shm, |it| status(it.status.marked, it.status.locked))
    ),
    column!("cpid" [], SHM, "the process that made it",
        field!(Shm, |it| Value::Number(it.status.creator_pid.into()))),
    column!("lpid" [], SHM, "the last process to attach or detach",
        field!(Shm, |it| Value::Number(it.status.last_pid.into()))),
    column!("rss" [], SHM, "bytes in memory",
        field!(Shm, |it| Value::Bytes(it.resident))),
    column!("swap" [], SHM, "bytes in swap",
        field!(Shm, |it| Value::Bytes(it.swapped))),
    column!(
        "atime"["attach"],
        SHM,
        "when it was last attached; times in JSON are seconds since 1970, 0 for never",
        field!(Shm, |it| Value::Time(it.status.attached))
    ),
    column!(
        "dtime"["detach"],
        SHM,
        "when it was last detached",
        field!(Shm, |it| Value::Time(it.status.detached))
    ),
    column!("cbytes" ["usedbytes", "used-bytes"], MSG, "bytes queued",
        field!(Msg, |it| Value::Bytes(it.bytes))),
    column!("qnum" ["msgs", "messages"], MSG, "messages queued",
        field!(Msg, |it| Value::Count(it.messages))),
    column!("qbytes" [], MSG, "bytes that it may hold",
        field!(Msg, |it| Value::Bytes(it.capacity))),
    column!("lspid" [], MSG, "the last process to send",
        field!(Msg, |it| Value::Number(it.last_send_pid.into()))),
    column!("lrpid" [], MSG, "the last process to receive",
        field!(Msg, |it| Value::Number(it.last_receive_pid.into()))),
    column!(
        "stime"["send"],
        MSG,
        "when a message was last sent",
        field!(Msg, |it| Value::Time(it.sent))
    ),
    column!(
        "rtime"["recv"],
        MSG,
        "when a message was last received",
        field!(Msg, |it| Value::Time(it.received))
    ),
    column!("nsems" [], SEM, "how many semaphores it has",
        field!(Sem, |it| Value::Count(it.count))),
    column!(
        "otime"["last-op"],
        SEM,
        "when it was last operated on",
        field!(Sem, |it| Value::Time(it.operated))
    ),
    column!(
        "ctime"["changed"],
        &Kind::ALL,
        "when it was made, or its owner or mode changed",
        |object, _| Value::Time(match object {
            Object::Shm(it) => it.status.changed,
            Object::Msg(it) => it.changed,
            Object::Sem(it) => it.changed,
        })
    ),
    column!("command" [], SHM, "the creator's command line, while it lives",
    |object, around| match object {
        Object::Shm(it) => text(around.processes.command(it.status.creator_pid)),
        _ => Value::None,
    }),
    column!("orphan" [], &Kind::ALL, "whether nobody is left who used it; see --orphans",
        |object, around| Value::Flag(around.is_orphan(object)), Cost::Dear),
];

fn text(text: Option<String>) -> Value {
    text.map_or(Value::None, Value::Text)
}

fn status(marked: bool, locked: bool) -> Value {
    match (marked, locked) {
        (false, false) => Value::None,
        (true, false) => Value::Text("dest".to_owned()),
        (false, true) => Value::Text("locked".to_owned()),
        (true, true) => Value::Text("dest,locked".to_owned()),
    }
}

/// The column of that name in any case, or of that alias.
pub fn column(name: &str) -> Option<&'static Column> {
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    COLUMNS
        .iter()
        .find(|column| is(&column.name) || column.aliases.iter().any(is))
}

/// The column that a command line names, which at least one of `kinds` must have.
pub fn parse(name: &str, kinds: &[Kind]) -> Result<&'static Column, Failure> {
    let applies = |column: &Column| kinds.iter().any(|kind| column.applies_to(*kind));
    column(name).filter(|found| applies(found)).ok_or_else(|| {
        let valid: Vec<_> = COLUMNS
            .iter()
            .filter(|column| applies(column))
            .map(|column| column.name)
            .collect();
        Failure::usage(format!(
            "there is no column `{name}`; choose from: {}",
            valid.join(",")
        ))
    })
}

/// The columns of these names. For tables written here: a name that is not there is a mistake
/// of ours, which the tests find.
pub fn named(names: &[&str]) -> Vec<&'static Column> {
    names.iter().filter_map(|name| column(name)).collect()
}

/// The columns that cost nothing: what JSON has unless it is asked for others.
pub fn free() -> Vec<&'static Column> {
    COLUMNS
        .iter()
        .filter(|column| column.cost == Cost::Free)
        .collect()
}

/// The list of all columns for the help.
pub fn help() -> String {
    let mut help = String::from("Columns (for --output and --sort; the fields of --json):\n");
    for column in COLUMNS {
        let kinds: Vec<_> = column.kinds.iter().map(|kind| kind.word()).collect();
        let kinds = if kinds.len() < Kind::ALL.len() {
            kinds.join(",")
        } else {
            String::new()
        };
        help.push_str(&format!("  {:8} {kinds:7} {}\n", column.name, column.help));
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_means_two_columns() {
        let mut seen = HashSet::new();
        for column in COLUMNS {
            for name in [column.name].iter().chain(column.aliases) {
                assert!(seen.insert(name.to_lowercase()), "{name}");
            }
        }
    }

    #[test]
    fn a_wrong_column_lists_the_right_ones() {
        assert_eq!(parse("OWNER", &Kind::ALL).unwrap().name, "user");
        let error = parse("nsems", &[Kind::Shm]).err().unwrap().to_string();
        assert!(
            error.contains("size,nattch") && !error.contains("otime"),
            "{error}"
        );
    }
}
