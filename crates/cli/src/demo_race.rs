//! The reason for shared memory: the same bytes through a pipe, a FIFO, a System V queue and a
//! segment, from one process to another, every byte checked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use nix::sys::stat::Mode as FileMode;
use nix::unistd::mkfifo;
use tombolo::Patience;
use tombolo::shmem::Region;
use tombolo::shmem::sync::Ordering;
use tombolo::shmem::wait::Bell;
use tombolo::sysv::{Key, Mode, Queue, Segment, Select, Wait};

use crate::demo_roles::{LOOK, Player, Role, STEP, interrupted, say};
use crate::output::Output;

/// What is moved at a time: as much as a pipe holds.
const BLOCK: usize = 64 * 1024;
const BLOCKS: u64 = 4096;
/// What a queue takes at a time: the kernel's default for the longest message.
const MESSAGE: usize = 8192;
/// What is summed at a time, whatever the transport.
const PIECE: usize = 4096;
const ROUNDS: usize = 3;
const BAR: usize = 44;

/// Runs the comparison and draws it.
pub fn run(out: &mut Output, file: &[u8], folder: &Path) -> anyhow::Result<()> {
    let source = Source::new(file);
    let total = BLOCKS * BLOCK as u64;
    out.line("")?;
    out.heading("The reason")?;
    out.line(&format!(
        "{} MiB, the file over and over, to another process, every byte checked:",
        total >> 20
    ))?;
    out.line("")?;
    out.flush()?;
    let transports: [(&str, Send); 4] = [
        ("pipe", through_pipe),
        ("FIFO", through_fifo),
        ("System V queue", through_queue),
        ("segment", through_segment),
    ];
    let mut times = [const { Vec::new() }; 4];
    // In turn, so that a slow moment of the machine does not hit one of them alone.
    for _ in 0..ROUNDS {
        for ((_, send), times) in transports.iter().zip(&mut times) {
            times.push(send(&source, folder)?);
        }
    }
    let median = times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64()
    });
    let fastest = median.iter().copied().fold(f64::INFINITY, f64::min);
    for ((name, _), time) in transports.iter().zip(median) {
        let bar = "█".repeat(((fastest / time) * BAR as f64).round().max(1.0) as usize);
        out.line(&format!(
            "{name:>15}  {:6.2} GB/s  {bar}",
            total as f64 / time / 1e9
        ))?;
    }
    let kernel = median[..3].iter().copied().fold(f64::INFINITY, f64::min);
    out.line(&format!(
        "\nThe segment is {:.1} times as fast as the best of the others: they copy every byte\n\
         into the kernel and out of it again; what one process writes to a segment, the\n\
         other reads.",
        kernel / median[3]
    ))?;
    Ok(())
}

/// Sends all blocks to a receiver and answers how long that took until it had checked the last.
type Send = fn(&Source, &Path) -> anyhow::Result<Duration>;

/// What is sent.
struct Source {
    bytes: Vec<u8>,
    digest: u64,
}

impl Source {
    /// The file's bytes, again and again, a few blocks of them, each different in its first word.
    fn new(file: &[u8]) -> Self {
        let file: &[u8] = if file.is_empty() { b"\n" } else { file };
        let mut bytes: Vec<u8> = file.iter().copied().cycle().take(16 * BLOCK).collect();
        for (number, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            block[..8].copy_from_slice(&(number as u64).to_le_bytes());
        }
        let mut source = Self { bytes, digest: 0 };
        let mut digest = Digest::default();
        source.blocks().for_each(|block| digest.add(block));
        source.digest = digest.0;
        source
    }

    /// All that is sent, in order.
    fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(BLOCK).cycle().take(BLOCKS as usize)
    }
}

/// A sum that depends on every byte and on the order of the blocks, and is quick to make.
#[derive(Default)]
struct Digest(u64);

impl Digest {
    /// Adds bytes, whole pieces of them.
    fn add(&mut self, bytes: &[u8]) {
        bytes
            .chunks_exact(PIECE)
            .for_each(|piece| self.add_piece(piece));
    }

