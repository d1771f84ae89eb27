//! The `tombolo` command: parse, plan, run, exit code.
#![forbid(unsafe_code)]

mod attend;
mod bench;
mod bench_table;
mod call;
mod channels;
mod columns;
mod demo;
mod demo_race;
mod demo_roles;
mod doctor;
mod dump;
mod exit;
mod feed;
mod frame;
mod generate;
mod get;
mod kind;
mod limits;
mod load;
mod ls;
mod ls_channels;
mod ls_spaces;
mod mk;
mod msg;
mod object;
mod output;
mod participants;
mod peek;
mod place;
mod post;
mod processes;
mod progress;
mod publish;
mod put;
mod recv;
mod refuse;
mod rm;
mod rm_spaces;
mod run;
mod sem;
mod send;
mod servable;
mod serve;
mod set;
mod show;
mod spaces;
mod subscribe;
mod take;
mod target;
mod trace;
mod trace_summary;
mod trace_text;
mod users;
mod value;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  tombolo put greeting README.md   a process leaves a message in shared memory
  tombolo get greeting             another reads it
  tombolo send jobs < list         lines as messages to a queue
  tombolo recv jobs                and from it, to the end
  tombolo post box --type 7 < list lines as messages with a type: tombolo take box --type 7
  tombolo serve up -- tr a-z A-Z   runs a command for each call
  tombolo call up --text hello     and this is one
  tombolo pub log < list           lines to everybody who listens: tombolo sub log
  tombolo ls                       what there is, of everybody
  tombolo show greeting            all about it, and who has it attached
  tombolo rm greeting
  tombolo run -- ./server          a program with System V in shared memory, not in the kernel
  tombolo bench                    how fast all that is on this machine
`tombolo COMMAND --help` has more; so have the pages that `tombolo man DIR` writes.
";

/// See, make, use and clean System V IPC: segments, message queues, semaphore sets.
#[derive(Parser)]
#[command(name = "tombolo", version, after_help = format!("{EXAMPLES}\n{}", exit::TABLE), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What a command line asks for, checked: running it asks no more questions of the command line.
trait Plan {
    /// Does it.
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode>;
}

/// The commands: each is a module with its `Args`, whose `plan` checks them.
macro_rules! commands {
    ($($name:ident = $args:path),+ $(,)?) => {
        #[derive(Subcommand)]
        enum Command {
            $($name($args)),+
        }

        impl Command {
            fn plan(self) -> anyhow::Result<Box<dyn Plan>> {
                match self {
                    $(Self::$name(args) => Ok(Box::new(args.plan()?))),+
                }
            }
        }
    };
}

commands! {
    Demo = demo::Args,
    Bench = bench::Args,
    Put = put::Args,
    Get = get::Args,
    Send = send::Args,
    Recv = recv::Args,
    Post = post::Args,
    Take = take::Args,
    Serve = serve::Args,
    Call = call::Args,
    Pub = publish::Args,
    Sub = subscribe::Args,
    Ls = ls::Args,
    Show = show::Args,
    Mk = mk::Args,
    Rm = rm::Args,
    Doctor = doctor::Args,
    Set = set::Args,
    Dump = dump::Args,
    Load = load::Args,
    Msgsnd = msg::SendArgs,
    Msgrcv = msg::ReceiveArgs,
    Semop = sem::Args,
    Limits = limits::Args,
    Run = run::Args,
    Completions = generate::CompletionsArgs,
    Man = generate::ManArgs,
}

fn main() -> ExitCode {
    // This process may be one end of a sample.
    ::bench::conduct::play_role(&::bench::registry::runners());
    exit::finish(run(Cli::parse()))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let plan = cli.command.plan()?;
    let mut out = Output::stdout();
    let code = plan.run(&mut out)?;
    out.flush()?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }
}
