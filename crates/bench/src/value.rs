//! Tombolo's `value` as a transport, for round trips: one puts, the other watches. A stream over it
//! would rightly lose all but the latest message.

use crate::content::{Payload, Verifier};
use crate::transport::{
    About, Family, Link, Receiver, Sender, Task, Topology, Transport, Waits, Way, Wire, only_pairs,
};
use anyhow::Result;
use tombolo::Patience;
use tombolo::value::{self, Options, Reader, Writer};

/// A `value`.
#[derive(Clone, Copy, Debug)]
pub struct Value;

impl Sender for Writer {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.put(payload.bytes(number))?;
        Ok(())
    }
}

/// The end that receives.
pub struct ValueReceiver {
    reader: Reader,
    buffer: Vec<u8>,
}

impl Receiver for ValueReceiver {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self { reader, buffer } = self;
        let news = reader.watch_into(Patience::FOREVER, buffer)?;
        verifier.check(buffer)?;
        Ok(news.is_some())
    }
}

impl Transport for Value {
    type Sender = Writer;
    type Receiver = ValueReceiver;

    fn about(&self) -> About {
        About::new("value", Family::Tombolo, Waits::Adaptive, Way::OneByOne)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        let stream = task.topology == Topology::Stream;
        let latest = stream.then(|| "it has the latest message only".to_owned());
        latest.or_else(|| only_pairs(task))
    }

    fn wire(&self, task: &Task, unique: &str) -> Result<Wire> {
        let name: tombolo::Name = unique.parse()?;
        let capacity = task.length;
        // It stays until it is removed; the ends need not create it.
        Writer::open_or_create(
            name.clone(),
            &Options {
                capacity,
                ..Options::default()
            },
        )?;
        Ok(Wire::named(unique).cleanup(move || drop(value::remove(name))))
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<Writer> {
        let name: tombolo::Name = link.name.parse()?;
        Ok(Writer::open(name)?)
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<ValueReceiver> {
        let name: tombolo::Name = link.name.parse()?;
        Ok(ValueReceiver {
            reader: Reader::open(name)?,
            buffer: Vec::with_capacity(task.length),
        })
    }
}
