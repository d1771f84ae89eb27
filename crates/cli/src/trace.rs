//! `tombolo run --trace`, `--summary`: takes the records of calls as they come, and prints them.
//!
//! A call that sleeps comes twice. Its first record is held back: if the second is next, both are
//! one line. It is written as unfinished when another record comes between, or has not come after
//! [`SHOWN`].
//!
//! The trace ends when no process writes it any more, which may be after the program's end: what
//! the program has started goes on being traced.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tombolo::shmem::signals::Blocked;
use userspace::trace::{Found, Phase, Reader, Record, is_written};

use crate::attend;
use crate::exit::{Exit, Failure};
use crate::spaces;
use crate::trace_summary::Summary;
use crate::trace_text::{line, resumed, unfinished};

/// Names the file of the trace to the library.
pub const VARIABLE: &str = "TOMBOLO_TRACE";

/// How long the printer sleeps when there is nothing to print. Nobody waits for it: a program would
/// have to wake it, and that costs more than the call that it makes.
const IDLE: Duration = Duration::from_millis(5);

/// After which time a call that sleeps is shown although nothing else happens.
const SHOWN: Duration = Duration::from_millis(100);

/// How long it takes until it is said that others are waited for.
const PATIENT: Duration = Duration::from_secs(1);

/// What is wanted of a trace.
pub struct Tracing {
    /// Where lines go; `-` is standard error.
    lines: Option<PathBuf>,
    summary: bool,
}

/// A trace that is being printed.
pub struct Tracer {
    over: Arc<AtomicBool>,
    printer: Option<JoinHandle<io::Result<()>>>,
    path: PathBuf,
}

impl Tracing {
    /// What the options ask for, if they ask for something.
    pub fn wanted(lines: Option<PathBuf>, summary: bool) -> Option<Self> {
        (summary || lines.is_some()).then_some(Self { lines, summary })
    }

    /// Makes the trace in the folder of a name space, has a command record in it, and prints it.
    pub fn begin(self, folder: &Path, command: &mut Command) -> Result<Tracer, Failure> {
        let out: Box<dyn Write + Send> = match &self.lines {
            Some(file) if file.as_os_str() != "-" => {
                let opened = File::create(file).map_err(|error| {
                    Failure::new(
                        Exit::Failed,
                        format!("cannot write the trace to {}: {error}", file.display()),
                    )
                })?;
                Box::new(BufWriter::new(opened))
            }
            _ => Box::new(BufWriter::new(io::stderr())),
        };
        let path = folder.join(format!("trace.{}", process::id()));
        // One of a process that had our number.
        let _ = fs::remove_file(&path);
        let mode = fs::metadata(folder.join(userspace::space::FILE)).map_or(0o600, |about| {
            std::os::unix::fs::MetadataExt::mode(&about) & 0o666
        });
        let reader = Reader::create(&path, mode).map_err(|errno| {
            Failure::new(
                Exit::of(errno),
                format!(
                    "cannot trace in {}: {errno}; a name space can be traced by its owner",
                    folder.display()
                ),
            )
        })?;
        command.env(VARIABLE, &path);
        let over = Arc::new(AtomicBool::new(false));
        let mut printing = Printing {
            reader,
            out,
            lines: self.lines.is_some(),
            failed: None,
            held: None,
            summary: self.summary.then(Summary::default),
            torn: 0,
        };
        let printer = {
            let over = Arc::clone(&over);
            // Signals are for the other thread.
            let _blocked = Blocked::new();
            thread::spawn(move || printing.run(&over))
        };
        Ok(Tracer {
            over,
            printer: Some(printer),
            path,
        })
    }
}

impl Tracer {
    /// Goes on as long as processes that the program has started write the trace, or until a signal
    /// asks for its end.
    pub fn outlast_program(&self) -> anyhow::Result<()> {
        let entry = [VARIABLE.as_bytes(), b"=", self.path.as_os_str().as_bytes()].concat();
        // In the middle of `exec` a process has no trace open.
        let (start, said) = (Instant::now(), Cell::new(false));
        let over = || {
            if start.elapsed() > PATIENT && !said.replace(true) {
                eprintln!(
                    "tombolo: the program has ended; the trace goes on with what it has started \
                     (^C ends it)"
                );
            }
            !is_written(&self.path) && !spaces::is_in_an_environment(&entry)
        };
        if !attend::wait_until(over)? {
            eprintln!("tombolo: the trace ends, but processes that the program has started go on");
        }
        Ok(())
    }

    /// Prints what is left, and the summary.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        // Release: what the program has recorded until it ended is seen by the printer's last round.
        self.over.store(true, Ordering::Release);
        let printed = self.printer.take().map(JoinHandle::join);
        let _ = fs::remove_file(&self.path);
        match printed {
            Some(Ok(printed)) => Ok(printed.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write the trace: {error}"))
            })?),
            _ => Ok(()),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

struct Printing {
    reader: Reader,
    out: Box<dyn Write + Send>,
    lines: bool,
    /// Why no more lines are written.
    failed: Option<io::Error>,
    /// A call that sleeps, not written yet, and when it came.
    held: Option<(Record, Instant)>,
    summary: Option<Summary>,
    torn: u64,
}

impl Printing {
    fn run(&mut self, over: &AtomicBool) -> io::Result<()> {
        loop {
            // Acquire: before the last round.
            let last = over.load(Ordering::Acquire);
            if last {
                self.reader.close();
            }
            let mut some = false;
            while let Some(found) = self.reader.take() {
                some = true;
                self.print(&found);
            }
            if last {
                break;
            }
            if !some {
                if self.held.is_some_and(|(_, at)| at.elapsed() >= SHOWN) {
                    self.show_held();
                }
                self.attempt(|out| out.flush());
                thread::sleep(IDLE);
            }
        }
        self.show_held();
        let (lost, torn) = (self.reader.lost(), self.torn);
        self.note(
            lost,
            "lost, because they came faster than they could be written",
        );
        self.note(torn, "not written whole: their processes were killed");
        if let Some(summary) = self.summary.take() {
            if self.lines {
                self.attempt(|out| out.write_all(b"\n"));
            }
            self.attempt(|out| summary.print(out));
        }
        self.attempt(|out| out.flush());
        self.failed.take().map_or(Ok(()), Err)
    }

    fn note(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.attempt(|out| writeln!(out, "tombolo: records of {count} calls were {what}"));
        }
    }

    fn print(&mut self, found: &Found) {
        match found {
            Found::Record(record) => {
                if record.phase != Phase::Asleep
                    && let Some(summary) = &mut self.summary
                {
                    summary.add(record);
                }
                if self.lines {
                    self.show(record);
                }
            }
            Found::Torn(_) => self.torn += 1,
        }
    }

    fn show(&mut self, record: &Record) {
        let text = match (record.phase, &self.held) {
            (Phase::Awake, Some((held, _))) if held.thread == record.thread => {
                self.held = None;
                line(record)
            }
            (Phase::Awake, _) => resumed(record),
            (Phase::Whole, _) => line(record),
            (Phase::Asleep, _) => {
                self.show_held();
                self.held = Some((*record, Instant::now()));
                return;
            }
        };
        self.show_held();
        self.attempt(|out| writeln!(out, "{text}"));
    }

    fn show_held(&mut self) {
        if let Some((record, _)) = self.held.take() {
            self.attempt(|out| writeln!(out, "{}", unfinished(&record)));
        }
    }

    /// Writes, unless that has failed before: the program goes on, and so does the summary.
    fn attempt(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(&mut *self.out).err();
        }
    }
}
