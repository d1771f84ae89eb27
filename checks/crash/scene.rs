//! What stands around an operation that is killed, and what the survivors must be able to do.

use crate::kill::Survey;
use checks::message::{check, message};
use checks::space::{assert_nothing_left, left};
use tombolo::value::{self, Options, PutError, ReadError, Reader, Writer};
use tombolo::{Lifetime, Name, Patience};

/// Capacity of the channels: small, so that all bytes of a segment can be watched, and enough for a message that
/// does not stand right behind its slot's words.
pub const CAPACITY: usize = 300;
/// Capacity after growing.
pub const GROWN: usize = 400;
/// The name that all scenes use, each kill in a name space left empty by the one before.
const NAME: &str = "crash-value";

/// What may hold after an operation was killed or came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The channel goes on: the last message, or the one that was being put.
    GoesOn,
    /// The channel was new: nothing, or what was being put.
    Appears,
    /// The channel goes on, or is gone.
    MayBeGone,
    /// The channel is as it was, or gone, or new.
    MayBeNew,
}

/// A channel, and who has it open before the operation.
pub struct Scene {
    /// Its name.
    pub name: Name,
    /// What it is made with.
    pub options: Options,
    /// The number of the last message put, 0 for none.
    pub last: u64,
    /// Who has it open.
    pub readers: Vec<Reader>,
    /// Who has it open for writing.
    pub writers: Vec<Writer>,
    /// Whether those go on first, before anybody opens it anew.
    pub old_first: bool,
}

/// The name of the scenes' channel.
pub fn name() -> Name {
    Name::mine(NAME).expect("a name")
}

/// Options of the scenes' channels.
pub fn options() -> Options {
    Options {
        capacity: CAPACITY,
        ..Options::default()
    }
}

/// The scenes' message with a number: lengths vary. The one that is put behind those of a scene, the twelfth, is
/// one of those that don't stand right behind their slot's words.
pub fn numbered(number: u64) -> Vec<u8> {
    message(number, 24 + (number as usize * 43) % (CAPACITY - 23))
}

impl Scene {
    /// Nothing there yet.
    pub fn nothing() -> Self {
        Self {
            name: name(),
            options: options(),
            last: 0,
            readers: vec![],
            writers: vec![],
            old_first: false,
        }
    }

    /// A channel with a few messages, a reader and a writer.
    pub fn channel() -> Self {
        let mut scene = Self::nothing();
        let mut writer = Writer::open_or_create(scene.name.clone(), &scene.options).expect("new");
        // Once round all slots, so that what is overwritten was a message.
        for number in 1..=11 {
            assert_eq!(writer.put(&numbered(number)).expect("put"), number);
        }
        scene.last = 11;
        scene.readers.push(scene.reader());
        scene.writers.push(writer);
        scene
    }

    /// The same, for a channel that lives while it is used.
    pub fn while_used(mut self) -> Self {
        self.options.lifetime = Lifetime::WhileUsed;
        self
    }

    /// Nobody has it open.
    pub fn unattended(mut self) -> Self {
        self.readers.clear();
        self.writers.clear();
        self
    }

    /// A reader that opens it now.
    pub fn reader(&self) -> Reader {
        Reader::open(self.name.clone()).expect("a reader")
    }

    /// A writer that opens it now.
    pub fn writer(&self) -> Writer {
        Writer::open_or_create(self.name.clone(), &self.options).expect("a writer")
    }

