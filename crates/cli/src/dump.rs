//! `tombolo dump`: the bytes of a segment, whoever made it.

use std::io;
use std::process::ExitCode;

use tombolo::shmem::View;

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::object::{self, Object};
use crate::output::Output;
use crate::place::{self, PlaceArgs, calls};
use crate::refuse::refused;
use crate::target::{self, Target, TargetOptions, missing};
use crate::value::parse_size;

/// Write the bytes of a segment: in hex with text, raw, or the strings in it
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo dump 42                              hex with text, as `hexdump -C`
  tombolo dump 0x4d2 --range 0x100..0x180      a part: from START up to, not including, END
  tombolo dump 42 --offset 1K --length 64
  tombolo dump greeting --format strings       text of four characters or more, and where it is
  tombolo dump 42 --format raw | cmp - file

The segment is attached for reading only, for as long as it takes; that is recorded in its atime,
dtime and lpid. What others write meanwhile may be seen in part. In hex, lines that repeat the one
before are one `*`.

{}", target::HELP))]
pub struct Args {
    /// The segment
    #[arg(allow_negative_numbers = true)]
    target: Option<String>,
    #[command(flatten)]
    options: TargetOptions,
    /// How to write the bytes
    #[arg(short, long, value_enum, default_value_t = Form::Hex)]
    format: Form,
    /// Only these bytes, counted from 0: 16..32, 0x100.. or ..1K
    #[arg(long, value_name = "START..END", value_parser = parse_range, conflicts_with_all = ["offset", "length"])]
    range: Option<Range>,
    /// Begin at this byte
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    offset: Option<u64>,
    /// No more than this many bytes; it is an error if there are fewer
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    length: Option<u64>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Offset, bytes in hex, text
    Hex,
    /// The bytes as they are
    Raw,
    /// Offset and text of each run of four or more printable characters
    Strings,
}

/// From a byte up to another, or up to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: Option<u64>,
}

fn parse_range(text: &str) -> Result<Range, String> {
    let (start, end) = text
        .split_once("..")
        .ok_or_else(|| format!("`{text}` is no range; expected START..END such as 16..32"))?;
    let start = if start.is_empty() {
        0
    } else {
        parse_size(start)?
    };
    let end = if end.is_empty() {
        None
    } else {
        Some(parse_size(end)?)
    };
    match end {
        Some(end) if end < start => Err(format!("`{text}` ends before it begins")),
        _ => Ok(Range { start, end }),
    }
}

/// What to dump.
pub struct Dumping {
    target: Target,
    format: Form,
    range: Range,
}

impl Args {
    /// Finds the range.
    pub fn plan(self) -> anyhow::Result<Dumping> {
        self.place.enter()?;
        let start = self.offset.unwrap_or(0);
        let end = self.length.map(|length| {
            start.checked_add(length).ok_or_else(|| {
                Failure::usage("--offset and --length together are more than can be counted")
            })
        });
        let range = match self.range {
            Some(range) => range,
            None => Range {
                start,
                end: end.transpose()?,
            },
        };
        Ok(Dumping {
            target: self.options.only(self.target)?,
            format: self.format,
            range,
        })
    }
}

impl Plan for Dumping {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let id = attachable(&self.target, "dump")?.0;
        let view = View::attach_in(calls(), id)
            .map_err(|errno| refused("dump", Kind::Shm, &self.target, id, errno))?;
        let (start, end) = self.within(view.len())?;
        let mut form = match self.format {
            Form::Hex => Writer::Hex(Hex::default()),
            Form::Raw => Writer::Raw,
            Form::Strings => Writer::Strings(Vec::new()),
        };
        // A multiple of the hex lines' length, so that only the last chunk ends in a short one.
        let mut chunk = vec![0; (1 << 20).min(end - start)];
        let mut at = start;
        while at < end {
            let length = chunk.len().min(end - at);
            let bytes = &mut chunk[..length];
            view.copy_out(at, bytes)?;
            form.write(out, at, bytes)?;
            at += length;
        }
        form.end(out, end)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Dumping {
    fn within(&self, size: usize) -> Result<(usize, usize), Failure> {
        let fits = |at: u64| usize::try_from(at).ok().filter(|at| *at <= size);
        let end = self.range.end.map_or(Some(size), fits);
        fits(self.range.start).zip(end).filter(|(start, end)| start <= end).ok_or_else(|| {
            Failure::usage(format!(
                "cannot dump segment {}: it has {size} bytes, and the range goes beyond; choose \
                 one within 0..{size}",
                self.target
            ))
        })
    }
}

/// The id and size of the segment that is to be attached, unless that would destroy it.
pub fn attachable(target: &Target, verb: &str) -> anyhow::Result<(i32, u64)> {
    let id = target.id(Kind::Shm, verb)?;
    let Some(Object::Shm(segment)) = object::find(Kind::Shm, id)? else {
        return Err(missing(Kind::Shm, target, verb).into());
    };
    let forced = place::limits().is_ok_and(|limits| limits.shm_rmid_forced == Some(true));
    if forced && segment.status.attaches == 0 {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "cannot {verb} segment {target}: nobody has it attached, and with shm_rmid_forced \
                 the kernel destroys it when we detach it; first: tombolo limits --set \
                 shm_rmid_forced=0{}",
                place::option()
            ),
        )
        .into());
    }
    Ok((id, segment.status.size))
}

