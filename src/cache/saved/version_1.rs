//! The saved state of version 1: a snapshot in the feed's frames. Read once, for the change to this version.

use super::checkpoint::Unreadable;
use super::record::Damage;
use super::restore::Restored;
use crate::cache::Assembly;
use crate::feed::FrameReader;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};

const READ_BYTES: usize = 1 << 20;

pub(super) fn read(mut file: &File, provider: &str) -> Result<Restored, Unreadable> {
    file.rewind()?;
    let (mut reader, mut assembly) = (FrameReader::default(), Assembly::new(provider));
    let (mut buffer, mut found) = (vec![0; READ_BYTES], None);
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        reader.push(&buffer[..length]);
        while let Some(frame) = reader.next_frame().map_err(Damage::from)? {
            if found.is_some() {
                return Err(Damage::TooLong.into());
            }
            found = assembly.take(frame).map_err(Damage::from)?;
        }
    }
    match found {
        Some((table, last)) if reader.finish().is_ok() => {
            Ok(Restored { table, last, checkpoint: None, end: None, journal_bytes: 0, damaged: Vec::new() })
        }
        Some(_) => Err(Damage::TooLong.into()),
        None => Err(Damage::Truncated.into()),
    }
}
