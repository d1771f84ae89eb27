//! Names of channels, and the keys that they map to.
//!
//! A name belongs to a user: `orders` is my own, `alice/orders` is Alice's, and only a segment
//! that this user created answers to it (the kernel records the creator). A name maps to a window
//! of [`WINDOW`] keys with a fixed top byte; the name in the header decides which segment in the
//! window is meant, so two names whose hashes collide live side by side.

use crate::header::NAME_MAX;
use crate::layout::{FNV_START, fnv};
use std::fmt;
use std::str::FromStr;
use sysv::Key;

/// Top byte of the key of every named object, an opening brace in ASCII.
pub const KEY_TOP: u32 = 0x7b;
/// How many keys are tried for a name.
pub const WINDOW: u32 = 16;

/// A name that belongs to a user.
///
/// ```
/// let name: shmem::Name = "orders".parse().unwrap();
/// assert_eq!(name.text(), "orders");
/// assert_eq!(name.keys().count(), 16);
/// assert!("4orders".parse::<shmem::Name>().is_err(), "could be taken for an id");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    uid: u32,
    text: String,
}

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// Nothing there.
    #[error("a name can't be empty")]
    Empty,
    /// More than [`NAME_MAX`] bytes.
    #[error("the name '{0}' is longer than {NAME_MAX} bytes")]
    TooLong(String),
    /// Begins with something other than a letter or an underscore.
    #[error(
        "'{0}' is no name: names begin with a letter or '_', so that they are not taken for ids or keys"
    )]
    Start(String),
    /// Holds a character that names can't have.
    #[error(
        "'{text}' is no name because of {character:?}: letters, digits, '_', '-', '.', ':' and '@' are allowed"
    )]
    Character {
        /// The text.
        text: String,
        /// The first character that is wrong in it.
        character: char,
    },
    /// The part before the slash is no user of this system.
    #[error("there is no user '{user}' on this system (in the name '{text}')")]
    User {
        /// The whole text.
        text: String,
        /// The part before the slash.
        user: String,
    },
}

impl Name {
    /// A name of this process's effective user.
    ///
    /// # Errors
    /// If the text is no name.
    pub fn mine(text: &str) -> Result<Self, BadName> {
        Self::of(my_uid(), text)
    }

    /// A name of the user with that number.
    ///
    /// # Errors
    /// If the text is no name.
    pub fn of(uid: u32, text: &str) -> Result<Self, BadName> {
        let allowed = |c: char| c.is_alphanumeric() || "_-.:@".contains(c);
        let first = text.chars().next().ok_or(BadName::Empty)?;
        if text.len() > NAME_MAX {
            return Err(BadName::TooLong(text.to_owned()));
        }
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(BadName::Character {
                text: text.to_owned(),
                character,
            });
        }
        if !(first.is_alphabetic() || first == '_') {
            return Err(BadName::Start(text.to_owned()));
        }
        Ok(Self {
            uid,
            text: text.to_owned(),
        })
    }

    /// The name without its user.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The user it belongs to.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether it belongs to this process's effective user.
    pub fn is_mine(&self) -> bool {
        self.uid == my_uid()
    }

    /// The keys that a segment of this name may have, the preferred one first.
    pub fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        window(&[&self.uid.to_le_bytes(), self.text.as_bytes()])
    }
}

/// The window of keys for a hash over some parts.
pub(crate) fn window(parts: &[&[u8]]) -> impl Iterator<Item = Key> + use<> {
    let hash = parts.iter().fold(FNV_START, |hash, part| fnv(hash, part));
    let start = (hash ^ hash >> 24 ^ hash >> 48) as u32;
    (0..WINDOW).map(move |i| Key::new((KEY_TOP << 24 | start.wrapping_add(i) & 0x00ff_ffff) as i32))
}

/// Whether a key may be that of a named object.
pub fn is_name_key(key: Key) -> bool {
    key.raw() as u32 >> 24 == KEY_TOP
}

pub(crate) fn my_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl FromStr for Name {
    type Err = BadName;

    /// `orders`, or `USER/orders` with a user's name or number.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let Some((user, name)) = text.split_once('/') else {
            return Self::mine(text);
        };
        let uid = user.parse().ok().or_else(|| {
            nix::unistd::User::from_name(user)
                .ok()
                .flatten()
                .map(|user| user.uid.as_raw())
        });
        match uid {
            Some(uid) => Self::of(uid, name),
            None => Err(BadName::User {
                text: text.to_owned(),
                user: user.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Name {
    /// The text for my own, `USER/text` for another's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_mine() {
            return f.write_str(&self.text);
        }
        match nix::unistd::User::from_uid(self.uid.into()) {
            Ok(Some(user)) => write!(f, "{}/{}", user.name, self.text),
            _ => write!(f, "{}/{}", self.uid, self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_says_why() {
        let wrong = |text: &str| text.parse::<Name>().unwrap_err().to_string();
        assert_eq!(wrong(""), "a name can't be empty");
        assert!(wrong("12").contains("not taken for ids"));
        assert!(wrong("0x7b").contains("not taken for ids"));
        assert!(wrong("-x").contains("not taken for ids"));
        assert!(wrong("a b").contains("because of ' '"));
        assert!(wrong("a/b/c").contains("no user 'a'"));
        assert!(wrong("0/b/c").contains("because of '/'"));
        assert!(wrong(&"x".repeat(129)).contains("longer than 128 bytes"));
    }

    #[test]
    fn a_user_may_be_a_number_or_a_name() {
        assert_eq!("4242/orders".parse::<Name>().unwrap().uid(), 4242);
        assert_eq!("root/orders".parse::<Name>().unwrap().uid(), 0);
        assert_eq!(
            "4242/orders".parse::<Name>().unwrap().to_string(),
            "4242/orders"
        );
        assert_eq!("Grüße.v2".parse::<Name>().unwrap().to_string(), "Grüße.v2");
    }

    #[test]
    fn keys_are_fixed_for_ever() {
        // Programs of different versions must find each other.
        let keys: Vec<_> = Name::of(1000, "orders")
            .unwrap()
            .keys()
            .map(|k| k.raw())
            .collect();
        assert_eq!(keys.len(), WINDOW as usize);
        assert!(keys.iter().all(|key| *key as u32 >> 24 == KEY_TOP));
        let other = Name::of(1001, "orders").unwrap().keys().next().unwrap();
        assert_ne!(keys[0], other.raw());
    }
}
