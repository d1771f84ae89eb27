//! What the command tells about processes: whether one is alive, and what it runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;

use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;

/// A cache of facts by process id. Facts are as old as the first question.
#[derive(Default)]
pub struct Processes {
    alive: RefCell<HashMap<i32, bool>>,
    commands: RefCell<HashMap<i32, Option<String>>>,
}

impl Processes {
    /// Whether the kernel's record of `pid` names a process that is gone. A record of 0 names
    /// nobody: never used, or a process of another PID name space, of which we cannot tell.
    pub fn is_gone(&self, pid: i32) -> bool {
        pid > 0 && !self.is_alive(pid)
    }

    /// Whether a process with this id runs. A zombie holds nothing any more and does not count.
    pub fn is_alive(&self, pid: i32) -> bool {
        *self
            .alive
            .borrow_mut()
            .entry(pid)
            .or_insert_with(|| is_alive(pid))
    }

    /// The command line, or the name of a process that shows none (a kernel thread, a zombie).
    pub fn command(&self, pid: i32) -> Option<String> {
        self.commands
            .borrow_mut()
            .entry(pid)
            .or_insert_with(|| command(pid))
            .clone()
    }
}

fn is_alive(pid: i32) -> bool {
    // /proc alone cannot say so: with `hidepid` it hides the processes of others.
    if pid <= 0 || signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !is_zombie(&stat),
        Err(_) => true,
    }
}

/// Reads the state that follows the command's name, which may itself contain parentheses.
fn is_zombie(stat: &str) -> bool {
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn command(pid: i32) -> Option<String> {
    if pid <= 0 {
        return None;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line)
        .trim_end_matches('\0')
        .replace('\0', " ");
    if !line.is_empty() {
        return Some(line);
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;

    #[test]
    fn this_process_is_alive_and_an_impossible_one_is_gone() {
        let processes = Processes::default();
        let me = process::id().cast_signed();
        assert!(processes.is_alive(me));
        assert!(processes.command(me).is_some());
        assert!(processes.is_gone(i32::MAX));
        assert!(!processes.is_gone(0), "0 names nobody, so nobody is gone");
    }

    #[test]
    fn the_state_stands_after_the_last_parenthesis() {
        assert!(is_zombie("7 (a) R (b) Z 1 7"));
        assert!(!is_zombie("7 (a) Z (b) S 1 7"));
    }
}
