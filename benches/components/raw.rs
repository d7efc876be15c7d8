//! The same bytes without a store: what the shards' figures are held against.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::pwritev;

use crate::meter::Meter;

/// Appends `groups` groups of `group` records of `record` bytes to a reserved file, in order, each
/// group by one `pwritev` and one `fdatasync`.
pub fn append(path: &Path, record: usize, group: usize, groups: usize) -> Result<Meter> {
    let file = reserved(path, (record * group * groups) as u64)?;
    let bytes = vec![7u8; record];
    let parts: Vec<IoSlice<'_>> = (0..group).map(|_| IoSlice::new(&bytes)).collect();
    let meter = Meter::start();
    for number in 0..groups {
        write_all(&file, &parts, (number * group * record) as u64)?;
        file.sync_data()?;
    }
    Ok(meter.stopped())
}

/// Group commit with nothing else: `writers` threads hand one record after the other to a thread
/// that writes and syncs what has come together, and wait until that is done.
pub fn commit_in_groups(path: &Path, record: usize, writers: usize, each: usize) -> Result<Meter> {
    let file = reserved(path, (record * writers * each) as u64)?;
    let (sender, arrived) = mpsc::channel::<mpsc::Sender<()>>();
    let meter = Meter::start();
    let committer = std::thread::spawn(move || -> Result<()> {
        let bytes = vec![7u8; record];
        let mut at = 0;
        while let Ok(first) = arrived.recv() {
            let waiting: Vec<_> = std::iter::once(first).chain(arrived.try_iter()).collect();
            let parts: Vec<IoSlice<'_>> = waiting.iter().map(|_| IoSlice::new(&bytes)).collect();
            write_all(&file, &parts, at)?;
            at += (parts.len() * record) as u64;
            file.sync_data()?;
            for writer in waiting {
                writer.send(()).context("a writer is gone")?;
            }
        }
        Ok(())
    });
    let threads: Vec<_> = (0..writers)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || -> Result<()> {
                let (done, written) = mpsc::channel();
                for _ in 0..each {
                    sender.send(done.clone()).context("the committer is gone")?;
                    written.recv()?;
                }
                Ok(())
            })
        })
        .collect();
    drop(sender);
    for thread in threads.into_iter().chain([committer]) {
        thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(meter.stopped())
}

/// Reads the files of a directory in order, in pieces of `piece` bytes into one buffer for each of
/// `threads` threads, which share the files. Gives the bytes, too.
pub fn read(directory: &Path, piece: usize, threads: usize) -> Result<(Meter, u64)> {
    let mut places = Vec::new();
    for path in files(directory)? {
        let file = Arc::new(File::open(path)?);
        let whole = file.metadata()?.len() / piece as u64;
        places.extend((0..whole).rev().map(|at| (Arc::clone(&file), at * piece as u64)));
    }
    places.reverse();
    let bytes = (places.len() * piece) as u64;
    let places = Arc::new(Mutex::new(places));
    let meter = Meter::start();
    let readers: Vec<_> = (0..threads)
        .map(|_| {
            let places = Arc::clone(&places);
            std::thread::spawn(move || -> Result<()> {
                let mut buffer = vec![0u8; piece];
                loop {
                    let next = places.lock().map_err(|_| anyhow!("a reader panicked"))?.pop();
                    let Some((file, at)) = next else { return Ok(()) };
                    file.read_exact_at(&mut buffer, at)?;
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().map_err(|_| anyhow!("a reader panicked"))??;
    }
    Ok((meter.stopped(), bytes))
}

/// Makes the page cache let go of the segments in a directory.
pub fn forget(directory: &Path) -> Result<()> {
    for path in files(directory)? {
        let file = File::open(path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// The segments in a directory, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "dss") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn reserved(path: &Path, bytes: u64) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn write_all(file: &File, parts: &[IoSlice<'_>], at: u64) -> Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    ensure!(pwritev(file, parts, at)? == bytes, "a short write");
    Ok(())
}