enum Writer {
    Hex(Hex),
    Raw,
    /// The beginning of a run that is still too short to be one; empty within a run's text.
    Strings(Vec<u8>),
}

/// What has been written of a dump in hex.
#[derive(Default)]
struct Hex {
    last: Option<[u8; LINE]>,
    starred: bool,
}

/// How many bytes stand on a line in hex.
const LINE: usize = 16;
/// How many characters make a string, as strings(1) has it.
const RUN: usize = 4;

impl Writer {
    fn write(&mut self, out: &mut Output, at: usize, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Hex(hex) => hex.write(out, at, bytes),
            Self::Raw => out.bytes(bytes),
            Self::Strings(run) => strings(out, run, at, bytes),
        }
    }

    fn end(self, out: &mut Output, end: usize) -> io::Result<()> {
        match self {
            Self::Hex(_) => out.line(&format!("{end:08x}")),
            Self::Raw => Ok(()),
            Self::Strings(run) if run.len() >= RUN => out.line(""),
            Self::Strings(_) => Ok(()),
        }
    }
}

impl Hex {
    fn write(&mut self, out: &mut Output, at: usize, bytes: &[u8]) -> io::Result<()> {
        for (line, offset) in bytes.chunks(LINE).zip((at..).step_by(LINE)) {
            let whole = <[u8; LINE]>::try_from(line).ok();
            if whole.is_some() && whole == self.last {
                if !self.starred {
                    out.line("*")?;
                }
                self.starred = true;
                continue;
            }
            self.last = whole;
            self.starred = false;
            out.line(&hex_line(offset, line))?;
        }
        Ok(())
    }
}

fn hex_line(offset: usize, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = format!("{offset:08x} ");
    for at in 0..LINE {
        if at % 8 == 0 {
            line.push(' ');
        }
        match bytes.get(at) {
            Some(byte) => {
                line.push(DIGITS[usize::from(byte >> 4)].into());
                line.push(DIGITS[usize::from(byte & 15)].into());
                line.push(' ');
            }
            None => line.push_str("   "),
        }
    }
    line.push_str(" |");
    line.extend(bytes.iter().map(|byte| {
        if is_text(*byte) {
            char::from(*byte)
        } else {
            '.'
        }
    }));
    line.push('|');
    line
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte == b' '
}

/// Writes the runs of text in `bytes`. `run` holds the first characters of the current run: what
/// comes after them is written at once, so that a run may be as long as the segment.
fn strings(out: &mut Output, run: &mut Vec<u8>, at: usize, bytes: &[u8]) -> io::Result<()> {
    for (byte, offset) in bytes.iter().zip(at..) {
        if is_text(*byte) || *byte == b'\t' {
            if run.len() >= RUN {
                out.bytes(&[*byte])?;
                continue;
            }
            run.push(*byte);
            if run.len() == RUN {
                out.bytes(format!("{:08x}  ", offset + 1 - RUN).as_bytes())?;
                out.bytes(run)?;
            }
        } else {
            if run.len() >= RUN {
                out.line("")?;
            }
            run.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read() {
        assert_eq!(
            parse_range("16..32"),
            Ok(Range {
                start: 16,
                end: Some(32)
            })
        );
        assert_eq!(
            parse_range("0x10.."),
            Ok(Range {
                start: 16,
                end: None
            })
        );
        assert_eq!(
            parse_range("..1K"),
            Ok(Range {
                start: 0,
                end: Some(1024)
            })
        );
        for text in ["", "5", "9..3", "a..b", "1..2..3"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hex_lines_are_those_of_hexdump() {
        assert_eq!(
            hex_line(16, b"hello, world\n\0\xff~"),
            "00000010  68 65 6c 6c 6f 2c 20 77  6f 72 6c 64 0a 00 ff 7e  |hello, world...~|"
        );
        assert_eq!(
            hex_line(0, b"hi"),
            "00000000  68 69                                             |hi|"
        );
    }
}
