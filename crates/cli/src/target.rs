//! How a command line names an object: by id, by key, by `ftok`, or by a channel's name.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tombolo::shmem::BadName;
use tombolo::sysv::{Errno, Key, msg, sem, shm};

use tombolo::{Address, Name};

use crate::channels;
use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::place::{self, calls};

/// What the help of every command with a target says.
pub const HELP: &str = "\
An object is named by
  42                its id, as `tombolo ls` shows it
  0x4d2, 02322      its key in hexadecimal, or in octal with a leading 0
  key:1234          its key, in decimal too
  ftok:PATH,ID      the key that ftok(PATH, ID) gives; ID is a character or a number from 1 to 255
  orders            the channel of that name; USER/orders is another user's; name:42 for odd ones";

/// An object as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Id(i32),
    Key(Key),
    /// `ftok` of a path and a project number; it is looked at when it is needed.
    Ftok(PathBuf, u8),
    Name(String),
}

/// The same as options, for scripts that must not guess.
#[derive(clap::Args, Default)]
#[group(multiple = false)]
pub struct TargetOptions {
    /// Name the object by its id
    #[arg(long, value_name = "ID")]
    id: Option<i32>,
    /// Name the object by its key: 0x4d2, 1234 or 02322
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<Key>,
    /// Name the object by the key that ftok(PATH, ID) gives
    #[arg(long, value_name = "PATH,ID", value_parser = parse_ftok)]
    ftok: Option<(PathBuf, u8)>,
}

impl TargetOptions {
    /// The object that the options name, if they name one.
    pub fn target(&self) -> Option<Target> {
        let ftok = || {
            self.ftok
                .clone()
                .map(|(path, project)| Target::Ftok(path, project))
        };
        self.id
            .map(Target::Id)
            .or(self.key.map(Target::Key))
            .or_else(ftok)
    }

    /// The object that the options or the argument name.
    pub fn only(&self, argument: Option<String>) -> Result<Target, Failure> {
        match self.and_rest(argument.map(OsString::from), None)? {
            (target, None) => Ok(target),
            (_, Some(other)) => Err(two(&other)),
        }
    }

    /// The object, and the argument that follows it: the arguments move up by one where an option
    /// names the object.
    pub fn and_rest(
        &self,
        first: Option<OsString>,
        second: Option<OsString>,
    ) -> Result<(Target, Option<OsString>), Failure> {
        match (self.target(), first, second) {
            (Some(target), rest, None) => Ok((target, rest)),
            (Some(_), first, Some(_)) => Err(two(&first.unwrap_or_default())),
            (None, Some(first), rest) => match first.to_str() {
                Some(text) => Ok((text.parse()?, rest)),
                None => Err(Failure::usage(format!(
                    "`{}` is not text and names no object; list them with: tombolo ls",
                    first.display()
                ))),
            },
            (None, None, _) => Err(Failure::usage(
                "which object? give its id, 0xKEY, ftok:PATH,ID or name; list them with: tombolo ls",
            )),
        }
    }
}

fn two(first: &OsStr) -> Failure {
    Failure::usage(format!(
        "`{}` is one object too many: --id, --key or --ftok names one already",
        first.display()
    ))
}

