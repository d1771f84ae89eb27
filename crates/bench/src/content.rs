//! What messages hold, and how a receiver knows that it got them all, once, in order and whole.
//!
//! A message of *n* bytes is lines of 64 bytes, the last one maybe shorter. Every word of line *k*
//! holds `number + k × STEP`, so the first word of a message is its number and every line tells
//! which message it belongs to:
//!
//! ```text
//!         0          8                        64
//! line 0  │ number   │ number   │ …           │
//! line 1  │ number + STEP       │ …           │
//! ```
//!
//! Numbers are a producer's place in the crowd and its count of messages, from 0; the message that
//! ends a stream has [`END`] set and the count of those before.
//!
//! **What a check costs** is the same for every transport. While time is taken, a sender that hands
//! over a buffer writes one word of each line of it and the receiver compares one word of each
//! line, so every cache line of every message is moved, and read where it arrived. A sender that
//! writes in place writes all bytes. Before time is taken, every transport is run
//! [thoroughly](Verifier::thorough): all words written and all compared.

use std::fmt;

/// Bytes of a cache line.
pub const LINE: usize = 64;
/// Bytes of a word.
const WORD: usize = 8;
/// The difference between the words of neighbouring lines.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
/// Set in the number of a producer's last message, which carries the count of those before.
pub const END: u64 = 1 << 63;
/// Where a producer's place in the crowd begins in a number.
const PRODUCER: u32 = 40;
/// The count of messages in a number.
const COUNT: u64 = (1 << PRODUCER) - 1;

/// The number of the first message of a producer.
pub fn first(producer: usize) -> u64 {
    (producer as u64) << PRODUCER
}

/// The number of the message that ends the stream of which `next` would have been the next.
pub fn end(next: u64) -> u64 {
    END | next
}

/// A sender's own buffer.
#[derive(Debug)]
pub struct Payload {
    buffer: Vec<u8>,
    /// The first byte that stands on a cache line.
    start: usize,
    length: usize,
    thorough: bool,
}

impl Payload {
    /// For messages of `length` bytes, a multiple of eight.
    pub fn new(length: usize, thorough: bool) -> Self {
        assert!(
            length >= WORD && length.is_multiple_of(WORD),
            "messages are made of words"
        );
        let buffer = vec![0x5a; length + LINE];
        let start = buffer.as_ptr().align_offset(LINE);
        Self {
            buffer,
            start,
            length,
            thorough,
        }
    }

    /// Bytes of a message.
    #[inline]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The message of a number, in this buffer.
    #[inline]
    pub fn bytes(&mut self, number: u64) -> &[u8] {
        let bytes = &mut self.buffer[self.start..self.start + self.length];
        let mut word = number;
        for line in bytes.chunks_mut(LINE) {
            if self.thorough {
                let words = line.chunks_exact_mut(WORD);
                words.for_each(|at| at.copy_from_slice(&word.to_ne_bytes()));
            } else {
                line[..WORD].copy_from_slice(&word.to_ne_bytes());
            }
            word = word.wrapping_add(STEP);
        }
        bytes
    }

    /// Writes the message of a number in place: calls `put` with an offset and the bytes there,
    /// line by line.
    #[inline]
    pub fn write(&self, number: u64, put: impl FnMut(usize, &[u8])) {
        write(number, self.length, put);
    }
}

/// Writes a message line by line: calls `put` with an offset and the bytes there.
#[inline]
pub fn write(number: u64, length: usize, mut put: impl FnMut(usize, &[u8])) {
    let mut word = number;
    let mut offset = 0;
    while offset + LINE <= length {
        put(offset, &line(word));
        word = word.wrapping_add(STEP);
        offset += LINE;
    }
    while offset < length {
        put(offset, &word.to_ne_bytes());
        offset += WORD;
    }
}

/// The lines of the message of a number, without end.
#[inline]
pub fn lines(number: u64) -> impl Iterator<Item = [u8; LINE]> {
    let mut word = number;
    std::iter::repeat_with(move || {
        let line = line(word);
        word = word.wrapping_add(STEP);
        line
    })
}

