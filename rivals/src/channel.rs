//! `ipc-channel`, Servo's: bytes through Unix sockets, long ones through shared memory.

use anyhow::{Context, Result, ensure};
use bench::content::{Payload, Verifier};
use bench::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel,
};
use std::fs;
use std::time::{Duration, Instant};

/// A channel of bytes.
#[derive(Clone, Copy, Debug)]
pub struct IpcChannel;

/// The end that sends.
pub struct ChannelSender(IpcBytesSender);

/// The end that receives.
pub struct ChannelReceiver(IpcBytesReceiver);

impl Sender for ChannelSender {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.0.send(payload.bytes(number)).context("send")
    }
}

impl Receiver for ChannelReceiver {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let message = self.0.recv().context("recv")?;
        verifier.check(&message)?;
        Ok(true)
    }
}

impl Transport for IpcChannel {
    type Sender = ChannelSender;
    type Receiver = ChannelReceiver;

    fn about(&self) -> About {
        About::new("ipc-channel", Family::Rival, Waits::Block, Way::OneByOne)
    }

    /// A file by which the receiver tells the sender how its server is called.
    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        let path = std::env::temp_dir().join(unique);
        let name = path.to_str().context("the folder for temporary files")?;
        Ok(Wire::named(name).cleanup({
            let path = path.clone();
            move || drop(fs::remove_file(path))
        }))
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<ChannelSender> {
        let over = Instant::now() + Duration::from_secs(10);
        let server = loop {
            match fs::read_to_string(&link.name) {
                Ok(server) => break server,
                Err(_) => ensure!(Instant::now() < over, "the receiver does not come"),
            }
            std::thread::yield_now();
        };
        let (sender, receiver) = bytes_channel()?;
        let server = IpcSender::<IpcBytesReceiver>::connect(server)?;
        server.send(receiver).context("handing the receiver over")?;
        Ok(ChannelSender(sender))
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<ChannelReceiver> {
        let (server, name) = IpcOneShotServer::<IpcBytesReceiver>::new()?;
        // Whole or not at all.
        let new = format!("{}.new", link.name);
        fs::write(&new, name)?;
        fs::rename(&new, &link.name)?;
        let (_, receiver) = server.accept().context("accept")?;
        Ok(ChannelReceiver(receiver))
    }
}