    /// Asserts that those who are left find what `after` allows, and can go on: read, put, grow,
    /// remove, and leave nothing.
    pub fn survive(mut self, after: After, completed: bool, survey: &mut Survey) {
        let at = survey.at.clone();
        for reader in &mut self.readers {
            match reader.get() {
                Ok(Some(found)) => whole(&found, self.last, &at),
                Err(ReadError::Removed) if after == After::MayBeGone => {}
                other => panic!("{at}: a reader that had it open found {other:?}"),
            }
        }
        match Reader::open(self.name.clone()) {
            Ok(mut reader) => match reader.get() {
                Ok(Some(found)) => whole(&found, self.last, &at),
                Ok(None) if matches!(after, After::Appears | After::MayBeNew) => {}
                other => panic!("{at}: a new reader found {other:?}"),
            },
            Err(error) => assert!(
                error.is_not_found()
                    && after != After::GoesOn
                    && !(after == After::Appears && completed),
                "{at}: a new reader could not open it: {error}"
            ),
        }
        self.go_on(after, survey);
        self.end(survey);
    }

    fn go_on(&mut self, after: After, survey: &mut Survey) {
        let at = survey.at.clone();
        let mut next = self.last + 10;
        let mut old = std::mem::take(&mut self.writers);
        if self.old_first {
            // Whoever opens it for reading only finds the newest generation and ends no other.
            self.readers.push(self.reader());
            next += 1;
            let put = survey.prompt.time("put", || old[0].put(&numbered(next)));
            put.unwrap_or_else(|error| {
                panic!("{at}: a writer that had it open can't put: {error}")
            });
            self.all_see(next, &at);
        }
        let prompt = &mut survey.prompt;
        let mut new = prompt.time("open_or_create", || self.writer());
        self.readers.push(self.reader());
        for round in 0..3 {
            next += 1;
            let put = prompt.time("put", || new.put(&message(next, CAPACITY)));
            put.unwrap_or_else(|error| panic!("{at}: a new writer can't put: {error}"));
            self.all_see(next, &at);
            for writer in &mut old {
                next += 1;
                match prompt.time("put", || writer.put(&message(next, CAPACITY))) {
                    Ok(_) => self.all_see(next, &at),
                    Err(PutError::Removed) if after == After::MayBeGone => next -= 1,
                    Err(error) => panic!("{at}: a writer that had it open can't put: {error}"),
                }
            }
            let larger = GROWN + round * 100;
            prompt
                .time("grow", || new.grow(larger))
                .unwrap_or_else(|error| panic!("{at}: it can't grow: {error}"));
            self.all_see(next, &at);
        }
    }

    /// Whoever has it open sees this message, and by watching does not see it again.
    fn all_see(&mut self, number: u64, at: &str) {
        for (i, reader) in self.readers.iter_mut().enumerate() {
            let found = reader.get();
            let found = found.unwrap_or_else(|error| panic!("{at}: reader {i}: {error}"));
            let found = found.unwrap_or_else(|| panic!("{at}: reader {i} finds nothing"));
            assert_eq!(check(&found.bytes), Ok(number), "{at}: reader {i}");
            let newer = reader.watch(Patience::none());
            assert!(matches!(newer, Ok(None)), "{at}: reader {i}: {newer:?}");
        }
    }

    fn end(mut self, survey: &mut Survey) {
        let at = &survey.at;
        if self.options.lifetime == Lifetime::WhileUsed {
            self = self.unattended();
        } else {
            survey
                .prompt
                .time("remove", || value::remove(self.name.clone()))
                .unwrap_or_else(|error| panic!("{at}: it can't be removed: {error}"));
        }
        let open = Reader::open(self.name.clone());
        assert!(
            open.as_ref().is_err_and(|error| error.is_not_found()),
            "{at}: there after its removal: {open:?}"
        );
        drop((self.readers, self.writers));
        let orphans = left().orphans.len();
        assert!(
            orphans <= 1,
            "{at}: {orphans} presence orphans of one death"
        );
        survey.orphans += assert_nothing_left(at);
    }
}

fn whole(found: &value::Message, last: u64, at: &str) {
    let number = check(&found.bytes).unwrap_or_else(|torn| panic!("{at}: {torn}"));
    assert_eq!(number, found.number, "{at}: the number in the message");
    assert!(
        number == last || number == last + 1,
        "{at}: message {number}, the last was {last}"
    );
}
