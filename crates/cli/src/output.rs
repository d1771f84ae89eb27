//! Standard output: tables that fit the terminal, lines for tools, JSON, and bytes as they are.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, IoSlice, IsTerminal, StdoutLock, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Width, presets};
use nix::poll::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use serde_json::{Map, Value as Json};
use tombolo::shmem::Bytes;

use crate::value::{Human, Value};

/// One object for JSON: `kind`, `id`, `key` and what else is known.
pub type Fields = Map<String, Json>;

/// Between two columns of a table.
const GAP: usize = 2;
/// What is left of a column of texts at least.
const LEAST: usize = 3;

/// How facts are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One line per object, fields separated by tabs.
    Raw,
    /// An array of objects.
    Json,
}

/// What standard output is, as far as it matters who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// A file, or `/dev/null`: takes everything at once.
    Patient,
    /// A pipe, whose reader may be slow.
    Pipe,
    /// A terminal, a socket: as slow as it is.
    Other,
}

impl Sink {
    fn of_stdout() -> Self {
        let about = io::stdout().as_fd().try_clone_to_owned();
        let Ok(about) = about.and_then(|out| File::from(out).metadata()) else {
            return Self::Other;
        };
        let kind = about.file_type();
        let null = fs::metadata("/dev/null").map(|null| null.rdev());
        let is_null = kind.is_char_device() && null.is_ok_and(|null| null == about.rdev());
        if kind.is_file() || is_null {
            Self::Patient
        } else if kind.is_fifo() {
            Self::Pipe
        } else {
            Self::Other
        }
    }
}

/// What failed when standard output could not be written: its errors say so, since "no space left" is
/// something else of a System V object.
struct Named(StdoutLock<'static>);

impl Named {
    fn of<T>(result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let text = format!("cannot write to standard output: {error}");
            io::Error::new(error.kind(), text)
        })
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::of(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::of(self.0.flush())
    }
}

/// Standard output, buffered. Errors are left to `exit::finish`, which knows a closed pipe.
pub struct Output {
    out: BufWriter<Named>,
    sink: Sink,
    width: Option<u16>,
    colour: bool,
}

