//! `tombolo run --trace`, `--summary`: takes the records of calls as they come, and prints them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tombolo::shmem::signals::Blocked;
use userspace::trace::{Found, Reader};

use crate::exit::{Exit, Failure};
use crate::trace_summary::Summary;
use crate::trace_text::line;

/// Names the file of the trace to the library.
pub const VARIABLE: &str = "TOMBOLO_TRACE";

/// How long the printer sleeps when there is nothing to print. Nobody waits for it: a program would
/// have to wake it, and that costs more than the call that it makes.
const IDLE: Duration = Duration::from_millis(5);

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
                self.attempt(|out| out.flush());
                thread::sleep(IDLE);
            }
        }
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
                if let Some(summary) = &mut self.summary {
                    summary.add(record);
                }
                if self.lines {
                    self.attempt(|out| writeln!(out, "{}", line(record)));
                }
            }
            Found::Torn(_) => self.torn += 1,
        }
    }

    /// Writes, unless that has failed before: the program goes on, and so does the summary.
    fn attempt(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(&mut *self.out).err();
        }
    }
}
