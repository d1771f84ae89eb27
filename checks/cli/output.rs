//! What the output promises: pipes that close, terminals and their width, help, the manual.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use sysv::{Key, Mode, Segment};

use crate::Test;
use crate::values::put;
use crate::world::{Folder, World, ended, feed};

pub const TESTS: &[Test] = &[
    ("a_closed_pipe_ends_it_quietly", closed_pipe),
    ("a_full_disk_is_not_a_full_object", full_disk),
    ("a_table_fits_the_terminal", fits_the_terminal),
    ("colour_is_for_terminals", colour),
    ("every_command_has_help_with_examples", help),
    ("completions_and_manual", generated),
    ("json_is_an_array_of_objects", json),
];

const COMMANDS: &[&str] = &[
    "demo",
    "put",
    "get",
    "send",
    "recv",
    "pub",
    "sub",
    "ls",
    "show",
    "mk",
    "rm",
    "doctor",
    "set",
    "dump",
    "load",
    "msgsnd",
    "msgrcv",
    "semop",
    "limits",
    "completions",
    "man",
];

fn closed_pipe(world: &World) {
    for _ in 0..2000 {
        Segment::create(Key::PRIVATE, 4096, Mode::default()).expect("made");
    }
    let large = world.mk("shm 16M");
    for arguments in ["ls", "ls --json", "ls --raw", "completions bash", "--help"]
        .map(str::to_owned)
        .into_iter()
        .chain(["raw", "hex"].map(|format| format!("dump {large} --format {format}")))
    {
        for taken in [0, 1] {
            let mut child = world.start(&mut world.command(&arguments));
            feed(&mut child, b"");
            let mut pipe = child.stdout.take().expect("a pipe");
            pipe.read_exact(&mut vec![0; taken])
                .expect("the first bytes");
            drop(pipe);
            let ran = ended(child);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments}");
        }
    }
}

/// Runs the command on a terminal of 60 columns with something typed, and answers what stands
/// there afterwards. None where there is no script(1).
pub fn terminal(world: &World) -> Option<impl Fn(&str, &str) -> String + '_> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no script(1) here");
        return None;
    }
    Some(move |arguments: &str, typed: &str| {
        let bin = world.command("").get_program().to_owned();
        let line = format!("stty cols 60 rows 24; {} {arguments}", bin.display());
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm");
        script.env_remove("NO_COLOR");
        if arguments.contains("NO_COLOR") {
            script.env("NO_COLOR", "1");
        }
        let mut child = world.start(&mut script);
        feed(&mut child, typed.as_bytes());
        String::from_utf8_lossy(&ended(child).out).replace('\r', "")
    })
}

fn full_disk(world: &World) {
    for arguments in ["ls", "ls --json", "limits"] {
        let full = File::options().write(true).open("/dev/full");
        let mut command = world.command(arguments);
        command.stdout(full.expect("/dev/full"));
        let ran = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(
            said.contains("cannot write to standard output: No space left"),
            "{said}"
        );
    }
}

fn fits_the_terminal(world: &World) {
    let Some(on_terminal) = terminal(world) else {
        return;
    };
    let id = world.mk("shm 64K");
    let _holder = world.attach(id, "rw");
    let style = regex::Regex::new("\x1b\\[[0-9;]*m").expect("a rule");
    let plain = |arguments: &str| {
        style
            .replace_all(&on_terminal(arguments, ""), "")
            .into_owned()
    };
    let cut = plain("ls shm --output id,key,user,size,nattch,command,perms,group,cgroup");
    fits(&cut, 60);
    assert!(cut.contains("64K") && cut.contains('…'), "{cut}");
    let limits = plain("limits");
    fits(limits.split("\n\n").next().expect("a table"), 60);
    assert!(
        limits.contains("18446744073692774399"),
        "numbers are never cut"
    );
    // Times of today without the day, so that three of them fit.
    let times = plain("ls shm -t");
    fits(&times, 60);
    assert!(
        times.contains("CTIME") && times.matches(':').count() == 4,
        "{times}"
    );
    // What cannot fit is as long as it is: a letter below the other is nothing to read.
    let wide = plain("ls shm --output all");
    assert!(
        wide.contains("CGROUP") && wide.lines().count() == 2,
        "{wide}"
    );
}

