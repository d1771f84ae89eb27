//! `tombolo limits`: what the kernel allows, how much of it is used, and how to raise it.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use serde_json::Value as Json;
use tombolo::sysv::{Errno, Limit, Limits, msg, sem, shm};

use crate::exit::{Exit, Failure, Failures};
use crate::kind::Kind;
use crate::output::{Fields, Output};
use crate::place::{self, PlaceArgs, calls};
use crate::value::{Human, Value, parse_size};
use crate::{Plan, run};

/// Show the kernel's limits, how much of each is used, and how to raise them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo limits
  tombolo limits shm --json
  tombolo limits --set shmmni=8192            as root, until the next start
  sysctl -w kernel.shmmni=8192                the same
  echo kernel.shmmni=8192 > /etc/sysctl.d/60-ipc.conf    from the next start on

The limits are those of the IPC name space, hold at once, and leave what exists alone. The four of
semaphores share one sysctl, which is why its line has four numbers; --set changes one of them.
Only shm_rmid_forced does not spare what exists: set to 1 it removes, at once and from then on, each
segment that nobody has attached and whose creator is gone.")]
pub struct Args {
    /// Only this kind
    kind: Option<Kind>,
    /// Set a limit (SIZE may have a unit, as in 64K); several at once are set in turn
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// An array of objects, numbers as numbers, nothing rounded
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to do: set these, or show those.
pub struct Showing {
    kinds: Vec<Kind>,
    set: Vec<(Limit, u64)>,
    json: bool,
}

impl Args {
    /// Reads what is to be set.
    pub fn plan(self) -> anyhow::Result<Showing> {
        self.place.enter()?;
        let set = self
            .set
            .iter()
            .map(|text| parse_setting(text))
            .collect::<Result<_, _>>()?;
        let kinds = self.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
        Ok(Showing {
            kinds,
            set,
            json: self.json,
        })
    }
}

pub fn parse_setting(text: &str) -> Result<(Limit, u64), Failure> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        Failure::usage(format!(
            "`{text}` sets nothing; expected NAME=VALUE such as shmmni=8192"
        ))
    })?;
    let known = |limit: &&Limit| name.eq_ignore_ascii_case(limit.name());
    let limit = Limit::ALL.iter().find(known).ok_or_else(|| {
        let names: Vec<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        Failure::usage(format!(
            "there is no limit `{name}` to set; choose from: {}",
            names.join(", ")
        ))
    })?;
    let value = u64::from_str(value)
        .or_else(|_| parse_size(value))
        .map_err(Failure::usage)?;
    Ok((*limit, value))
}

impl Plan for Showing {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let mut failures = Failures::default();
        for (limit, value) in &self.set {
            if place::space().is_some() {
                if let Err(failure) = set_in_space(*limit, *value) {
                    failures.say(&failure.into());
                }
            } else if let Err(error) = limit.set(*value) {
                let exit = if error.is_permission() {
                    Exit::Denied
                } else {
                    Exit::Failed
                };
                failures.say(&Failure::new(exit, error.to_string()).into());
            }
        }
        if self.set.is_empty() {
            print(out, &self.kinds, self.json)?;
        }
        Ok(failures.exit())
    }
}

/// Sets a limit of the chosen name space.
fn set_in_space(limit: Limit, value: u64) -> Result<(), Failure> {
    if !place::is_mine() {
        return Err(Failure::new(
            Exit::Denied,
            format!("cannot set {limit} to {value}: only the owner of a name space or root may"),
        ));
    }
    if let Some(space) = place::space() {
        let mut limits = space.limits();
        *run::field(&mut limits, limit) = value;
        space.set_limits(&limits);
    }
    Ok(())
}

/// One limit with what is used of it.
struct Row {
    kind: Kind,
    name: &'static str,
    value: Value,
    used: Value,
    sysctl: Option<String>,
    help: &'static str,
}

