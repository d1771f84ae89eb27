//! Standard output: tables that fit the terminal, lines for tools, JSON, and bytes as they are.

use std::env;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, presets};
use serde_json::{Map, Value as Json};

use crate::value::{Human, Value};

/// One object for JSON: `kind`, `id`, `key` and what else is known.
pub type Fields = Map<String, Json>;

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

/// Standard output, buffered. Errors are left to `exit::finish`, which knows a closed pipe.
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
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
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            width: width.filter(|width| *width > 0),
            colour: terminal && !plain,
        }
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

    /// Writes a table. On a terminal that is too narrow, texts are cut, numbers never.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<Value>], how: &Human) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        let numeric: Vec<bool> = (0..headings.len())
            .map(|column| rows.iter().any(|row| row[column].is_number()))
            .collect();
        let cell = |text: String, column: usize| {
            let side = if numeric[column] {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            };
            Cell::new(text).set_alignment(side)
        };
        let header = headings
            .iter()
            .enumerate()
            .map(|(at, name)| cell(name.to_uppercase(), at));
        table.set_header(header.collect::<Vec<_>>());
        for row in rows {
            let cells = row
                .iter()
                .enumerate()
                .map(|(at, value)| cell(value.human(how), at));
            let mut row = Row::from(cells.collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        let texts: Vec<bool> = (0..headings.len())
            .map(|column| rows.iter().any(|row| matches!(row[column], Value::Text(_))))
            .collect();
        match self.width {
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
            column.set_padding((0, if at + 1 == headings.len() { 0 } else { 2 }));
            if !texts[at] {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
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
