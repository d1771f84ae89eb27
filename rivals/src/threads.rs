//! `rtrb` between two threads of one process: what a ring reaches that needs no shared memory, no
//! names and no notice of a death.
//!
//! The process that receives only plays the ping-pong; the one that sends has both threads, on the
//! two processors.

use anyhow::{Result, anyhow};
use bench::bare::{look, slots};
use bench::body::{Both, answer, ask, recv_stream, send_stream};
use bench::content::{Payload, Verifier};
use bench::place::pin;
use bench::transport::{
    About, Family, Job, Outcome, Receiver, Role, Runner, Seat, Sender, Task, Topology, Waits, Way,
    Wire,
};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::thread;

/// A ring of messages of one length.
pub struct Rtrb;

struct Push<const N: usize>(Producer<[u8; N]>);
struct Pop<const N: usize>(Consumer<[u8; N]>);

impl<const N: usize> Sender for Push<N> {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        let mut message: [u8; N] = payload.bytes(number).try_into()?;
        look(|| match self.0.push(message) {
            Ok(()) => Some(()),
            Err(PushError::Full(back)) => {
                message = back;
                None
            }
        });
        Ok(())
    }
}

impl<const N: usize> Receiver for Pop<N> {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let message = look(|| self.0.pop().ok());
        verifier.check(&message)?;
        Ok(true)
    }
}

fn both<const N: usize>(task: Task, processors: [usize; 2]) -> Result<Outcome> {
    let ring = || {
        let (producer, consumer) = RingBuffer::new(slots(N) as usize);
        (Push::<N>(producer), Pop::<N>(consumer))
    };
    let (mut sender, mut receiver) = ring();
    let (sender_back, receiver_back) = ring();
    let other = task.clone();
    let far = thread::spawn(move || {
        pin(&[processors[1]])?;
        match other.topology {
            Topology::Stream => recv_stream(&mut receiver, &other),
            Topology::RoundTrip => {
                let sender = sender_back;
                answer(&mut Both { sender, receiver }, &other)
            }
        }
    });
    let near = match task.topology {
        Topology::Stream => send_stream(&mut sender, &task, 0),
        Topology::RoundTrip => {
            let receiver = receiver_back;
            ask(&mut Both { sender, receiver }, &task)
        }
    };
    let far = far
        .join()
        .map_err(|_| anyhow!("the other thread panicked"))??;
    let near = near?;
    anyhow::ensure!(
        (near.messages, near.sum) == (far.messages, far.sum),
        "not everything came"
    );
    // The conductor compares the two processes, of which the other has nothing to say.
    Ok(Outcome {
        messages: 0,
        sum: 0,
        rate: far.rate,
        ..near
    })
}

impl Runner for Rtrb {
    fn about(&self) -> About {
        let name = "rtrb, between threads";
        About::new(name, Family::Rival, Waits::Spin, Way::OneByOne)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        if !task.is_pair() {
            return Some("one sender and one receiver only".to_owned());
        }
        (!matches!(task.length, 8 | 64 | 1024))
            .then(|| "its messages move by value: short ones only".to_owned())
    }

    fn wires(&self, _: &Task, _: &str) -> Result<Vec<Wire>> {
        Ok(Vec::new())
    }

    fn open(&self, task: &Task, seat: &Seat) -> Result<Job> {
        let (task, processors) = (task.clone(), seat.processors);
        Ok(match seat.role {
            Role::Receiver(_) => Box::new(|| Ok(Outcome::default())),
            Role::Sender(_) => Box::new(move || match task.length {
                8 => both::<8>(task, processors),
                64 => both::<64>(task, processors),
                _ => both::<1024>(task, processors),
            }),
        })
    }
}
