//! The owner of every live extent, as the writer sealed it: what a lost namespace is rebuilt from.
//!
//! Each shard record carries its extent's owner; one that verifies is enough. Opening the seal
//! takes the cluster's key, which is not known here.

use std::sync::Arc;

use model::coding::Coding;
use model::ids::{ExtentId, ShardId};
use wire::disk::DiskFile;

use super::Watch;
use super::directory::{OfflineError, ShardsDirectory};
use super::survey::{Place, Survey, scan_failed};
use crate::segment::{Patient, RECORD_HEADER_BYTES, RecordHeader, Seal};

/// One shard of an extent that lies on this disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentShard {
    /// Which one.
    pub id: ShardId,
    /// Where it lies.
    pub place: Place,
}

/// A live extent, as far as this disk knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentOwner {
    /// The extent.
    pub extent: ExtentId,
    /// Its coding.
    pub coding: Coding,
    /// Its sealed owner; `None` when it is damaged in every record here.
    pub sealed: Option<Vec<u8>>,
    /// Its shards that are here, by stripe and slot.
    pub shards: Vec<ExtentShard>,
}

/// Calls `each` for every live extent, by id. `watch` is told of the live shards, one by one.
pub fn owners<E: From<OfflineError>>(
    directory: &ShardsDirectory,
    survey: &Survey,
    watch: Watch<'_>,
    each: &mut dyn FnMut(ExtentOwner) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = OwnerReader { directory, open: None };
    let mut live = survey.live.iter().peekable();
    while let Some((id, place)) = live.next() {
        let mut shards = vec![ExtentShard { id: *id, place: *place }];
        while let Some((id, place)) = live.next_if(|(next, _)| next.extent == id.extent) {
            shards.push(ExtentShard { id: *id, place: *place });
        }
        let mut sealed = None;
        for shard in &shards {
            sealed = reader.read(shard)?;
            if sealed.is_some() {
                break;
            }
        }
        watch(shards.len() as u64);
        each(ExtentOwner { extent: id.extent, coding: place.coding, sealed, shards })?;
    }
    Ok(())
}

/// Reads owners, and keeps the segment open that was read last.
struct OwnerReader<'a> {
    directory: &'a ShardsDirectory,
    open: Option<(u64, Arc<Patient>)>,
}

impl OwnerReader<'_> {
    /// The sealed owner in a shard's record; `None` when it doesn't verify.
    fn read(&mut self, shard: &ExtentShard) -> Result<Option<Vec<u8>>, OfflineError> {
        let number = shard.place.segment;
        let Some(file) = self.segment(number)? else { return Ok(None) };
        let seal = Seal::new(&self.directory.identity, number);
        let failed = |error| scan_failed(number, error);
        let mut head = [0u8; RECORD_HEADER_BYTES];
        file.read_at(&mut head, shard.place.offset).map_err(failed)?;
        let Some(header) = RecordHeader::decode(seal, &head).filter(|head| head.id == shard.id)
        else {
            return Ok(None);
        };
        let mut body = vec![0u8; header.body_bytes()];
        let at = shard.place.offset + RECORD_HEADER_BYTES as u64;
        file.read_at(&mut body, at).map_err(failed)?;
        if header.checksums(seal, &body).is_none() {
            return Ok(None);
        }
        body.truncate(usize::from(header.owner_bytes));
        Ok(Some(body))
    }

    fn segment(&mut self, number: u64) -> Result<Option<Arc<Patient>>, OfflineError> {
        if let Some((open, file)) = &self.open
            && *open == number
        {
            return Ok(Some(Arc::clone(file)));
        }
        let files = self.directory.segments();
        let Ok(at) = files.binary_search_by_key(&number, |file| file.number) else {
            return Ok(None);
        };
        let file = self.directory.content(&files[at])?;
        self.open = Some((number, Arc::clone(&file)));
        Ok(Some(file))
    }
}
