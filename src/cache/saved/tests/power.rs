//! A disk in memory that remembers what it was asked, so that a test can cut the power anywhere.

use super::super::disk::{Disk, Output};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What was asked of it, in order. Files are numbers: names come and go.
#[derive(Debug, Clone)]
enum Asked {
    Name(String, usize),
    Rename(String, String),
    Remove(String),
    SyncNames,
    Write(usize, Vec<u8>),
    Sync(usize),
    /// A save was reported: what is at this index of the history is safe.
    Reported(usize),
}

type Meanwhile = Box<dyn FnMut() + Send>;

#[derive(Default)]
pub(super) struct Power {
    asked: Mutex<Vec<Asked>>,
    files: Mutex<usize>,
    /// Which questions are answered with an error.
    faults: Mutex<HashSet<usize>>,
    count: Mutex<usize>,
    /// What happens elsewhere while the disk is at work.
    meanwhile: Mutex<Option<Meanwhile>>,
}

#[derive(Clone, Default)]
pub(super) struct PowerDisk(pub(super) Arc<Power>);

type Names = BTreeMap<String, usize>;

impl PowerDisk {
    pub(super) fn meanwhile(&self, meanwhile: Meanwhile) {
        *self.0.meanwhile.lock().unwrap() = Some(meanwhile);
    }

    pub(super) fn fail_at(&self, count: usize) {
        self.0.faults.lock().unwrap().insert(count);
    }

    pub(super) fn report(&self, index: usize) {
        self.0.asked.lock().unwrap().push(Asked::Reported(index));
    }

    pub(super) fn asked(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }

    /// Notes it, or fails; a write that fails was done by half.
    fn ask(&self, asked: Asked) -> io::Result<()> {
        let mut meanwhile = self.0.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = &mut meanwhile {
            meanwhile();
        }
        *self.0.meanwhile.lock().unwrap() = meanwhile;
        let mut count = self.0.count.lock().unwrap();
        *count += 1;
        let is_fault = self.0.faults.lock().unwrap().contains(&count);
        let mut all = self.0.asked.lock().unwrap();
        match (is_fault, asked) {
            (false, asked) => all.push(asked),
            (true, Asked::Write(file, octets)) => {
                all.push(Asked::Write(file, octets[..octets.len() / 2].to_vec()))
            }
            (true, _) => {}
        }
        if is_fault { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn names_now(&self) -> Names {
        let mut names = Names::new();
        self.0.asked.lock().unwrap().iter().for_each(|asked| apply(asked, &mut names));
        names
    }

    /// Writes what is left on the disk to `directory` if the power went after `asked` questions: all that was
    /// made sure of, and of the rest as much as `random` lets through. Says what had been reported by then.
    pub(super) fn cut(
        &self,
        asked: usize,
        directory: &Path,
        mut random: impl FnMut(usize) -> usize,
    ) -> Option<usize> {
        let all = self.0.asked.lock().unwrap();
        let all = &all[..asked];
        let mut names = Names::new();
        let synced = all.iter().rposition(|asked| matches!(asked, Asked::SyncNames)).unwrap_or(0);
        let is_naming =
            |asked: &&Asked| matches!(asked, Asked::Name(..) | Asked::Rename(..) | Asked::Remove(..));
        let later: Vec<_> = all[synced..].iter().filter(is_naming).collect();
        all[..synced].iter().for_each(|asked| apply(asked, &mut names));
        later[..random(later.len() + 1)].iter().for_each(|asked| apply(asked, &mut names));
        for (name, file) in names {
            let (mut octets, mut safe) = (Vec::new(), 0);
            for asked in all {
                match asked {
                    Asked::Write(to, more) if *to == file => octets.extend(more),
                    Asked::Sync(of) if *of == file => safe = octets.len(),
                    _ => {}
                }
            }
            let kept = safe + random(octets.len() - safe + 1);
            match random(3) {
                // Room was made, but not filled.
                0 => octets[kept..].fill(0),
                _ => octets.truncate(kept),
            }
            std::fs::write(directory.join(name), octets).unwrap();
        }
        all.iter()
            .rev()
            .find_map(|asked| if let Asked::Reported(index) = asked { Some(*index) } else { None })
    }
}

fn apply(asked: &Asked, names: &mut Names) {
    match asked {
        Asked::Name(name, file) => drop(names.insert(name.clone(), *file)),
        Asked::Remove(name) => drop(names.remove(name)),
        Asked::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        _ => {}
    }
}

impl Disk for PowerDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let file = {
            let mut files = self.0.files.lock().unwrap();
            *files += 1;
            *files
        };
        self.ask(Asked::Name(name.into(), file))?;
        Ok(Box::new((self.clone(), file)))
    }

    fn append(&self, name: &str, _length: u64) -> io::Result<Box<dyn Output>> {
        let file = self.names_now().get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new((self.clone(), file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if !self.names_now().contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask(Asked::Rename(from.into(), to.into()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(Asked::Remove(name.into()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names_now().into_keys().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.ask(Asked::SyncNames)
    }
}

impl Output for (PowerDisk, usize) {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.ask(Asked::Write(self.1, octets.to_vec()))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.ask(Asked::Sync(self.1))
    }
}