/// Writes the limits of some kinds.
pub fn print(out: &mut Output, kinds: &[Kind], json: bool) -> anyhow::Result<()> {
    let limits = place::limits().context("cannot read the limits")?;
    let rows = rows(&limits)?;
    let rows = rows.iter().filter(|row| kinds.contains(&row.kind));
    if json {
        out.json(rows.map(Row::fields))?;
    } else {
        let headings = ["limit", "value", "used", "use%", "what it limits"];
        let rows: Vec<_> = rows.map(Row::cells).collect();
        out.table(&headings, &rows, &Human::new(true))?;
        out.line(&format!(
            "\nRaise one with:  tombolo limits --set LIMIT=N{}",
            place::option()
        ))?;
        if place::space().is_some() {
            return Ok(());
        }
        out.line("            or:  sysctl -w kernel.LIMIT=N")?;
        if kinds.contains(&Kind::Sem) {
            let now = OF_SETS.map(|limit| limits.get(limit).unwrap_or_default().to_string());
            out.line(&format!(
                "of semaphores:  sysctl -w kernel.sem=\"{}\"  (semmsl semmns semopm semmni)",
                now.join(" ")
            ))?;
        }
    }
    Ok(())
}

fn rows(limits: &Limits) -> Result<Vec<Row>, Errno> {
    let shm = shm::usage(calls())?;
    let msg = msg::usage(calls())?;
    let sem = sem::usage(calls())?;
    let row = |kind, limit: Limit, used: Option<u64>, help| Row {
        kind,
        name: limit.name(),
        value: limits.get(limit).map_or(Value::None, Value::Count),
        used: used.map_or(Value::None, Value::Count),
        sysctl: Some(match place::space() {
            Some(_) => format!("tombolo limits --set {limit}=N{}", place::option()),
            None => sysctl(limit, limits),
        }),
        help,
    };
    let fixed = |kind, name, value, help| Row {
        kind,
        name,
        value,
        used: Value::None,
        sysctl: None,
        help,
    };
    Ok(vec![
        row(Kind::Shm, Limit::Shmmni, Some(shm.segments), "segments"),
        row(
            Kind::Shm,
            Limit::Shmall,
            Some(shm.pages),
            "pages of 4096 bytes in all segments",
        ),
        row(Kind::Shm, Limit::Shmmax, None, "bytes in a segment"),
        fixed(
            Kind::Shm,
            "shmmin",
            Value::Count(1),
            "bytes in a segment, at least",
        ),
        row(
            Kind::Shm,
            Limit::ShmRmidForced,
            None,
            "1: segments go at their last detach",
        ),
        row(Kind::Msg, Limit::Msgmni, Some(msg.queues), "message queues"),
        row(Kind::Msg, Limit::Msgmax, None, "bytes in a message"),
        row(Kind::Msg, Limit::Msgmnb, None, "bytes in a new queue"),
        row(Kind::Sem, Limit::Semmni, Some(sem.sets), "semaphore sets"),
        row(
            Kind::Sem,
            Limit::Semmns,
            Some(sem.semaphores),
            "semaphores in all sets",
        ),
        row(Kind::Sem, Limit::Semmsl, None, "semaphores in a set"),
        row(Kind::Sem, Limit::Semopm, None, "operations in a semop"),
        fixed(
            Kind::Sem,
            "semvmx",
            Value::Count(32767),
            "a semaphore's value",
        ),
    ])
}

/// The limits of semaphores in the order of `kernel.sem`.
const OF_SETS: [Limit; 4] = [Limit::Semmsl, Limit::Semmns, Limit::Semopm, Limit::Semmni];

/// The line that sets a limit: N stands for the new number.
fn sysctl(limit: Limit, limits: &Limits) -> String {
    if !OF_SETS.contains(&limit) {
        return format!("sysctl -w kernel.{limit}=N");
    }
    let numbers = OF_SETS.map(|other| match limits.get(other) {
        Some(number) if other != limit => number.to_string(),
        _ => "N".to_owned(),
    });
    format!("sysctl -w kernel.sem=\"{}\"", numbers.join(" "))
}