impl FromStr for Target {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let key = |text: &str| {
            text.parse()
                .map(Self::Key)
                .map_err(|e| Failure::usage(format!("{e}")))
        };
        if let Some(text) = text.strip_prefix("key:") {
            return key(text);
        }
        if let Some(name) = text.strip_prefix("name:") {
            return Ok(Self::Name(name.to_owned()));
        }
        if let Some(text) = text.strip_prefix("ftok:") {
            let (path, project) = parse_ftok(text).map_err(Failure::usage)?;
            return Ok(Self::Ftok(path, project));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.as_bytes() {
            [b'0', b'x' | b'X', ..] => key(text),
            [b'-', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => key(text),
            [b'0', _, ..] if digits => key(text),
            _ if digits => text.parse().map(Self::Id).map_err(|_| {
                Failure::usage(format!(
                    "{text} is too large for an id; for a key write key:{text}"
                ))
            }),
            [] => Err(Failure::usage(
                "an empty name names no object; list them with: tombolo ls",
            )),
            _ => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Key(key) => write!(f, "with key {key}"),
            Self::Ftok(path, project) => write!(f, "with key ftok:{},{project}", path.display()),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// How a channel is reached that was named so.
pub fn address(target: &Target) -> Result<Address, Failure> {
    let key = match target {
        Target::Id(id) => return Ok(Address::Id(*id)),
        Target::Name(name) => {
            let name: Name = name
                .parse()
                .map_err(|e: BadName| Failure::usage(e.to_string()))?;
            return Ok(name.into());
        }
        Target::Key(key) => *key,
        Target::Ftok(path, project) => ftok(path, *project)?,
    };
    if key.is_private() {
        return Err(Failure::usage(
            "key 0 is private and names no channel; give a name or an id",
        ));
    }
    Ok(Address::Key(key))
}

/// The key that `ftok` gives, with an error that names the file.
pub fn ftok(path: &Path, project: u8) -> Result<Key, Failure> {
    Key::ftok(path, project).map_err(|errno| {
        Failure::new(
            Exit::of(errno),
            format!(
                "cannot derive a key from {}: {errno}; ftok needs a file that exists",
                path.display()
            ),
        )
    })
}

impl Target {
    /// The id of the object, which is looked for where it was not named by its id.
    ///
    /// `verb` is what is to be done with it, for the error: "cannot VERB segment 42: …".
    pub fn id(&self, kind: Kind, verb: &str) -> Result<i32, Failure> {
        let key = match self {
            Self::Id(id) => return Ok(*id),
            Self::Name(name) => return find_channel(kind, name, verb),
            Self::Key(key) => *key,
            Self::Ftok(path, project) => ftok(path, *project)?,
        };
        if key.is_private() {
            return Err(Failure::usage(format!(
                "cannot {verb} {kind} {self}: key 0 is private and names no object; give an id"
            )));
        }
        let found = match kind {
            Kind::Shm => shm::Segment::open_in(calls(), key).map(|segment| segment.id()),
            Kind::Msg => msg::Queue::open_in(calls(), key).map(|queue| queue.id()),
            Kind::Sem => sem::Set::open_in(calls(), key).map(|set| set.id()),
        };
        found.map_err(|errno| match errno {
            Errno::NOENT => missing(kind, self, verb),
            _ => Failure::new(
                Exit::of(errno),
                format!("cannot {verb} {kind} {self}: {errno}"),
            ),
        })
    }
}

/// "No such object", with the way to those that are there.
pub fn missing(kind: Kind, target: &Target, verb: &str) -> Failure {
    Failure::new(
        Exit::Missing,
        format!(
            "cannot {verb} {kind} {target}: no such {kind}; list them with: tombolo ls {}{}",
            kind.word(),
            place::option()
        ),
    )
}

fn find_channel(kind: Kind, name: &str, verb: &str) -> Result<i32, Failure> {
    if kind != Kind::Shm {
        return Err(Failure::usage(format!(
            "cannot {verb} {kind} `{name}`: only segments have names; give an id, 0xKEY or ftok:PATH,ID"
        )));
    }
    if place::space().is_some() {
        return Err(no_names(kind, name, verb));
    }
    channels::find(name).ok_or_else(|| no_channel(name, verb))
}

/// Channels are of the kernel's segments.
pub fn no_names(kind: Kind, name: &str, verb: &str) -> Failure {
    Failure::usage(format!(
        "cannot {verb} {kind} `{name}`: a name space of `tombolo run` has no channels, and so no \
         names; give an id, 0xKEY or ftok:PATH,ID"
    ))
}

/// "No such channel", with the way to those that are there.
pub fn no_channel(name: &str, verb: &str) -> Failure {
    Failure::new(
        Exit::Missing,
        format!(
            "cannot {verb} channel `{name}`: no channel has that name; list them with: tombolo ls shm"
        ),
    )
}

/// Reads `PATH,ID`: ID is one character that is no digit, or a number.
pub fn parse_ftok(text: &str) -> Result<(PathBuf, u8), String> {
    let expected = || {
        format!(
            "`{text}` is no PATH,ID; ID is a character or a number from 1 to 255, as in /etc/fstab,R"
        )
    };
    let (path, id) = text
        .rsplit_once(',')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(expected)?;
    let project = match (id.strip_prefix("0x"), id.as_bytes()) {
        (Some(digits), _) => u8::from_str_radix(digits, 16).ok(),
        (None, [byte]) if !byte.is_ascii_digit() => Some(*byte),
        (None, _) => id.parse().ok(),
    };
    // POSIX leaves a project of 0 undefined.
    let project = project
        .filter(|project| *project != 0)
        .ok_or_else(expected)?;
    Ok((path.into(), project))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_ids_and_marked_numbers_are_keys() {
        assert_eq!(parse("42"), Target::Id(42));
        assert_eq!(parse("0"), Target::Id(0));
        assert_eq!(parse("0x4d2"), Target::Key(Key::new(1234)));
        assert_eq!(parse("02322"), Target::Key(Key::new(0o2322)));
        assert_eq!(parse("-5"), Target::Key(Key::new(-5)));
        assert_eq!(parse("key:1234"), Target::Key(Key::new(1234)));
        assert_eq!(parse("0xffffffff"), Target::Key(Key::new(-1)));
    }

    #[test]
    fn the_rest_are_names() {
        assert_eq!(parse("orders"), Target::Name("orders".into()));
        assert_eq!(parse("alice/orders"), Target::Name("alice/orders".into()));
        assert_eq!(parse("name:42"), Target::Name("42".into()));
        assert_eq!(
            parse("ftok:/etc/a,b,R"),
            Target::Ftok("/etc/a,b".into(), b'R')
        );
        assert_eq!(parse("ftok:/,0x52"), Target::Ftok("/".into(), b'R'));
        assert_eq!(parse("ftok:/,1"), Target::Ftok("/".into(), 1));
    }

    #[test]
    fn nonsense_says_what_was_expected() {
        for text in [
            "",
            "99999999999",
            "0xzz",
            "09",
            "key:",
            "ftok:/",
            "ftok:,R",
            "ftok:/,0",
            "ftok:/,256",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
