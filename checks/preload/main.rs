//! `libtombolo_preload.so` in programs, as `tombolo run` starts them: what is not said by the
//! statements of docs/semantics.md, for which the conformance suite has a target `preload`.
//!
//! Each test compiles a program in C and looks at what it says. Without a C compiler they say that
//! they are skipped, and pass.

use checks::bin_under_test::{library, tombolo};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder in which programs are compiled and run; removed with all that is in it.
struct Scene(PathBuf);

impl Scene {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tombolo-preload-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    /// Compiles one of the programs beside this file; `None` if there is no compiler, or it can't.
    fn compile(&self, source: &str, name: &str, options: &[&str]) -> Option<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("preload")
            .join(source);
        let path = self.0.join(name);
        let made = Command::new("cc")
            .arg("-Wall")
            .arg("-o")
            .args([&path, &source])
            .args(options)
            .current_dir(&self.0)
            .output();
        match made {
            Ok(made) if made.status.success() => Some(path),
            Ok(made) => {
                println!("skipped: {}", String::from_utf8_lossy(&made.stderr));
                None
            }
            Err(_) => {
                println!("skipped: no C compiler (cc) here");
                None
            }
        }
    }

    /// Runs a program in a fresh name space.
    fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        self.command(program, arguments)
            .output()
            .expect("tombolo run")
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(tombolo());
        command
            .args(["run", "--"])
            .arg(program)
            .args(arguments)
            .env("TOMBOLO_PRELOAD", library())
            .current_dir(&self.0);
        command
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What a program has said that has ended well.
#[track_caller]
fn answer(output: Output) -> String {
    let (answer, complaint) = said(&output);
    assert!(
        output.status.success(),
        "{}: {answer}{complaint}",
        output.status
    );
    answer
}

#[test]
fn calls_before_and_after_main() {
    let scene = Scene::new();
    let Some(program) = scene.compile("early.c", "early", &[]) else {
        return;
    };
    assert_eq!(answer(scene.run(&program, &[])), "0 0\n");
}

#[test]
fn threads_that_are_cancelled_in_calls() {
    let scene = Scene::new();
    let Some(program) = scene.compile("cancel.c", "cancel", &["-pthread"]) else {
        return;
    };
    assert_eq!(answer(scene.run(&program, &[])), "");
}

#[test]
fn files_show_the_name_space() {
    let scene = Scene::new();
    let Some(program) = scene.compile("files.c", "files", &[]) else {
        return;
    };
    let output = scene.run(&program, &[]);
    let complaint = said(&output).1;
    assert_eq!(answer(output), "");
    assert!(
        complaint.contains("/proc/sys/kernel/msgmax cannot be written"),
        "{complaint}"
    );
}

#[test]
fn modules_are_bound_to_it() {
    let scene = Scene::new();
    // It is found by the RUNPATH of who calls dlopen, and in no other way.
    std::fs::create_dir(scene.0.join("modules")).expect("a folder");
    let options = ["-ldl", "-Wl,-rpath,$ORIGIN/modules,--enable-new-dtags"];
    let Some(program) = scene.compile("opens.c", "opens", &options) else {
        return;
    };
    let module = ["-shared", "-fPIC"];
    scene
        .compile("module.c", "modules/module.so", &module)
        .expect("a module");
    assert_eq!(answer(scene.run(&program, &[])), "1 1 1\n");
}

#[test]
fn children_stay_in_it() {
    let scene = Scene::new();
    let Some(program) = scene.compile("children.c", "children", &[]) else {
        return;
    };
    let ways = [
        "execve",
        "execle",
        "execvpe",
        "fexecve",
        "execveat",
        "posix_spawn",
        "posix_spawnp",
        "execv",
        "execvp",
        "execlp",
        "vfork",
        "number",
        "numberat",
        "system",
        "popen",
    ];
    for way in ways {
        let expected = "queue 1\n2 arguments, ONE=1, queue 1\n";
        assert_eq!(answer(scene.run(&program, &[way])), expected, "{way}");
    }
    let expected = "queue 1\n8 arguments, ONE=1, queue 1\n";
    assert_eq!(answer(scene.run(&program, &["execl"])), expected);
    let expected = "queue 1\n2 arguments, ONE=1, queue 1\n";
    let many = scene.run(&program, &["execl", "many"]);
    assert_eq!(answer(many), expected, "a large environment");
    // A folder whose name the shell would take apart.
    let odd = scene.0.join("it's; a folder");
    std::fs::create_dir(&odd).expect("a folder");
    for way in ["system", "popen", "execve"] {
        let mut command = scene.command(&program, &[way]);
        let output = command.env("TOMBOLO_SPACES", &odd).output();
        assert_eq!(answer(output.expect("tombolo run")), expected, "{way}");
    }
}

#[test]
fn children_that_cannot_be_served_are_named() {
    let scene = Scene::new();
    let Some(program) = scene.compile("nothing.c", "alone", &["-static"]) else {
        return;
    };
    let shell = |script: &str| said(&scene.run(Path::new("/bin/sh"), &["-c", script])).1;
    let line = |name: &str, why: &str| {
        format!("tombolo: {name} {why}: its System V calls go to the kernel\n")
    };
    let script = scene.0.join("script");
    std::fs::write(&script, format!("#!{} -x\n", program.display())).expect("write");
    let executable = |path: &Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("chmod");
    };
    executable(&script, 0o755);
    for name in ["./alone", "./script"] {
        let expected = line(name, "is statically linked");
        assert_eq!(shell(&format!("exec {name}")), expected);
    }
    let raised = scene.0.join("raised");
    std::fs::copy("/bin/true", &raised).expect("copy");
    if chown(&raised, Some(61_001), None).is_err() {
        println!("skipped: only root can make a program of another user's");
        return;
    }
    executable(&raised, 0o4755);
    let said = shell("./raised; true");
    let expected = line("./raised", "runs with rights of its own");
    assert!(said == expected || said.is_empty(), "{said}");
    if said.is_empty() {
        println!(
            "skipped: set-uid means nothing on the file system of {}",
            scene.0.display()
        );
    }
    assert_eq!(shell("/bin/true; ./missing 2>/dev/null; true"), "");
}

#[test]
fn a_name_space_that_is_gone_is_named_once() {
    let scene = Scene::new();
    let Some(program) = scene.compile("early.c", "early", &[]) else {
        return;
    };
    let output = Command::new(program)
        .env("LD_PRELOAD", library())
        .env("TOMBOLO_SPACE", "/nowhere/at/all")
        .output()
        .expect("the program");
    let (answer, complaint) = said(&output);
    assert_eq!(answer, "-1 -1\n");
    assert!(
        complaint.starts_with(
            "tombolo: this program's System V calls fail, because its name space cannot be \
             opened: /nowhere/at/all: No such file or directory"
        ),
        "{complaint}"
    );
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

#[test]
fn other_preloads_are_not_entered() {
    let scene = Scene::new();
    let options = ["-shared", "-fPIC"];
    let Some(wraps) = scene.compile("wraps.c", "libwraps.so", &options) else {
        return;
    };
    let program = scene
        .compile(
            "wrapped.c",
            "wrapped",
            &["./libwraps.so", "-Wl,-rpath,$ORIGIN"],
        )
        .expect("a program");
    let mut command = scene.command(&program, &[]);
    command.env("LD_PRELOAD", wraps);
    let output = command.output().expect("tombolo run");
    assert_eq!(answer(output), "");
}