impl Row {
    fn percent(&self) -> Option<f64> {
        match (&self.used, &self.value) {
            (Value::Count(used), Value::Count(value)) if *value > 0 => {
                Some(*used as f64 * 100.0 / *value as f64)
            }
            _ => None,
        }
    }

    fn cells(&self) -> Vec<Value> {
        let text = |text: Option<String>| text.map_or(Value::None, Value::Text);
        vec![
            Value::Text(self.name.to_owned()),
            self.value.clone(),
            self.used.clone(),
            text(self.percent().map(|percent| format!("{percent:.2}"))),
            Value::Text(self.help.to_owned()),
        ]
    }

    fn fields(&self) -> Fields {
        [
            ("kind", Json::from("limit")),
            ("of", self.kind.word().into()),
            ("name", self.name.into()),
            ("value", self.value.json()),
            ("used", self.used.json()),
            ("percent", self.percent().map_or(Json::Null, Json::from)),
            ("raise", self.sysctl.clone().map_or(Json::Null, Json::from)),
            ("help", self.help.into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// Writes how many objects of some kinds there are, and what they take.
pub fn print_usage(out: &mut Output, kinds: &[Kind], json: bool) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for kind in kinds {
        all.push((
            *kind,
            usage(*kind).with_context(|| format!("cannot ask about {kind}s"))?,
        ));
    }
    if json {
        out.json(all.iter().map(|(kind, facts)| {
            let kind = ("kind".to_owned(), Json::from(kind.word()));
            let facts = facts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.json()));
            std::iter::once(kind).chain(facts).collect()
        }))?;
        return Ok(());
    }
    for (at, (kind, facts)) in all.iter().enumerate() {
        if at > 0 {
            out.line("")?;
        }
        out.heading(kind.heading())?;
        out.facts(facts, &Human::new(true))?;
    }
    Ok(())
}

type Facts = Vec<(&'static str, Value)>;

fn usage(kind: Kind) -> Result<Facts, Errno> {
    Ok(match kind {
        Kind::Shm => {
            let usage = shm::usage(calls())?;
            vec![
                ("segments", Value::Count(usage.segments)),
                ("pages", Value::Count(usage.pages)),
                ("resident_pages", Value::Count(usage.resident_pages)),
                ("swapped_pages", Value::Count(usage.swapped_pages)),
                ("swap_attempts", Value::Count(usage.swap_attempts)),
                ("swap_successes", Value::Count(usage.swap_successes)),
            ]
        }
        Kind::Msg => {
            let usage = msg::usage(calls())?;
            vec![
                ("queues", Value::Count(usage.queues)),
                ("messages", Value::Count(usage.messages)),
                ("bytes", Value::Bytes(usage.bytes)),
            ]
        }
        Kind::Sem => {
            let usage = sem::usage(calls())?;
            vec![
                ("sets", Value::Count(usage.sets)),
                ("semaphores", Value::Count(usage.semaphores)),
            ]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read() {
        assert_eq!(parse_setting("shmmni=8192").unwrap(), (Limit::Shmmni, 8192));
        assert_eq!(parse_setting("MSGMAX=64K").unwrap(), (Limit::Msgmax, 65536));
        for text in ["shmmni", "shmmni=", "shmmni=x", "semvmx=1", "=1"] {
            assert!(parse_setting(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_of_semaphores_keeps_the_other_three() {
        let limits = Limits::read().unwrap();
        let line = sysctl(Limit::Semmns, &limits);
        let expected = format!(
            "sysctl -w kernel.sem=\"{} N {} {}\"",
            limits.semmsl, limits.semopm, limits.semmni
        );
        assert_eq!(line, expected);
    }
}