#[track_caller]
fn fits(text: &str, columns: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= columns, "{line}\n{text}");
    }
}

fn colour(world: &World) {
    world.mk("shm 64K");
    assert!(!world.run("ls").text().contains('\x1b'));
    let Some(on_terminal) = terminal(world) else {
        return;
    };
    assert!(on_terminal("ls", "").contains("\x1b[1m"));
    let plain = on_terminal("ls shm; : NO_COLOR", "");
    assert!(
        plain.contains("64K") && !plain.contains('\x1b'),
        "{plain:?}"
    );
    assert!(!on_terminal("ls --json", "").contains('\x1b'));
}

fn help(world: &World) {
    let root = world.run("--help").text();
    for code in [
        "  3  no such object",
        "  4  permission denied",
        "  6  in use",
    ] {
        assert!(root.contains(code), "{root}");
    }
    for command in COMMANDS {
        assert!(
            root.contains(&format!("\n  {command} ")),
            "{command} is not in the list"
        );
        let help = world.run(&format!("{command} --help")).text();
        assert!(
            help.contains(&format!("Examples:\n  tombolo {command}"))
                || *command == "load"
                || *command == "msgsnd",
            "{help}"
        );
    }
    for kind in ["shm", "msg", "sem"] {
        let help = world.run(&format!("mk {kind} --help")).text();
        assert!(
            help.contains(&format!("Examples:\n  tombolo mk {kind}")),
            "{help}"
        );
    }
    world.run("").fails(2, &["Usage"]);
    world.run("lst").fails(2, &["ls"]);
}

fn generated(world: &World) {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&format!("completions {shell}")).text();
        assert!(
            COMMANDS.iter().all(|command| script.contains(command)),
            "{shell}"
        );
    }
    if Command::new("bash").arg("--version").output().is_ok() {
        let bin = world.command("").get_program().to_owned();
        let line = format!(
            "source <('{}' completions bash); complete -p tombolo",
            bin.display()
        );
        let loaded = ended(world.start(Command::new("bash").args(["-c", &line])));
        assert!(loaded.text().contains("-F _tombolo"));
    }
    assert!(world.run("man").text().contains(".TH tombolo 1"));
    let folder = Folder::new("man");
    let dir = &folder.0;
    world.run(&format!("man {}", dir.display())).text();
    let main = std::fs::read_to_string(dir.join("tombolo.1")).expect("the page");
    assert!(
        main.contains("permission denied"),
        "the exit codes are in the manual"
    );
    for command in COMMANDS {
        let page = std::fs::read_to_string(dir.join(format!("tombolo-{command}.1")));
        assert!(page.expect("a page").contains(".SH EXAMPLES"), "{command}");
    }
    assert!(dir.join("tombolo-mk-shm.1").exists());
    for page in std::fs::read_dir(dir).expect("the pages") {
        let page = page.expect("a page").path();
        let text = std::fs::read_to_string(&page).expect("text");
        assert!(text.is_ascii() && !text.contains(".SH EXTRA"), "{text}");
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-rLL=80n"]).arg(&page);
        if Command::new("groff").arg("--version").output().is_ok() {
            let shown = ended(world.start(&mut groff)).text();
            assert!(shown.contains("General Commands Manual"), "{shown}");
        }
    }
}

fn json(world: &World) {
    put(world, "greeting", b"hello");
    world.mk("msg --key 0x4d");
    world.mk("sem 3 --key 0x4d");
    for arguments in [
        "ls",
        "ls -l",
        "ls -u",
        "ls --output all",
        "show greeting",
        "show msg 0x4d",
        "show sem 0x4d",
        "limits",
        "mk shm 4096",
        "set shm greeting --mode 644",
        "rm --mine --dry-run",
        "rm sem 0x4d",
    ] {
        let all = world.run(&format!("{arguments} --json")).json();
        assert!(!all.is_empty(), "{arguments}");
        assert!(
            all.iter().all(|object| object["kind"].is_string()),
            "{all:?}"
        );
    }
}
