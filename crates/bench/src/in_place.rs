//! Messages of our channels, written and read where they lie.

use crate::content::{Verifier, lines};
use anyhow::{Result, ensure};
use tombolo::shmem::{Bytes, BytesMut};

/// Writes the message of a number.
#[inline(always)]
pub fn write(number: u64, length: usize, mut place: BytesMut<'_>) -> Result<()> {
    ensure!(place.len() == length, "the loan has another length");
    let (chunks, rest) = place.as_chunks_mut();
    ensure!(rest.is_empty(), "in place are whole lines only");
    for (mut chunk, line) in chunks.zip(lines(number)) {
        chunk.set(line);
    }
    Ok(())
}

/// Checks a message.
#[inline(always)]
pub fn check(verifier: &mut Verifier, bytes: Bytes<'_>) -> Result<()> {
    let (lines, rest) = bytes.as_chunks();
    ensure!(rest.is_empty(), "in place are whole lines only");
    Ok(verifier.check_lines(lines)?)
}
