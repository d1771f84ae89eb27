//! How far a stream of messages is, on a terminal, as pv(1) shows it.
//!
//! The stream only counts: a thread draws what was counted, ten times a second, so the display
//! goes on while the stream waits, and never slows it.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Input of at least so many bytes is shown without being asked for.
const LARGE: u64 = 64 << 20;
/// How often it is drawn.
const PERIOD: Duration = Duration::from_millis(100);

/// Whether to show it.
#[derive(clap::Args, Clone, Copy)]
#[group(multiple = false)]
pub struct ProgressArgs {
    /// Show how far it is and how fast, if standard error is a terminal
    #[arg(long)]
    progress: bool,
    /// Do not show it, also not for a large file
    #[arg(long)]
    no_progress: bool,
}

/// The display, if there is one.
pub struct Progress {
    bar: Option<ProgressBar>,
    messages: Arc<AtomicU64>,
}

impl Progress {
    /// For a stream of so many bytes, if that is known.
    pub fn new(wanted: ProgressArgs, size: Option<u64>) -> Self {
        let large = size.is_some_and(|size| size >= LARGE) && !wanted.no_progress;
        let shown = (wanted.progress || large) && stderr().is_terminal();
        let messages = Arc::new(AtomicU64::new(0));
        let bar = shown.then(|| bar(size, Arc::clone(&messages)));
        Self { bar, messages }
    }

    /// So much went through since the last time.
    pub fn count(&self, messages: u64, bytes: u64) {
        if let Some(bar) = &self.bar {
            // Relaxed: for people to read.
            self.messages.fetch_add(messages, Ordering::Relaxed);
            bar.inc(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // The last line stays, and what is said next stands below it.
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn bar(size: Option<u64>, messages: Arc<AtomicU64>) -> ProgressBar {
    let counts = "{binary_bytes} {messages} {elapsed_precise} [{binary_bytes_per_sec}]";
    let template = match size {
        Some(_) => format!("{counts} [{{wide_bar}}] {{percent}}% ETA {{eta_precise}}"),
        None => counts.to_owned(),
    };
    let write = move |_: &ProgressState, out: &mut dyn Write| {
        // Relaxed: as above.
        let _ = write!(out, "{} messages", messages.load(Ordering::Relaxed));
    };
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("messages", write)
        .progress_chars("=> ");
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(size, target).with_style(style);
    bar.enable_steady_tick(PERIOD);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for size in [None, Some(1 << 20)] {
            let messages = Arc::new(AtomicU64::new(3));
            let bar = bar(size, messages);
            bar.inc(7);
            assert_eq!((bar.position(), bar.length()), (7, size));
            bar.abandon();
        }
    }
}
