//! `tombolo doctor`: finds what crashes have left behind, and takes it away.

use std::process::ExitCode;

use serde_json::json;
use tombolo::KINDS;
use tombolo::inspect::Inspection;
use tombolo::shmem::reclaim::{self, Verdict};
use tombolo::shmem::{directory, name, presence};
use tombolo::sysv::{Errno, Kernel, Segment, msg, shm};

use crate::Plan;
use crate::exit::{Exit, Failure, Failures};
use crate::frame::messages;
use crate::kind::Kind;
use crate::object::{self, Object, Surroundings};
use crate::output::{Fields, Output};
use crate::peek;
use crate::users;

/// Find and reclaim what crashes have left behind
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo doctor --dry-run      what it would do
  tombolo doctor                does it, and says what it left and why

Reclaims of what you own or made, and as root of everybody's:
  presences     segments of processes that were killed while they joined their first channel
  channels      those that live while they are used, and that nobody uses any more; never one that
                holds messages
  unfinished    channels whose creator was killed while it made them
  ended         channels whose remover was killed before it was done
  entries       names in a user's directory of channels that are no more

It leaves alone what anybody has attached, what was made to stay until it is removed, and what
other programs made: for those see `tombolo rm --orphans`. Nothing needs it in order to work: who
opens a name takes away what is in the way.

With --dry-run too it attaches channels that nobody has attached, for reading, to see whether they
hold messages; that moves their atime, dtime and lpid. Exit code 0 also if something was left
because it holds messages; 4 if something was left that you may not look into or remove.")]
pub struct Args {
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Say it as an array of objects
    #[arg(long)]
    json: bool,
}

/// A round of the doctor's.
pub struct Round {
    dry_run: bool,
    json: bool,
}

impl Args {
    /// There is nothing to check.
    pub fn plan(self) -> anyhow::Result<Round> {
        Ok(Round {
            dry_run: self.dry_run,
            json: self.json,
        })
    }
}

/// What was found.
struct Finding {
    what: String,
    id: Option<i32>,
    reclaimed: bool,
    why: &'static str,
    next: Option<String>,
}

impl Plan for Round {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let around = Surroundings::look();
        let mut failures = Failures::default();
        let mut findings = Vec::new();
        for object in object::list(Kind::Shm)? {
            if users::me() != 0 && !object::is_mine(&object) {
                continue;
            }
            match self.examine(&object, &around) {
                Ok(finding) => findings.extend(finding),
                Err(failure) => {
                    out.flush()?;
                    failures.say(&failure.into());
                }
            }
        }
        findings.extend(self.directories());
        if self.json {
            out.json(findings.iter().map(|finding| self.fields(finding)))?;
        } else if findings.is_empty() {
            out.line("nothing was left behind")?;
        } else {
            for finding in &findings {
                out.line(&self.sentence(finding))?;
            }
        }
        Ok(failures.exit())
    }
}

