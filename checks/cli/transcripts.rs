//! Golden transcripts: `$ COMMAND`, then what it writes, then `? CODE` if the code is not 0.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use checks::bin_under_test;
use libtest_mimic::{Failed, Trial};
use regex::Regex;
use snapbox::Data;

use crate::world::{Folder, World, ended};

/// A trial for each file.
pub fn trials() -> Vec<Trial> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/transcripts");
    let entries = fs::read_dir(dir).expect("the transcripts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let trial = |file: PathBuf| {
        let name = name_of(&file);
        Trial::test(format!("transcripts::{name}"), move || {
            play(&World::new(), &file, &name_of(&file));
            Ok::<(), Failed>(())
        })
    };
    files.into_iter().map(trial).collect()
}

fn name_of(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Runs the commands of a file one after the other, and compares.
fn play(world: &World, file: &Path, name: &str) {
    let spaces = Folder::for_spaces(name);
    let script = fs::read_to_string(file).expect("a transcript");
    let mut played = String::new();
    let mut after_comment = true;
    for line in script.lines() {
        let command = line.strip_prefix("$ ");
        if command.is_none() && !line.starts_with('#') {
            continue;
        }
        if !after_comment {
            played.push('\n');
        }
        after_comment = command.is_none();
        played.push_str(&format!("{line}\n"));
        if let Some(command) = command {
            played.push_str(&answer(world, command, &spaces));
        }
    }
    let expected = Data::read_from(file, None).raw();
    snapbox::Assert::new()
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        .eq(played, expected);
}

fn answer(world: &World, command: &str, spaces: &Folder) -> String {
    let bin = bin_under_test::tombolo().parent().expect("a directory");
    bin_under_test::library();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{{ {command}\n}} 2>&1")])
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("TOMBOLO_SPACES", &spaces.0)
        .env("TZ", "UTC")
        .env("LC_ALL", "C");
    let mut child = world.start(&mut shell);
    drop(child.stdin.take());
    let ran = ended(child);
    let mut text = scrub(&String::from_utf8_lossy(&ran.out));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str("[no end of line]\n");
    }
    if ran.code != 0 {
        text.push_str(&format!("? {}\n", ran.code));
    }
    text
}

/// Takes out what differs from run to run: times, process ids and addresses. Ids do not: the
/// name space is new.
fn scrub(text: &str) -> String {
    let rules = [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[TIME]"),
        (r#"("(?:cpid|lpid|lspid|lrpid|pid)":)[1-9]\d*"#, "$1[PID]"),
        (
            r#"("(?:atime|dtime|stime|rtime|otime|ctime)":)[1-9]\d*"#,
            "$1[TIME]",
        ),
        (r"\d+ \(gone\)", "[PID] (gone)"),
        (r"(?m)^(build .*) [\d.]+[KM]$", "$1 [SIZE]"),
    ];
    rules
        .iter()
        .fold(text.to_owned(), |text, (rule, placeholder)| {
            Regex::new(rule)
                .expect("a rule")
                .replace_all(&text, *placeholder)
                .into_owned()
        })
}
