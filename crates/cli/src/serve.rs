//! `tombolo serve`: a server of a service, which runs a command for each request.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;

use tombolo::service::{Options, Request, ServeError, Server};
use tombolo::sysv::Mode;
use tombolo::{Address, Lifetime};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::target::{self, TargetOptions};
use crate::value::parse_size;

/// Serve the service NAME: run COMMAND for each request, with it as input and the reply as output
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo serve upper -- tr a-z A-Z          and: tombolo call upper --text hello
  tombolo serve sums --jobs 4 -- sha256sum   up to four at a time
  tombolo serve once --count 1 -- cat

Makes the service if there is none, and serves until it is ended. COMMAND's standard error goes to
where this command's goes. If COMMAND fails, the caller is told how it ended, instead of a reply.
Several processes may serve one service; each call goes to one of them. When one is killed, the
caller that it worked for is told so.")]
pub struct Args {
    /// The service's name
    name: Option<String>,
    #[command(flatten)]
    target: TargetOptions,
    /// Serve so many requests at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: u16,
    /// End after so many requests for each job
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The permissions of a new service in octal: 600 without
    #[arg(long)]
    mode: Option<Mode>,
    /// Longest request of a new service: 64K, 16M; 256K without
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    request: Option<u64>,
    /// Longest reply of a new service; 256K without
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    reply: Option<u64>,
    /// A new service stays until it is removed, also when nobody uses it
    #[arg(long)]
    until_removed: bool,
    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What to serve, and how.
pub struct Serving {
    address: Address,
    jobs: u16,
    count: Option<u64>,
    options: Options,
    command: Vec<OsString>,
}

impl Args {
    /// Finds out which service is meant.
    pub fn plan(self) -> anyhow::Result<Serving> {
        let target = self.target.only(self.name)?;
        if self.jobs == 0 {
            return Err(Failure::usage("--jobs takes at least 1").into());
        }
        let defaults = Options::default();
        let size = |size: Option<u64>, otherwise| match size.map(usize::try_from) {
            None => Ok(otherwise),
            Some(Ok(size)) => Ok(size),
            Some(Err(_)) => Err(Failure::usage("no message can have so many bytes")),
        };
        Ok(Serving {
            address: target::address(&target)?,
            jobs: self.jobs,
            count: self.count,
            options: Options {
                servers: defaults.servers.max(self.jobs.into()),
                request: size(self.request, defaults.request)?,
                reply: size(self.reply, defaults.reply)?,
                mode: self.mode.unwrap_or(defaults.mode),
                lifetime: if self.until_removed {
                    Lifetime::UntilRemoved
                } else {
                    Lifetime::WhileUsed
                },
                ..defaults
            },
            command: self.command,
        })
    }
}

impl Plan for Serving {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        let servers = (0..self.jobs).map(|_| self.open());
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        thread::scope(|scope| {
            let jobs: Vec<_> = servers
                .into_iter()
                .map(|server| scope.spawn(|| self.serve(server)))
                .collect();
            jobs.into_iter().try_for_each(|job| {
                let ended = job.join();
                ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Serving {
    fn open(&self) -> Result<Server, Failure> {
        let opened = match &self.address {
            Address::Id(_) => Server::open(self.address.clone()),
            _ => Server::open_or_create(self.address.clone(), &self.options),
        };
        opened.map_err(|error| Failure::opening(&error))
    }

    fn serve(&self, mut server: Server) -> Result<(), Failure> {
        let mut served = 0;
        while self.count != Some(served) {
            let request = server.next().map_err(|error| self.ended(&error))?;
            self.answer(request)?;
            served += 1;
        }
        Ok(())
    }

    fn ended(&self, error: &ServeError) -> Failure {
        let exit = match error {
            ServeError::Removed => Exit::Missing,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("cannot serve {}: {error}", self.address))
    }

    fn answer(&self, request: Request<'_>) -> Result<(), Failure> {
        let mut input = Vec::with_capacity(request.len());
        request.append_to(&mut input);
        let longest = request.longest_reply();
        let error = match self.execute(&input, longest) {
            Ok((status, reply)) if status.success() => match request.reply(&reply) {
                Ok(()) => return Ok(()),
                Err(long) => {
                    let text = format!(
                        "its reply is longer than the {longest} bytes that fit; serve it with a \
                         larger --reply"
                    );
                    let _ = long.request.fail(cut(&text, longest));
                    return Ok(());
                }
            },
            Ok((status, _)) => format!("{} ended with {status}", self.command[0].display()),
            Err(error) => {
                let text = format!("cannot run {}: {error}", self.command[0].display());
                let _ = request.fail(cut(&text, longest));
                let code = match error.kind() {
                    ErrorKind::NotFound => 127,
                    _ => 126,
                };
                return Err(Failure::with_code(code, text));
            }
        };
        // It was cut to what fits.
        let _ = request.fail(cut(&error, longest));
        Ok(())
    }

    /// Runs the command. Of its output no more is kept than shows that it is too long.
    fn execute(&self, input: &[u8], longest: usize) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let mut reply = vec![];
        thread::scope(|scope| {
            // It may write before it has read, and need not read at all.
            scope.spawn(move || to.map(|mut to| to.write_all(input)));
            let mut from = from.into_iter();
            from.try_for_each(|from| {
                let mut from = from.take(longest as u64 + 1);
                from.read_to_end(&mut reply)?;
                io::copy(&mut from.into_inner(), &mut io::sink()).map(drop)
            })
        })?;
        Ok((child.wait()?, reply))
    }
}

/// The beginning of a text that fits.
fn cut(text: &str, longest: usize) -> &[u8] {
    &text.as_bytes()[..text.len().min(longest)]
}
