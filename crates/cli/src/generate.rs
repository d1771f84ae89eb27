//! `tombolo completions` and `tombolo man`: what is generated from the command line's definition.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::output::Output;
use crate::{Cli, Plan};

/// Write the completions of a shell to standard output
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo completions bash > /etc/bash_completion.d/tombolo
  tombolo completions zsh  > ~/.zfunc/_tombolo
  tombolo completions fish > ~/.config/fish/completions/tombolo.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Nothing is left to check.
    pub fn plan(self) -> anyhow::Result<Self> {
        Ok(self)
    }
}

impl Plan for CompletionsArgs {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tombolo", &mut script);
        out.bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the manual: one page to standard output, or all pages into a directory
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo man | man -l -
  tombolo man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Where tombolo.1, tombolo-ls.1 and the other pages go; made if it is not there
    dir: Option<PathBuf>,
}

impl ManArgs {
    /// Nothing is left to check.
    pub fn plan(self) -> anyhow::Result<Self> {
        Ok(self)
    }
}

impl Plan for ManArgs {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let Some(dir) = self.dir else {
            out.bytes(page(root)?.1.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        write_pages(root, &dir)
            .with_context(|| format!("cannot write manual pages into {}", dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the pages of a command and of its subcommands.
fn write_pages(command: Command, dir: &Path) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_pages(sub.clone(), dir)?;
    }
    let (name, text) = page(command)?;
    fs::write(dir.join(name), text)
}

/// The manual page of a command: its file's name, and its text.
fn page(command: Command) -> io::Result<(String, String)> {
    const EXTRA: &str = ".SH EXTRA\n";
    let man = Man::new(command);
    let mut bytes = Vec::new();
    man.render(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (before, rest) = text.split_once(EXTRA).unwrap_or((&text, ""));
    // Another section may follow.
    let (extra, after) = match rest.find("\n.SH ") {
        Some(at) => rest.split_at(at + 1),
        None => (rest, ""),
    };
    Ok((
        man.get_filename(),
        ascii(&format!("{before}{}{after}", section(extra))),
    ))
}

/// What help says after the options, with its lines kept where they are indented.
fn section(text: &str) -> String {
    let mut out = match text.strip_prefix("Examples:\n") {
        Some(_) => ".SH EXAMPLES\n".to_owned(),
        None if text.is_empty() => return String::new(),
        None => ".SH NOTES\n".to_owned(),
    };
    let mut kept = false;
    for line in text.strip_prefix("Examples:\n").unwrap_or(text).lines() {
        let keep = line.starts_with(' ');
        match (keep, kept) {
            (true, false) => out.push_str(".nf\n"),
            (false, true) => out.push_str(".fi\n"),
            _ => {}
        }
        kept = keep;
        out.push_str(if line.is_empty() { ".PP" } else { line });
        out.push('\n');
    }
    out.push_str(if kept { ".fi\n" } else { "" });
    out
}

/// The same in ASCII, as every roff reads it.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.push_str(&format!("\\[u{:04X}]", u32::from(c)));
        }
    }
    out
}
