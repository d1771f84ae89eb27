//! The participants of a channel, as people and programs read them.

use serde_json::Value as Json;
use tombolo::inspect::{Inspection, Participant, Role};

use crate::object::Surroundings;
use crate::output::Output;
use crate::value::{Human, Value};

const ROLES: [Role; 9] = [
    Role::Producer,
    Role::Consumer,
    Role::Publisher,
    Role::Subscriber,
    Role::Client,
    Role::Server,
    Role::Writer,
    Role::Poster,
    Role::Taker,
];

/// How many of which role live: "2 producers, 1 consumer".
pub fn summary(seen: &Inspection) -> String {
    let of = |role: Role| {
        let living = |p: &&Participant| p.role == role && p.pid.is_some();
        seen.participants.iter().filter(living).count()
    };
    let counts = ROLES.map(|role| (role, of(role)));
    let words: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(role, count)| format!("{count} {}{}", role.name(), plural(*count)))
        .collect();
    words.join(", ")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// How many died and left their place to nobody yet.
pub fn dead(seen: &Inspection) -> u64 {
    let dead = seen.participants.iter().filter(|p| p.pid.is_none());
    dead.count() as u64
}

/// How many sleep.
pub fn parked(seen: &Inspection) -> u64 {
    seen.participants.iter().filter(|p| p.asleep).count() as u64
}

/// A table of them all, and what there is to say of the channel above it.
pub fn print(
    out: &mut Output,
    seen: &Inspection,
    around: &Surroundings,
    how: &Human,
) -> anyhow::Result<()> {
    if seen.participants.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.heading("Participants")?;
    let rows: Vec<Vec<Value>> = seen
        .participants
        .iter()
        .map(|p| {
            let count = |count: Option<u64>| count.map_or(Value::None, Value::Count);
            vec![
                pid(p),
                Value::Text(p.role.name().to_owned()),
                Value::Text(state(p).to_owned()),
                count(p.messages),
                count(p.waiting),
                count(p.lost),
                command(p, around).map_or(Value::None, Value::Text),
            ]
        })
        .collect();
    let headings = ["pid", "role", "state", "messages", "lag", "lost", "command"];
    Ok(out.table(&headings, &rows, how)?)
}

/// The types that are shown to people; programs get all.
const TYPES_SHOWN: usize = 20;

/// A table of the types of a mailbox's messages.
pub fn print_types(out: &mut Output, seen: &Inspection, how: &Human) -> anyhow::Result<()> {
    let all = seen.types.as_deref().unwrap_or_default();
    if all.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.heading("Types")?;
    let shown = all.iter().take(TYPES_SHOWN);
    let rows: Vec<Vec<Value>> = shown
        .map(|(kind, count)| vec![Value::Count(*kind), Value::Count(*count)])
        .collect();
    out.table(&["type", "messages"], &rows, how)?;
    let more = all.len() - rows.len();
    if more > 0 {
        out.line(&format!("and {more} higher types; all of them: --json"))?;
    }
    Ok(())
}

/// The same for programs; null if they could not be counted, or if it is no mailbox.
pub fn types_json(seen: &Inspection) -> Json {
    let all = seen.types.as_ref().map(|all| {
        let all = all.iter();
        all.map(|(kind, count)| serde_json::json!({ "type": kind, "messages": count }))
    });
    all.map_or(Json::Null, |all| Json::Array(all.collect()))
}

/// What is known of the channel beside the segment: names and values, as `show` has them.
pub fn facts(seen: &Inspection) -> Vec<(&'static str, Value)> {
    let count = |count: Option<u64>| count.map_or(Value::None, Value::Count);
    let policy = seen.policy.map(policy);
    vec![
        ("capacity", Value::Bytes(seen.capacity)),
        ("messages", count(seen.waiting)),
        ("bytes", seen.bytes.map_or(Value::None, Value::Bytes)),
        ("total", Value::Count(seen.total)),
        (
            "policy",
            policy.map_or(Value::None, |p| Value::Text(p.to_owned())),
        ),
    ]
}

/// What a topic does about slow subscribers.
pub fn policy(policy: tombolo::topic::Policy) -> &'static str {
    match policy {
        tombolo::topic::Policy::WaitForSlowest => "wait-for-slowest",
        tombolo::topic::Policy::Overrun => "overrun",
    }
}

/// The same for programs.
pub fn json(seen: &Inspection, around: &Surroundings) -> Json {
    let participants = seen.participants.iter().map(|p| {
        serde_json::json!({
            "pid": pid(p).json(),
            "role": p.role.name(),
            "alive": p.pid.is_some(),
            "asleep": p.asleep,
            "messages": p.messages,
            "lag": p.waiting,
            "lost": p.lost,
            "command": command(p, around),
        })
    });
    Json::Array(participants.collect())
}

/// A process of another PID name space has no number here.
fn pid(p: &Participant) -> Value {
    let pid = p.pid.filter(|pid| *pid != 0);
    pid.map_or(Value::None, |pid| Value::Number(pid.into()))
}

fn state(p: &Participant) -> &'static str {
    match (p.pid, p.asleep) {
        (None, _) => "dead",
        (Some(_), true) => "asleep",
        (Some(_), false) => "awake",
    }
}

fn command(p: &Participant, around: &Surroundings) -> Option<String> {
    p.pid.and_then(|pid| around.processes.command(pid))
}
