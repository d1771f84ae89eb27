//! Messages in a stream of bytes: where one ends and the next begins.

use memchr::memchr;

use crate::exit::Failure;

/// Bytes of the length before a message.
const PREFIX: usize = size_of::<u32>();
/// A buffer for input: as much as a few reads of a pipe give.
const SPACE: usize = 1 << 18;

/// What separates messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Each ends with this byte, which is no part of it.
    Ended(u8),
    /// Before each stands its length: 32 bits, little-endian.
    Length,
    /// Nothing; messages of input have up to so many bytes.
    Chunk(usize),
}

/// How messages are joined to output.
#[derive(clap::Args)]
#[group(multiple = false)]
pub struct JoinArgs {
    /// End each message with a NUL byte rather than a newline
    #[arg(short = '0', long)]
    null: bool,
    /// Write the length of each message before it: 32 bits, little-endian
    #[arg(long)]
    length_prefixed: bool,
    /// Write the bytes of the messages only, one after the other
    #[arg(long)]
    raw: bool,
}

impl JoinArgs {
    /// The same as one value.
    pub fn frame(&self) -> Frame {
        if self.null {
            Frame::Ended(0)
        } else if self.length_prefixed {
            Frame::Length
        } else if self.raw {
            Frame::Chunk(usize::MAX)
        } else {
            Frame::Ended(b'\n')
        }
    }
}

/// So many messages, in words.
pub fn messages(count: u64) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

/// The message that is growing at the end of the input is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

/// The input ends in the middle of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Frame {
    /// The capacity of a new channel: that which was asked for, if one was; else the usual one, or
    /// more, so that `some` chunks of any size fit.
    ///
    /// # Errors
    /// If there is no memory for so much.
    pub fn capacity(self, asked: Option<u64>, usual: usize, some: usize) -> Result<usize, Failure> {
        match (asked, self) {
            (Some(asked), _) => {
                usize::try_from(asked).map_err(|_| Failure::usage("--capacity is too large"))
            }
            (None, Self::Chunk(most)) => Ok(usual.max(most.saturating_mul(some))),
            (None, _) => Ok(usual),
        }
    }

    /// Splits the first message off, if all of it is there.
    fn split<'a>(self, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Ended(end) => {
                let (message, rest) = bytes.split_at(memchr(end, bytes)?);
                *bytes = &rest[1..];
                Some(message)
            }
            Self::Length => {
                let (length, rest) = bytes.split_first_chunk()?;
                let length = u32::from_le_bytes(*length);
                let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                *bytes = rest;
                Some(message)
            }
            Self::Chunk(most) => {
                let (message, rest) = bytes.split_at(most.min(bytes.len()));
                *bytes = rest;
                (!message.is_empty()).then_some(message)
            }
        }
    }

    /// Appends a message by `write`, and what separates it from the others. `length` is its own;
    /// `None` if that cannot be written.
    pub fn append(
        self,
        to: &mut Vec<u8>,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<()> {
        if self == Self::Length {
            to.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        }
        write(to);
        if let Self::Ended(end) = self {
            to.push(end);
        }
        Some(())
    }
}

/// Splits input into messages as it comes.
#[derive(Debug)]
pub struct Splitter {
    frame: Frame,
    longest: usize,
    buffer: Vec<u8>,
    /// What of the buffer holds input that was not split off yet.
    filled: usize,
    /// How much of that holds no end of a message.
    searched: usize,
}

impl Splitter {
    /// For messages of up to `longest` bytes.
    pub fn new(frame: Frame, longest: usize) -> Self {
        let space = match frame {
            Frame::Chunk(most) if most < SPACE => SPACE - SPACE % most,
            Frame::Chunk(most) => most,
            _ => SPACE,
        };
        Self {
            frame,
            longest,
            buffer: vec![0; space],
            filled: 0,
            searched: 0,
        }
    }