/// A line whose words are all the same.
#[inline(always)]
fn line(word: u64) -> [u8; LINE] {
    let mut line = [0; LINE];
    let words = line.chunks_exact_mut(WORD);
    words.for_each(|at| at.copy_from_slice(&word.to_ne_bytes()));
    line
}

#[inline(always)]
fn first_word(line: [u8; LINE]) -> u64 {
    let mut word = [0; WORD];
    word.copy_from_slice(&line[..WORD]);
    u64::from_ne_bytes(word)
}

/// The word at an offset of the message of a number.
fn expected(number: u64, offset: usize) -> u64 {
    number.wrapping_add(((offset / LINE) as u64).wrapping_mul(STEP))
}

/// The bits in which any word of a message is not as it should be.
#[cold]
#[inline(never)]
fn differences(number: u64, length: usize, word: impl Fn(usize) -> u64) -> u64 {
    let offsets = (0..length).step_by(WORD);
    offsets.fold(0, |wrong, at| wrong | word(at) ^ expected(number, at))
}

/// A short message that owns its bytes.
#[inline]
pub fn array<const N: usize>(number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (k, line) in bytes.chunks_mut(LINE).enumerate() {
        let word = number.wrapping_add((k as u64).wrapping_mul(STEP));
        let words = line.chunks_exact_mut(WORD);
        words.for_each(|at| at.copy_from_slice(&word.to_ne_bytes()));
    }
    bytes
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has another length than all have.
    Length {
        /// Bytes of a message.
        expected: usize,
        /// Bytes of this one.
        found: usize,
    },
    /// Messages before it did not come.
    Missing {
        /// The number of the next message.
        expected: u64,
        /// The number of this one.
        found: u64,
    },
    /// It has come before.
    Repeated {
        /// The number of the next message.
        expected: u64,
        /// The number of this one.
        found: u64,
    },
    /// Its bytes are those of no message, or of two.
    Corrupt {
        /// Where, in bytes.
        offset: usize,
    },
    /// Its number is no producer's.
    Stranger(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "a message has {found} bytes instead of {expected}")
            }
            Self::Missing { expected, found } => {
                write!(f, "message {expected:#x} is missing: {found:#x} came")
            }
            Self::Repeated { expected, found } => write!(
                f,
                "message {found:#x} came again, or too late: {expected:#x} is next"
            ),
            Self::Corrupt { offset } => {
                write!(f, "a message is damaged at byte {offset}")
            }
            Self::Stranger(number) => write!(f, "message {number:#x} is of no producer"),
        }
    }
}

impl std::error::Error for Fault {}

/// A receiver's bookkeeping: checks every message.
#[derive(Debug)]
pub struct Verifier {
    length: usize,
    thorough: bool,
    /// Whether other receivers take messages too.
    shared: bool,
    /// The next number of each producer.
    next: Vec<u64>,
    /// The number of the latest message.
    latest: u64,
    received: u64,
    sum: u64,
    ended: usize,
}

impl Verifier {
    /// For messages of `length` bytes from so many producers.
    pub fn new(length: usize, producers: usize) -> Self {
        Self {
            length,
            thorough: false,
            shared: false,
            next: (0..producers).map(first).collect(),
            latest: 0,
            received: 0,
            sum: 0,
            ended: 0,
        }
    }

    /// Compares all words instead of one of each line.
    #[must_use]
    pub fn thorough(mut self, thorough: bool) -> Self {
        self.thorough = thorough;
        self
    }

    /// Takes gaps for what other receivers got. The [sums](Self::sum) of all tell whether one is
    /// missing.
    #[must_use]
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Checks a message.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check(&mut self, message: &[u8]) -> Result<(), Fault> {
        self.check_words(message.len(), |offset| {
            let mut word = [0; WORD];
            word.copy_from_slice(&message[offset..offset + WORD]);
            u64::from_ne_bytes(word)
        })
    }

