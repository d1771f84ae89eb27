//! `tombolo completions` and `tombolo man`: what is generated from the command line's definition.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

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
            let mut page = Vec::new();
            clap_mangen::Man::new(root).render(&mut page)?;
            out.bytes(&page)?;
            return Ok(ExitCode::SUCCESS);
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        clap_mangen::generate_to(root, &dir)
            .with_context(|| format!("cannot write manual pages into {}", dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
