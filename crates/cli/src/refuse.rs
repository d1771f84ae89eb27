//! What the kernel's refusals mean for an object, in words that name the object and the next
//! step.

use tombolo::sysv::Errno;

use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::object;
use crate::place;
use crate::target::{Target, missing};
use crate::users::{self, Users};

/// The kernel refused to VERB an object. Commands that know better what an `errno` means in
/// their case look at it first.
pub fn refused(verb: &str, kind: Kind, target: &Target, id: i32, errno: Errno) -> Failure {
    let what = format!("cannot {verb} {kind} {target}");
    match errno {
        // EINVAL has many meanings; with an id that exists it is not this one.
        Errno::INVAL if exists(kind, id) => Failure::new(
            Exit::Failed,
            format!("{what}: an argument is taken for invalid"),
        ),
        Errno::INVAL | Errno::NOENT => missing(kind, target, verb),
        Errno::IDRM => Failure::new(
            Exit::Missing,
            format!(
                "{what}: it was removed meanwhile; list what is there with: tombolo ls {}{}",
                kind.word(),
                place::option()
            ),
        ),
        Errno::ACCESS => Failure::new(
            Exit::Denied,
            format!(
                "{what}: permission denied{}; its owner can allow it with: tombolo set {} {id} --mode MODE{}",
                owner(kind, id),
                kind.word(),
                place::option()
            ),
        ),
        Errno::PERM => Failure::new(
            Exit::Denied,
            format!(
                "{what}: only its owner, its creator or root may{}",
                owner(kind, id)
            ),
        ),
        _ => Failure::new(Exit::of(errno), format!("{what}: {errno}")),
    }
}

fn exists(kind: Kind, id: i32) -> bool {
    matches!(object::find(kind, id), Ok(Some(_)))
}

/// ": it belongs to alice, mode 600", where that can be told.
fn owner(kind: Kind, id: i32) -> String {
    let Ok(Some(object)) = object::find(kind, id) else {
        return String::new();
    };
    let perm = object.perm();
    let users = Users::default();
    let me = users.user(users::me());
    format!(
        ": it belongs to {}, mode {}, and you are {me}",
        users.user(perm.uid),
        perm.mode
    )
}