impl Round {
    /// Judges a segment, and takes it away if it was left.
    fn examine(&self, object: &Object, around: &Surroundings) -> Result<Option<Finding>, Failure> {
        let Object::Shm(segment) = object else {
            return Ok(None);
        };
        let status = &segment.status;
        let id = status.id;
        let finding = |what: String, reclaimed, why| Finding {
            what,
            id: Some(id),
            reclaimed,
            why,
            next: None,
        };
        if presence::is_orphan(status) {
            // One that lives may be about to attach it.
            if !around.is_orphan(object) {
                return Ok(None);
            }
            let what = format!("segment {id} (presence)");
            if !self.dry_run {
                let removed = Segment::from_id(id).remove();
                ignore_gone(removed).map_err(|errno| refused(&what, errno))?;
            }
            let why = "its process was killed while it joined its first channel";
            return Ok(Some(finding(what, true, why)));
        }
        let channel = around.channels.get(&id);
        if status.marked || channel.is_none() && !name::is_name_key(status.perm.key) {
            return Ok(None);
        }
        let what = match channel {
            Some(channel) => {
                let name = channel.name.as_deref().unwrap_or("without a name");
                format!("segment {id} ({} {name})", channel.kind)
            }
            None => format!("segment {id} (a channel)"),
        };
        // Before it goes.
        let seen = self.looked_into(status);
        let verdict = if self.dry_run {
            reclaim::judge(id, &KINDS)
        } else {
            reclaim::reclaim(id, &KINDS)
        };
        let verdict = match verdict {
            Err(Errno::INVAL | Errno::IDRM) => return Ok(None),
            verdict => verdict.map_err(|errno| refused(&what, errno))?,
        };
        let why = match verdict {
            Verdict::Unused => "nobody uses it",
            Verdict::Unfinished => "its creator was killed while it made it",
            Verdict::Ended => "its remover was killed before it was done",
            Verdict::Holds => "it holds messages",
            Verdict::Unknown if status.attaches == 0 => "it is no channel of this version",
            Verdict::Unknown | Verdict::Permanent | Verdict::InUse => return Ok(None),
        };
        let mut finding = finding(what, verdict.is_left(), why);
        if verdict == Verdict::Holds {
            let waiting = seen.and_then(|seen| seen.waiting);
            let named = channel.and_then(|channel| channel.name.clone());
            let them = waiting.map_or("them".to_owned(), messages);
            let command = match channel {
                Some(channel) if channel.kind == "mailbox" => "take",
                _ => "recv",
            };
            finding.next = named.map(|name| {
                format!("receive {them} with: tombolo {command} {name}, or: tombolo rm {name}")
            });
        }
        Ok(Some(finding))
    }

    fn looked_into(&self, status: &shm::Status) -> Option<Inspection> {
        if status.attaches > 0 {
            return None;
        }
        peek::attach(status).ok()?.ok()
    }

    /// Takes away the names of channels that are no more.
    fn directories(&self) -> Vec<Finding> {
        let mut users: Vec<u32> = msg::list(Kernel)
            .unwrap_or_default()
            .iter()
            .filter(|queue| directory::is_directory(queue))
            .map(|queue| queue.perm.cuid)
            .filter(|user| users::me() == 0 || *user == users::me())
            .collect();
        users.sort_unstable();
        users.dedup();
        let mut findings = Vec::new();
        for user in users {
            let stale = directory::stale(user);
            if !self.dry_run {
                directory::sweep_all(user);
            }
            findings.extend(stale.into_iter().map(|entry| Finding {
                what: format!("the entry `{}` of a directory", entry.name),
                id: None,
                reclaimed: true,
                why: "its segment is no more",
                next: None,
            }));
        }
        findings
    }

    fn sentence(&self, finding: &Finding) -> String {
        let done = match (finding.reclaimed, self.dry_run) {
            (true, false) => "reclaimed",
            (true, true) => "would reclaim",
            (false, _) => "left",
        };
        let next = finding.next.as_ref();
        let next = next.map_or(String::new(), |next| format!("; {next}"));
        format!("{done} {}: {}{next}", finding.what, finding.why)
    }

    fn fields(&self, finding: &Finding) -> Fields {
        let mut fields = Fields::new();
        fields.insert("what".to_owned(), json!(finding.what));
        fields.insert("id".to_owned(), json!(finding.id));
        let reclaimed = finding.reclaimed && !self.dry_run;
        fields.insert("reclaimed".to_owned(), json!(reclaimed));
        fields.insert("left".to_owned(), json!(!finding.reclaimed));
        fields.insert("why".to_owned(), json!(finding.why));
        fields
    }
}

fn ignore_gone(removed: tombolo::sysv::Result<()>) -> tombolo::sysv::Result<()> {
    match removed {
        Err(Errno::INVAL | Errno::IDRM) => Ok(()),
        removed => removed,
    }
}

fn refused(what: &str, errno: Errno) -> Failure {
    let exit = match errno {
        Errno::ACCESS | Errno::PERM => Exit::Denied,
        errno => Exit::of(errno),
    };
    Failure::new(
        exit,
        format!("cannot tell whether {what} was left behind, or remove it: {errno}"),
    )
}
