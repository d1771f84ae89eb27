//! Names of users and groups, asked of the system once each.

use std::cell::RefCell;
use std::collections::HashMap;

use nix::unistd::{self, Gid, Group, Uid, User};

use crate::exit::Failure;

/// A cache of names by number.
#[derive(Default)]
pub struct Users {
    users: RefCell<HashMap<u32, String>>,
    groups: RefCell<HashMap<u32, String>>,
}

impl Users {
    /// The user's name, or the number where the system knows none.
    pub fn user(&self, uid: u32) -> String {
        let ask = || {
            User::from_uid(Uid::from_raw(uid))
                .ok()
                .flatten()
                .map(|user| user.name)
        };
        self.users
            .borrow_mut()
            .entry(uid)
            .or_insert_with(|| name(ask(), uid))
            .clone()
    }

    /// The group's name, or the number where the system knows none.
    pub fn group(&self, gid: u32) -> String {
        let ask = || {
            Group::from_gid(Gid::from_raw(gid))
                .ok()
                .flatten()
                .map(|group| group.name)
        };
        self.groups
            .borrow_mut()
            .entry(gid)
            .or_insert_with(|| name(ask(), gid))
            .clone()
    }
}

fn name(found: Option<String>, number: u32) -> String {
    found.unwrap_or_else(|| number.to_string())
}

/// The user that this process acts as.
pub fn me() -> u32 {
    unistd::geteuid().as_raw()
}

/// Reads a user's name or number.
pub fn parse_user(text: &str) -> Result<u32, Failure> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(Failure::usage(format!(
            "no such user: {text}; give a name that `getent passwd` knows, or a number"
        ))),
    }
}

/// Reads a group's name or number.
pub fn parse_group(text: &str) -> Result<u32, Failure> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(Failure::usage(format!(
            "no such group: {text}; give a name that `getent group` knows, or a number"
        ))),
    }
}