    fn add_piece(&mut self, piece: &[u8]) {
        let mut lanes = [0u64; 8];
        for words in piece.as_chunks::<64>().0 {
            for (lane, word) in lanes.iter_mut().zip(words.as_chunks::<8>().0) {
                *lane = lane.wrapping_add(u64::from_le_bytes(*word));
            }
        }
        for lane in lanes {
            self.0 = (self.0 ^ lane)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
    }
}

/// Starts a receiver, sends by `send` once it is ready, and checks what it got. When the receiver
/// ends, however it does, `companion` is dropped.
fn race(
    source: &Source,
    transport: &str,
    companion: impl std::marker::Send + 'static,
    send: impl FnOnce(&mut Player) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let role = Role::Receiver(transport.to_owned());
    let mut receiver = Player::start_with(&role, Path::new("-"), None, companion)?;
    ensure!(interrupted().is_none(), "interrupted");
    receiver.says("ready")?;
    let started = Instant::now();
    send(&mut receiver)?;
    let got: u64 = receiver
        .says("got")?
        .parse()
        .context("the receiver counted nothing")?;
    let time = started.elapsed();
    ensure!(
        got == source.digest,
        "{transport}: what arrived is not what was sent"
    );
    receiver.ends()?;
    Ok(time)
}

/// Writes all blocks. A closed pipe is a failure here, not the end of whoever reads our output.
fn write(source: &Source, mut to: impl Write) -> anyhow::Result<()> {
    source.blocks().try_for_each(|block| {
        to.write_all(block)
            .map_err(|error| anyhow!("the receiver takes nothing: {error}"))
    })
}

fn through_pipe(source: &Source, _: &Path) -> anyhow::Result<Duration> {
    race(source, "pipe", (), |receiver| {
        let pipe = receiver.take_cues().context("no pipe to the receiver")?;
        write(source, pipe)
    })
}

fn through_fifo(source: &Source, folder: &Path) -> anyhow::Result<Duration> {
    let path = folder.join("fifo");
    if !path.exists() {
        mkfifo(&path, FileMode::S_IRUSR | FileMode::S_IWUSR).context("cannot make a FIFO")?;
    }
    // Open for both until the receiver has its end: to open one end alone waits for the other.
    let both = OpenOptions::new().read(true).write(true).open(&path)?;
    let fifo = OpenOptions::new().write(true).open(&path)?;
    race(source, &format!("fifo:{}", path.display()), (), |_| {
        drop(both);
        write(source, fifo)
    })
}

/// A queue that is removed when this is dropped.
struct OwnQueue(Queue);

impl Drop for OwnQueue {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn through_queue(source: &Source, _: &Path) -> anyhow::Result<Duration> {
    let queue = Queue::create(Key::PRIVATE, Mode::default())?;
    // With the receiver gone, nothing else would wake a sender that waits for room.
    let own = OwnQueue(queue);
    race(source, &format!("queue:{}", queue.id()), own, |_| {
        let mut messages = source.blocks().flat_map(|block| block.chunks(MESSAGE));
        messages.try_for_each(|message| Ok(queue.send(1, message, Wait::Block)?))
    })
}

fn through_segment(source: &Source, _: &Path) -> anyhow::Result<Duration> {
    let segment = Segment::create(Key::PRIVATE, Buffer::LENGTH, Mode::default())?;
    let region = Region::attach(segment.id());
    // It can still be attached by id, and goes with its last user, however that ends.
    segment.remove()?;
    let buffer = Buffer(region?);
    race(source, &format!("segment:{}", segment.id()), (), |_| {
        (0..)
            .zip(source.blocks())
            .try_for_each(|(number, block)| buffer.send(number, block))
    })
}

/// A bounded buffer of blocks for one producer and one consumer.
///
/// `[DEMO_SENT]` a block before the count of sent ones, `[DEMO_TAKEN]` its last read before the
/// count of taken ones: each count is stored with release by one side, loaded with acquire by the
/// other. Weaker, a block is read before it is there, or overwritten while it is read.
struct Buffer(Region);

impl Buffer {
    const SENT: usize = 0;
    const TAKEN: usize = 64;
    const SENT_BELL: usize = 128;
    const TAKEN_BELL: usize = 192;
    const FIRST: usize = 4096;
    const SLOTS: u64 = 8;
    const LENGTH: usize = Self::FIRST + Self::SLOTS as usize * BLOCK;

