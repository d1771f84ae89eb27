//! `tombolo rm namespace`: removes name spaces with all that is in them.

use std::process::ExitCode;

use serde_json::Value as Json;

use crate::exit::{Exit, Failure, Failures};
use crate::output::{Fields, Output};
use crate::place;
use crate::spaces::{self, Name, State};

/// What to remove, and how.
pub struct Spaces {
    names: Vec<Name>,
    force: bool,
    dry_run: bool,
    json: bool,
}

impl Spaces {
    /// Reads the names.
    pub fn plan(names: &[String], force: bool, dry_run: bool, json: bool) -> Result<Self, Failure> {
        if names.is_empty() {
            return Err(Failure::usage(
                "which name space? name it, as in: tombolo rm namespace build; list them with: \
                 tombolo ls namespaces",
            ));
        }
        let names = names.iter().map(|name| Name::parse(name));
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            force,
            dry_run,
            json,
        })
    }

    /// Removes them.
    pub fn run(&self, out: &mut Output) -> anyhow::Result<ExitCode> {
        let mut failures = Failures::default();
        let mut report = Vec::new();
        for name in &self.names {
            match self.remove(name) {
                Ok(()) if self.json => report.push(self.fields(name)),
                Ok(()) => {
                    let done = if self.dry_run {
                        "would remove"
                    } else {
                        "removed"
                    };
                    out.line(&format!("{done} name space {name}"))?;
                }
                Err(failure) => {
                    out.flush()?;
                    failures.say(&failure.into());
                }
            }
        }
        if self.json {
            out.json(report.into_iter())?;
        }
        Ok(failures.exit())
    }

    fn remove(&self, name: &Name) -> Result<(), Failure> {
        let folder = name.existing()?;
        let removed = if self.dry_run {
            let found = spaces::look(name.clone());
            self.force || found.is_none_or(|found| found.state != State::InUse)
        } else {
            spaces::remove(name, self.force)?
        };
        if removed {
            return Ok(());
        }
        let who = match place::processes_in(&folder)[..] {
            [] => String::new(),
            [pid] => format!(" by process {pid}"),
            [pid, ..] => format!(" by process {pid} and others"),
        };
        Err(Failure::new(
            Exit::InUse,
            format!(
                "cannot remove name space {name}: it is in use{who}; to remove it nevertheless, add \
                 --force: who is in it keeps what it has, and can't be joined any more"
            ),
        ))
    }

    fn fields(&self, name: &Name) -> Fields {
        [
            ("kind", Json::from("namespace")),
            ("name", name.to_string().into()),
            ("removed", (!self.dry_run).into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}
