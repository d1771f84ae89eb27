//! The target `userspace`: a name space in a folder of the trial's own.

use crate::harness::Switches;
use preload::{InSpace, credentials, forks};
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::OnceLock;
use sysv::abi::*;
use sysv::{Calls, Result};
use userspace::{Facility, Limits, Space};

/// The environment variable that names the folder.
pub const FOLDER: &str = "CONFORMANCE_FOLDER";

static SPACE: OnceLock<Space> = OnceLock::new();

fn space() -> &'static Space {
    SPACE.get().expect("the statement's process has entered")
}

/// The folder of the trial's name space.
pub fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).expect("the trial names a folder"))
}

/// Makes the name space in that folder. Its file is open to every user, as the kernel's tables are.
pub fn create() -> Space {
    let user_space = credentials::my_user_space().unwrap_or(0);
    let made = Space::create(&folder(), 0o666, &Limits::KERNEL, user_space);
    made.expect("a name space")
}

/// Makes the name space and opens it.
pub fn enter() -> bool {
    let made = SPACE.set(create());
    assert!(made.is_ok(), "entered twice");
    forks::watch(space());
    true
}

/// The limits of that name space.
pub const SWITCHES: Switches = Switches {
    read: |name| read(space(), name),
    set: |name, value| set(space(), name, value),
};

fn next_id_of(name: &str) -> Option<Facility> {
    match name {
        "shm_next_id" => Some(Facility::Shm),
        "msg_next_id" => Some(Facility::Msg),
        "sem_next_id" => Some(Facility::Sem),
        _ => None,
    }
}

fn read(space: &Space, name: &str) -> std::result::Result<String, &'static str> {
    if let Some(kind) = next_id_of(name) {
        return Ok(space.next_id(kind).unwrap_or(-1).to_string());
    }
    let mut limits = space.limits();
    if name == "sem" {
        let fields = [limits.semmsl, limits.semmns, limits.semopm, limits.semmni];
        return Ok(fields.map(|field| field.to_string()).join("\t"));
    }
    Ok(field(&mut limits, name)?.to_string())
}

/// Sets a limit, as the file of that name under `/proc/sys/kernel` would.
pub fn set(space: &Space, name: &str, value: &str) -> std::result::Result<(), &'static str> {
    const NUMBER: &str = "a limit is a number";
    if let Some(kind) = next_id_of(name) {
        let id = value.parse::<i32>().map_err(|_| NUMBER)?;
        space.set_next_id(kind, Some(id));
        return Ok(());
    }
    let mut limits = space.limits();
    let names = match name {
        "sem" => &["semmsl", "semmns", "semopm", "semmni"][..],
        name => &[name],
    };
    for (name, word) in names.iter().zip(value.split_whitespace()) {
        *field(&mut limits, name)? = word.parse().map_err(|_| NUMBER)?;
    }
    space.set_limits(&limits);
    Ok(())
}

fn field<'l>(limits: &'l mut Limits, name: &str) -> std::result::Result<&'l mut u64, &'static str> {
    Ok(match name {
        "shmmax" => &mut limits.shmmax,
        "shmall" => &mut limits.shmall,
        "shmmni" => &mut limits.shmmni,
        "msgmax" => &mut limits.msgmax,
        "msgmnb" => &mut limits.msgmnb,
        "msgmni" => &mut limits.msgmni,
        "semmsl" => &mut limits.semmsl,
        "semmns" => &mut limits.semmns,
        "semopm" => &mut limits.semopm,
        "shm_rmid_forced" => &mut limits.shm_rmid_forced,
        "semmni" => &mut limits.semmni,
        _ => return Err("no limit of this name space"),
    })
}

/// The calls on that name space.
#[derive(Clone, Copy, Debug)]
pub struct InUserSpace;

fn calls() -> InSpace<'static> {
    InSpace(space())
}

// SAFETY: every call goes to `InSpace`, which keeps to the contract.
unsafe impl Calls for InUserSpace {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        calls().shmget(key, size, flags)
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        // SAFETY: the caller's promise.
        unsafe { calls().shmat(id, address, flags) }
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { calls().shmdt(address) }
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { calls().shmctl(id, command, buf) }
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        calls().msgget(key, flags)
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { calls().msgsnd(id, message, size, flags) }
    }

    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize> {
        // SAFETY: the caller's promise.
        unsafe { calls().msgrcv(id, message, size, message_type, flags) }
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { calls().msgctl(id, command, buf) }
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        calls().semget(key, count, flags)
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { calls().semop(id, operations, count) }
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { calls().semtimedop(id, operations, count, timeout) }
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { calls().semctl(id, number, command, argument) }
    }
}