    fn slot(number: u64) -> usize {
        Self::FIRST + (number % Self::SLOTS) as usize * BLOCK
    }

    fn send(&self, number: u64, block: &[u8]) -> anyhow::Result<()> {
        let room = |_| {
            // [DEMO_TAKEN] acquire.
            let taken = self.0.load_u64(Self::TAKEN, Ordering::Acquire);
            (number < taken + Self::SLOTS).then_some(())
        };
        let bell = Bell::new(&self.0, Self::TAKEN_BELL);
        let patience = Patience::from(STEP);
        while bell.wait(Patience::from(LOOK), room).is_none() {
            ensure!(interrupted().is_none(), "interrupted");
            ensure!(!patience.is_over(), "the receiver takes nothing");
        }
        self.0.copy_in(Self::slot(number), block)?;
        // [DEMO_SENT] release.
        self.0.u64(Self::SENT).store(number + 1, Ordering::Release);
        Bell::new(&self.0, Self::SENT_BELL).ring();
        Ok(())
    }

    fn take(&self, number: u64, digest: &mut Digest) -> anyhow::Result<()> {
        let there = |_| {
            // [DEMO_SENT] acquire.
            (self.0.load_u64(Self::SENT, Ordering::Acquire) > number).then_some(())
        };
        let bell = Bell::new(&self.0, Self::SENT_BELL);
        bell.wait(Patience::from(STEP), there)
            .context("nothing comes")?;
        // A piece at a time, which stays in the nearest cache: as good as reading in place.
        let mut piece = [0; PIECE];
        for at in (0..BLOCK).step_by(PIECE) {
            self.0.copy_out(Self::slot(number) + at, &mut piece)?;
            digest.add(&piece);
        }
        // [DEMO_TAKEN] release.
        self.0.u64(Self::TAKEN).store(number + 1, Ordering::Release);
        Bell::new(&self.0, Self::TAKEN_BELL).ring();
        Ok(())
    }
}

/// Takes the block of a number and adds it to the digest.
type Take = dyn FnMut(u64, &mut Digest) -> anyhow::Result<()>;

/// Takes blocks through a buffer, as a reader of bytes must.
fn reading(mut source: impl Read + 'static) -> Box<Take> {
    let mut block = vec![0; BLOCK];
    Box::new(move |_, digest| {
        source.read_exact(&mut block)?;
        digest.add(&block);
        Ok(())
    })
}

/// The receiver's part.
pub fn receive(transport: &str) -> anyhow::Result<()> {
    let (kind, what) = transport.split_once(':').unwrap_or((transport, ""));
    let mut take = match kind {
        "pipe" => {
            say("ready", "");
            reading(io::stdin().lock())
        }
        "fifo" => {
            let fifo = File::open(what)?;
            say("ready", "");
            reading(fifo)
        }
        "queue" => {
            let queue = Queue::from_id(what.parse()?);
            let mut message = vec![0; MESSAGE];
            say("ready", "");
            Box::new(move |_, digest: &mut Digest| {
                for _ in 0..BLOCK / MESSAGE {
                    queue.receive_into(Select::Any, &mut message, Wait::Block)?;
                    digest.add(&message);
                }
                Ok(())
            })
        }
        "segment" => {
            let buffer = Buffer(Region::attach(what.parse()?)?);
            say("ready", "");
            Box::new(move |number, digest: &mut Digest| buffer.take(number, digest))
        }
        _ => bail!("there is no transport {kind}"),
    };
    let mut digest = Digest::default();
    (0..BLOCKS).try_for_each(|number| take(number, &mut digest))?;
    say("got", &digest.0.to_string());
    Ok(())
}