    /// Where the next input goes: at least half of the buffer, which grows with its messages.
    pub fn space(&mut self) -> &mut [u8] {
        if self.filled > self.buffer.len() / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// So much input has come. `send` gets the messages that are whole now, one after the other.
    pub fn split<E>(
        &mut self,
        input: usize,
        send: impl FnOnce(&mut dyn Iterator<Item = &[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.filled += input;
        let all = &self.buffer[..self.filled];
        let frame = self.frame;
        let mut rest = all;
        // A long message that comes in small pieces is not searched again with each of them.
        let fresh = match frame {
            Frame::Ended(end) => memchr(end, &all[self.searched..]).is_some(),
            _ => true,
        };
        if fresh {
            send(&mut std::iter::from_fn(|| frame.split(&mut rest)))?;
        }
        let left = rest.len();
        self.buffer.copy_within(self.filled - left..self.filled, 0);
        (self.filled, self.searched) = (left, left);
        Ok(())
    }

    /// Whether the message whose end has not come yet can still be sent.
    pub fn check(&self) -> Result<(), TooLong> {
        let rest = &self.buffer[..self.filled];
        let length = match (self.frame, rest.first_chunk::<PREFIX>()) {
            (Frame::Length, Some(length)) => u32::from_le_bytes(*length) as usize,
            (Frame::Length, None) => 0,
            _ => rest.len(),
        };
        if length > self.longest {
            return Err(TooLong(length));
        }
        Ok(())
    }

    /// The message that the end of the input ends.
    pub fn last(&self) -> Result<Option<&[u8]>, Cut> {
        match (self.frame, &self.buffer[..self.filled]) {
            (_, []) => Ok(None),
            (Frame::Length, _) => Err(Cut),
            (_, rest) => Ok(Some(rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of an input that comes in pieces of `step` bytes.
    fn split(frame: Frame, input: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new(frame, 1 << 20);
        let mut found = Vec::new();
        for piece in input.chunks(step) {
            splitter.space()[..piece.len()].copy_from_slice(piece);
            let sent = splitter.split(piece.len(), |messages| {
                found.extend(messages.map(<[u8]>::to_vec));
                Ok::<(), ()>(())
            });
            assert_eq!(sent, Ok(()));
            assert_eq!(splitter.check(), Ok(()));
        }
        found.extend(splitter.last().unwrap().map(<[u8]>::to_vec));
        found
    }

    #[test]
    fn messages_are_the_same_however_they_come() {
        let long = vec![b'x'; 3 * SPACE];
        let messages: [&[u8]; 5] = [b"a", b"", b"bc", &long, b"\xff\x01"];
        for frame in [Frame::Ended(b'\n'), Frame::Ended(0), Frame::Length] {
            let mut input = Vec::new();
            for message in messages {
                let write = |to: &mut Vec<u8>| to.extend_from_slice(message);
                assert_eq!(frame.append(&mut input, message.len(), write), Some(()));
            }
            for step in [1, 2, 3, 1000, SPACE / 2] {
                assert!(split(frame, &input, step) == messages, "{frame:?} {step}");
            }
        }
    }

    #[test]
    fn the_end_of_the_input_ends_a_message_or_cuts_it() {
        assert_eq!(split(Frame::Ended(b'\n'), b"a\nb", 2), [b"a", b"b"]);
        let empty: [&[u8]; 0] = [];
        assert_eq!(split(Frame::Ended(b'\n'), b"", 1), empty);
        for cut in [&b"\x02"[..], b"\x02\0\0\0", b"\x02\0\0\0a"] {
            let mut splitter = Splitter::new(Frame::Length, 10);
            splitter.space()[..cut.len()].copy_from_slice(cut);
            splitter
                .split(cut.len(), |_| Ok::<(), ()>(()))
                .expect("nothing is sent");
            assert_eq!(splitter.last(), Err(Cut));
        }
    }

    #[test]
    fn pieces_have_the_size_that_was_asked_for() {
        assert_eq!(
            split(Frame::Chunk(2), b"abcde", 5),
            [&b"ab"[..], b"cd", b"e"]
        );
        assert_eq!(split(Frame::Chunk(2), b"abc", 1), [b"a", b"b", b"c"]);
        for most in [1, 3, SPACE, SPACE + 1] {
            let space = Splitter::new(Frame::Chunk(most), most).space().len();
            assert!(space >= most && space.is_multiple_of(most), "{most}");
        }
    }

    #[test]
    fn what_never_ends_is_too_long_before_it_fills_the_memory() {
        let mut splitter = Splitter::new(Frame::Ended(b'\n'), 10);
        let put = |splitter: &mut Splitter, bytes: &[u8]| {
            splitter.space()[..bytes.len()].copy_from_slice(bytes);
            splitter.split(bytes.len(), |_| Ok::<(), ()>(())).unwrap();
            splitter.check()
        };
        assert_eq!(put(&mut splitter, b"0123456789"), Ok(()));
        assert_eq!(put(&mut splitter, b"x"), Err(TooLong(11)));
        let mut splitter = Splitter::new(Frame::Length, 10);
        assert_eq!(put(&mut splitter, b"\x0b\0\0\0"), Err(TooLong(11)));
    }
}