impl Output {
    /// Standard output as it is now: a terminal with a width, or something that keeps all.
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            out: BufWriter::with_capacity(1 << 16, Named(io::stdout().lock())),
            sink: Sink::of_stdout(),
            width: width.filter(|width| *width > 0),
            colour: terminal && !plain,
        }
    }

    /// Columns of the terminal, if it is one.
    pub fn columns(&self) -> Option<usize> {
        self.width.map(usize::from)
    }

    /// Writes a heading that stands above a table or a group of facts.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        let (on, off) = if self.colour {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        writeln!(self.out, "{on}{text}{off}")
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes a message from where it stands in shared memory.
    pub fn in_place(&mut self, mut bytes: Bytes<'_>) -> io::Result<()> {
        self.out.flush()?;
        while !bytes.is_empty() {
            match bytes.write_to(io::stdout()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let rest = bytes.part(written, bytes.len() - written);
                    bytes = rest.map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes as much as can be written without waiting long for a reader; answers how much. To a
    /// file that is everything; into a pipe what it has room for soon; elsewhere, and into pipes of
    /// Linux before 6.4, `None`: nobody knows.
    pub fn at_once(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        self.out.flush()?;
        match self.sink {
            Sink::Patient => {
                self.out.get_mut().write_all(bytes)?;
                Ok(Some(bytes.len()))
            }
            Sink::Pipe => into_pipe(bytes),
            Sink::Other => Ok(None),
        }
    }

    /// Whether writing waits for nobody, as it does where a pipe's reader is slow.
    pub fn waits_for_nobody(&self) -> bool {
        self.sink == Sink::Patient
    }

    /// Writes a table. On a terminal that is too narrow for it, times are written short, then
    /// texts are cut, numbers never. Where even that is not enough, lines are as long as they are.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<Value>], how: &Human) -> io::Result<()> {
        let any = |column: usize, is: fn(&Value) -> bool| rows.iter().any(|row| is(&row[column]));
        let columns = 0..headings.len();
        let numeric: Vec<bool> = columns
            .clone()
            .map(|at| any(at, Value::is_number))
            .collect();
        let texts: Vec<bool> = columns
            .clone()
            .map(|at| any(at, |value| matches!(value, Value::Text(_))))
            .collect();
        let mut cells = written(rows, how);
        let mut widths = natural(headings, &cells);
        let fits = |widths: &[usize]| match self.width {
            Some(width) => widths.iter().sum::<usize>() + GAP * (widths.len() - 1) <= width.into(),
            None => true,
        };
        if !fits(&widths) {
            cells = written(rows, &how.brief());
            widths = natural(headings, &cells);
        }
        let least: Vec<usize> = columns
            .map(|at| {
                if texts[at] {
                    widths[at].min(LEAST)
                } else {
                    widths[at]
                }
            })
            .collect();
        let cut = !fits(&widths) && fits(&least);

        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        let cell = |(at, text): (usize, String)| {
            let side = if numeric[at] {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            };
            Cell::new(text).set_alignment(side)
        };
        let line = |texts: Vec<String>| {
            let mut row = Row::from(texts.into_iter().enumerate().map(cell).collect::<Vec<_>>());
            row.max_height(1);
            row
        };
        table.set_header(line(
            headings.iter().map(|name| name.to_uppercase()).collect(),
        ));
        for texts in cells {
            table.add_row(line(texts));
        }
        match self.width.filter(|_| cut) {
            Some(width) => {
                table
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            let padding = if at + 1 == headings.len() { 0 } else { GAP };
            column.set_padding((0, padding as u16));
            column.set_constraint(if texts[at] {
                ColumnConstraint::LowerBoundary(Width::Fixed((least[at] + padding) as u16))
            } else {
                ColumnConstraint::ContentWidth
            });
        }
        for (at, line) in table.lines().enumerate() {
            let line = line.trim_end();
            if at == 0 {
                self.heading(line)?
            } else {
                self.line(line)?
            }
        }
        Ok(())
    }

    /// Writes facts one below the other: the name, then the value.
    pub fn facts(&mut self, facts: &[(&str, Value)], how: &Human) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts {
            writeln!(self.out, "{name:width$}  {}", value.human(how))?;
        }
        Ok(())
    }

    /// Writes one line of fields separated by tabs.
    pub fn raw(&mut self, fields: impl Iterator<Item = Value>) -> io::Result<()> {
        for (at, value) in fields.enumerate() {
            if at > 0 {
                self.out.write_all(b"\t")?;
            }
            self.out.write_all(value.raw().as_bytes())?;
        }
        self.out.write_all(b"\n")
    }

    /// Writes an array of objects, one on each line.
    pub fn json(&mut self, objects: impl Iterator<Item = Fields>) -> io::Result<()> {
        self.out.write_all(b"[")?;
        let mut none = true;
        for object in objects {
            self.out.write_all(if none { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut self.out, &object)?;
            none = false;
        }
        self.out.write_all(if none { b"]\n" } else { b"\n]\n" })
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes into standard output, a pipe, as much as it has room for soon; `None` if the kernel can't
/// but wait.
fn into_pipe(bytes: &[u8]) -> io::Result<Option<usize>> {
    /// Who reads as fast as it can takes something in this time.
    const SOON: Duration = Duration::from_millis(2);
    let (start, out) = (Instant::now(), io::stdout());
    let mut written = 0;
    while written < bytes.len() {
        let part = [IoSlice::new(&bytes[written..])];
        match pwritev2(&out, &part, u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(length) => written += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut room = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
                if start.elapsed() >= SOON || poll(&mut room, 1u8)? == 0 {
                    break;
                }
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if written == 0 => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(written))
}

/// The cells of a table as people read them.
fn written(rows: &[Vec<Value>], how: &Human) -> Vec<Vec<String>> {
    let row = |row: &Vec<Value>| row.iter().map(|value| value.human(how)).collect();
    rows.iter().map(row).collect()
}

/// How wide each column is if nothing is cut.
fn natural(headings: &[&str], cells: &[Vec<String>]) -> Vec<usize> {
    let width = |at: usize| {
        let texts = cells.iter().map(|row| row[at].as_str());
        texts
            .chain([headings[at]])
            .map(|text| text.chars().count())
            .max()
    };
    (0..headings.len())
        .map(|at| width(at).unwrap_or(0))
        .collect()
}
