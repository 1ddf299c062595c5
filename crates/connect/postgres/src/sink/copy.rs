//! Rows on their way into a `COPY`: binary where every column's values can travel as bytes, else text.

use super::binary::Binary;
use super::encode::{Unfit, copy_bytes, copy_field, with_text};
use super::merge::{Entry, Image, Merged};
use super::pipe::Fail;
use super::target::Target;
use bytes::Bytes;
use futures::SinkExt;
use rowcast_core::{Malformed, Rows};
use std::pin::pin;
use tokio_postgres::{CopyInSink, Error};

/// Bytes of `COPY` handed on at once.
const COPY_CHUNK: usize = 64 << 10;

/// Why rows were not encoded or not taken.
pub(super) enum Halt {
    /// This column has a value that is not as PostgreSQL prints it and has to travel as text.
    Unprinted(usize),
    /// The server said no.
    Server(Error),
    /// Anything else.
    Fail(Fail),
}

impl From<Malformed> for Halt {
    fn from(malformed: Malformed) -> Self {
        Self::Fail(malformed.into())
    }
}

pub(super) fn unfit_at(change: u32, Unfit(what): Unfit) -> Halt {
    Halt::Fail(Fail::Unfit { change, what })
}

/// What a binary `COPY` begins and ends with.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_END: [u8; 2] = (-1i16).to_be_bytes();

/// Encodes rows while the ones before them are on their way.
pub(super) async fn copy_rows(
    target: &Target,
    rows: &Rows,
    copy: CopyInSink<Bytes>,
    merged: &Merged<'_>,
    entries: &[Entry],
) -> Result<(), Halt> {
    let mut copy = pin!(copy);
    let mut image = Image::default();
    let mut chunk = Vec::with_capacity(COPY_CHUNK + 4096);
    let binary = target.copies_binary();
    if binary.is_some() {
        chunk.extend_from_slice(COPY_HEAD);
    }
    for entry in entries {
        image.load(rows, merged, entry)?;
        let change = entry.change(merged);
        match &binary {
            Some(binary) => row_as_bytes(target, binary, (&image, change), &mut chunk)?,
            None => row_as_text(target, (&image, change), &mut chunk)?,
        }
        if chunk.len() >= COPY_CHUNK {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(COPY_CHUNK + 4096));
            copy.send(full.into()).await.map_err(Halt::Server)?;
        }
    }
    if binary.is_some() {
        chunk.extend_from_slice(&COPY_END);
    }
    copy.send(chunk.into()).await.map_err(Halt::Server)?;
    copy.finish().await.map(|_| ()).map_err(Halt::Server)
}

/// Appends a row in `COPY`'s binary format.
fn row_as_bytes(
    target: &Target,
    binary: &[Binary],
    (image, change): (&Image<'_>, u32),
    chunk: &mut Vec<u8>,
) -> Result<(), Halt> {
    chunk.extend_from_slice(&(target.columns.len() as u16).to_be_bytes());
    for (i, (column, binary)) in target.columns.iter().zip(binary).enumerate() {
        let value = *image.values.get(column.source).ok_or(Malformed { at: 0 })?;
        let written = with_text(column.form, value, |text| copy_bytes(*binary, text, chunk));
        if !written.map_err(|unfit| unfit_at(change, unfit))? {
            return Err(Halt::Unprinted(i));
        }
    }
    Ok(())
}

/// Appends a row in `COPY`'s text format.
fn row_as_text(
    target: &Target,
    (image, change): (&Image<'_>, u32),
    chunk: &mut Vec<u8>,
) -> Result<(), Halt> {
    for (i, column) in target.columns.iter().enumerate() {
        if i > 0 {
            chunk.push(b'\t');
        }
        let value = *image.values.get(column.source).ok_or(Malformed { at: 0 })?;
        with_text(column.form, value, |text| copy_field(text, chunk))
            .map_err(|unfit| unfit_at(change, unfit))?;
    }
    chunk.push(b'\n');
    Ok(())
}
