//! What the rows of the page are, in words.

/// The section of the page.
pub const ROWS: &str = "
**The rows.** Messages are copied in by the sender and out, into memory of its own, by the receiver,
unless a row says otherwise:

| | |
| --- | --- |
| bare ring, in-band | the slot's first word is the message's position; the receiver gives slots back in quarters of the ring |
| bare ring, index lines | the slots hold messages only; each side's index has a line of its own |
| *size* of the bare rings, and of what is said to hold as much | 256 KiB of messages, but 8 at least and 4096 at most |
| `queue`, `topic`, `mailbox` | of the default capacity, a lane of 4 MiB, of 1, and 16 in all, or of 8 messages where that is more |
| `service` | of the default capacity, or what one request and its reply need |
| *spinning*, of ours | looks again and again; yields the processor after 50 µs |
| no such word, of ours | adaptive, the default: looks for a while, then sleeps |
| *parking* | looks for some 2 µs, or for 10 while answers come at once, then sleeps |
| *read in place* | copied in, and read where it lies |
| *in place* | written and read where it lies |
| *batches* | 64 messages at a time, on both sides; ours of up to 256 B are checked where they lie, the bare ring's are copied out |
| `value` | the latest message; each is answered before the next is put |
| *one slot*, *ring* | memory with room for one message, or as many as a bare ring, and two counters that tell the other side |
| pipe, FIFO, Unix sockets | buffers as large as the kernel makes them; *spinning*: does not block, tries again and again |
| System V queue | `msgsnd` and `msgrcv` of one type, in a queue of the default size |
| POSIX queue | 10 messages, the default |
| iceoryx2 publish-subscribe | 0.10; one publisher, one subscriber, both look again and again (no events); no overflow, as many samples as a bare ring, and what finds no room is sent again |
| iceoryx2 request-response | 0.10; one client, one server, both look again and again |
| Boost.Interprocess queue | `message_queue` for as many messages as a bare ring; *spinning*: `try_send`, `try_receive` |
| ZeroMQ ipc | `PUSH`, `PULL`, no option set; each side's thread for input and output is on that side's processor |
| ipc-channel | `bytes_channel` |
| rtrb, between threads | in one process, as a reference: neither names, nor other processes, nor their deaths |
";