    /// Checks a message of `length` bytes whose words `word` reads, by their offsets.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check_words(&mut self, length: usize, word: impl Fn(usize) -> u64) -> Result<(), Fault> {
        if length != self.length {
            let expected = self.length;
            return Err(Fault::Length {
                expected,
                found: length,
            });
        }
        let number = word(0);
        self.count(number)?;
        let wrong = if self.thorough {
            differences(number, length, &word)
        } else {
            // What is timed has nothing in it that the other needs.
            let (mut wrong, mut expected, mut offset) = (0, number, 0);
            while offset < length {
                wrong |= word(offset) ^ expected;
                expected = expected.wrapping_add(STEP);
                offset += LINE;
            }
            wrong
        };
        if wrong != 0 {
            return Err(self.where_it_is(length, word));
        }
        Ok(())
    }

    /// Checks a message by its lines, of which it has nothing but whole ones.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check_lines<L>(&mut self, lines: L) -> Result<(), Fault>
    where
        L: ExactSizeIterator<Item = [u8; LINE]> + Clone,
    {
        let found = lines.len() * LINE;
        let first = lines.clone().next().filter(|_| found == self.length);
        let Some(number) = first.map(first_word) else {
            let expected = self.length;
            return Err(Fault::Length { expected, found });
        };
        self.count(number)?;
        let (mut wrong, mut expected) = (0, number);
        if self.thorough {
            for line in lines.clone() {
                let words = line.as_chunks().0.iter();
                wrong |= words.fold(0, |wrong, word| {
                    wrong | u64::from_ne_bytes(*word) ^ expected
                });
                expected = expected.wrapping_add(STEP);
            }
        } else {
            for line in lines.clone() {
                wrong |= first_word(line) ^ expected;
                expected = expected.wrapping_add(STEP);
            }
        }
        if wrong != 0 {
            let lines: Vec<_> = lines.collect();
            let word = |offset: usize| {
                let line = lines[offset / LINE].as_chunks().0;
                u64::from_ne_bytes(line[offset % LINE / WORD])
            };
            return Err(self.where_it_is(found, word));
        }
        Ok(())
    }

    /// Counts the message of a number, which is the next one of its producer.
    #[inline(always)]
    fn count(&mut self, number: u64) -> Result<(), Fault> {
        match self.next.get_mut((number >> PRODUCER) as usize) {
            Some(next) if *next == number => {
                *next += 1;
                self.received += 1;
                self.sum = self.sum.wrapping_add(number);
            }
            _ => self.unusual(number)?,
        }
        self.latest = number;
        Ok(())
    }

    #[cold]
    fn where_it_is(&self, length: usize, word: impl Fn(usize) -> u64) -> Fault {
        let step = if self.thorough { WORD } else { LINE };
        let mut offsets = (0..length).step_by(step);
        let offset = offsets.find(|offset| word(*offset) != expected(self.latest, *offset));
        // A peer that still writes may have mended it meanwhile.
        let offset = offset.unwrap_or(0);
        Fault::Corrupt { offset }
    }

    /// A message that is not the next one of its producer.
    #[cold]
    fn unusual(&mut self, number: u64) -> Result<(), Fault> {
        let plain = number & !END;
        let producer = (plain >> PRODUCER) as usize;
        let Some(next) = self.next.get_mut(producer) else {
            return Err(Fault::Stranger(number));
        };
        let expected = *next;
        if plain < expected {
            return Err(Fault::Repeated {
                expected,
                found: plain,
            });
        }
        if plain > expected && !self.shared {
            return Err(Fault::Missing {
                expected,
                found: plain,
            });
        }
        if number & END != 0 {
            self.ended += 1;
        } else {
            *next = plain + 1;
            self.received += 1;
            self.sum = self.sum.wrapping_add(plain);
        }
        Ok(())
    }

    /// Whether all producers have ended.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.ended == self.next.len()
    }

    /// The number of the message that was checked last.
    #[inline]
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// How many messages came, ends not counted.
    #[inline]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The sum of their numbers, wrapping.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Bytes of a message.
    #[inline]
    pub fn length(&self) -> usize {
        self.length
    }
}

/// The sum of the numbers of a producer's first `count` messages, wrapping.
pub fn sum_of(producer: usize, count: u64) -> u64 {
    let pairs = if count.is_multiple_of(2) {
        (count / 2).wrapping_mul(count.wrapping_sub(1))
    } else {
        count.wrapping_mul(count.wrapping_sub(1) / 2)
    };
    first(producer).wrapping_mul(count).wrapping_add(pairs)
}

/// The count in a number.
pub fn count_of(number: u64) -> u64 {
    number & COUNT
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
