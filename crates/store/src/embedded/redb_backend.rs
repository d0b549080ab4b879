//! The backend on disk: one redb file. A batch is one transaction with one fsync; pages carry
//! checksums, so that a torn write is found and the state before it used.
//!
//! Records lie in the order of their revisions, not of their keys: the store has the keys in memory,
//! and so the records of a batch fill a few pages at the end of the tree instead of touching one
//! page each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::backend::{Backend, BackendError, Batch, Lease, Loaded, Record};

/// Revision to record; only what is present.
const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
/// Facts of the store as a whole.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// In [`META`]: the last revision.
const REVISION: &str = "revision";
/// In [`META`]: how values are laid out.
const FORMAT: &str = "format";
/// The only layout so far: create revision, seconds to live (0: for ever), expiry (milliseconds since
/// 1970) and length of the key, eight bytes each, little-endian; then key and value.
const FORMAT_1: u64 = 1;
/// Length of what stands before the key.
const HEADER: usize = 32;
/// Everything is in the store's own memory, so the file needs little.
const CACHE_BYTES: usize = 4 << 20;

/// One redb file.
pub struct RedbBackend {
    path: PathBuf,
    /// Closed after a failed commit: redb refuses to go on until it is opened anew.
    database: Mutex<Option<Database>>,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> BackendError {
    move |error| BackendError { what, why: error.to_string() }
}

impl RedbBackend {
    /// Opens the file at `path`, creating it where missing; the directory must exist. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no store, is of another format or is open elsewhere.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BackendError> {
        let path = path.as_ref().to_owned();
        if !path.exists() {
            create(&path)?;
        }
        let database = open(&path)?;
        Ok(Self { path, database: Mutex::new(Some(database)) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().expect("no panic while held")
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, BackendError>) -> Result<T, BackendError> {
        let mut slot = self.lock();
        let database = match slot.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        work(slot.insert(database))
    }
}

/// A database with its tables appears under its name whole or not at all.
fn create(path: &Path) -> Result<(), BackendError> {
    const WHAT: &str = "create the database";
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(WHAT)(error)),
        _ => {}
    }
    let database = builder().create(&new).map_err(failed(WHAT))?;
    let transaction = database.begin_write().map_err(failed(WHAT))?;
    {
        transaction.open_table(RECORDS).map_err(failed(WHAT))?;
        let mut meta = transaction.open_table(META).map_err(failed(WHAT))?;
        meta.insert(FORMAT, FORMAT_1).map_err(failed(WHAT))?;
        meta.insert(REVISION, 0).map_err(failed(WHAT))?;
    }
    transaction.commit().map_err(failed(WHAT))?;
    database.close().map_err(failed(WHAT))?;
    let sync = |path: &Path| fs::File::open(path)?.sync_all();
    sync(&new).and_then(|()| fs::rename(&new, path)).map_err(failed(WHAT))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(directory).map_err(failed(WHAT))
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open(path: &Path) -> Result<Database, BackendError> {
    const WHAT: &str = "open the database";
    let database = builder().open(path).map_err(failed(WHAT))?;
    let transaction = database.begin_read().map_err(failed(WHAT))?;
    let meta = transaction.open_table(META).map_err(failed(WHAT))?;
    let format = meta.get(FORMAT).map_err(failed(WHAT))?.map(|format| format.value());
    if format != Some(FORMAT_1) {
        let why = format!("{} has format {format:?}, {FORMAT_1} is understood", path.display());
        return Err(BackendError { what: WHAT, why });
    }
    drop(meta);
    transaction.close().map_err(failed(WHAT))?;
    Ok(database)
}

fn commit(database: &Database, batch: &Batch) -> Result<(), BackendError> {
    const WHAT: &str = "commit";
    let mut new: BTreeMap<u64, (&str, &Record)> = BTreeMap::new();
    let mut old: BTreeSet<u64> = BTreeSet::new();
    for change in &batch.changes {
        // What is replaced within the batch never reaches the disk.
        old.extend(change.replaces.filter(|replaced| new.remove(replaced).is_none()));
        new.extend(change.record.as_ref().map(|record| (change.revision, (&*change.key, record))));
    }
    let mut transaction = database.begin_write().map_err(failed(WHAT))?;
    transaction.set_durability(Durability::Immediate).map_err(failed(WHAT))?;
    {
        let mut records = transaction.open_table(RECORDS).map_err(failed(WHAT))?;
        for revision in old {
            records.remove(revision).map_err(failed(WHAT))?;
        }
        for (revision, (key, record)) in new {
            let length = HEADER + key.len() + record.value.len();
            let mut place = records.insert_reserve(revision, length).map_err(failed(WHAT))?;
            encode(key, record, place.as_mut());
        }
        let mut meta = transaction.open_table(META).map_err(failed(WHAT))?;
        meta.insert(REVISION, batch.revision()).map_err(failed(WHAT))?;
    }
    transaction.commit().map_err(failed(WHAT))
}

fn read_revision(database: &Database) -> Result<u64, BackendError> {
    const WHAT: &str = "read the revision";
    let transaction = database.begin_read().map_err(failed(WHAT))?;
    let meta = transaction.open_table(META).map_err(failed(WHAT))?;
    let revision = meta.get(REVISION).map_err(failed(WHAT))?;
    Ok(revision.map(|revision| revision.value()).unwrap_or_default())
}

fn load(database: &Database) -> Result<Loaded, BackendError> {
    const WHAT: &str = "load";
    let revision = read_revision(database)?;
    let transaction = database.begin_read().map_err(failed(WHAT))?;
    let table = transaction.open_table(RECORDS).map_err(failed(WHAT))?;
    let count = table.len().map_err(failed(WHAT))?;
    let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    for item in table.iter().map_err(failed(WHAT))? {
        let (mod_revision, content) = item.map_err(failed(WHAT))?;
        let record = decode(mod_revision.value(), content.value());
        records.push(record.ok_or_else(|| {
            let why = format!("the record of revision {} is damaged", mod_revision.value());
            BackendError { what: WHAT, why }
        })?);
    }
    Ok(Loaded { revision, records })
}

fn encode(key: &str, record: &Record, place: &mut [u8]) {
    let lease = record.lease.unwrap_or(Lease { ttl_seconds: 0, expires_ms: 0 });
    let words = [record.create_revision, lease.ttl_seconds, lease.expires_ms.cast_unsigned(), key.len() as u64];
    for (word, place) in words.iter().zip(place.chunks_exact_mut(8)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let (key_place, value_place) = place[HEADER..].split_at_mut(key.len());
    key_place.copy_from_slice(key.as_bytes());
    value_place.copy_from_slice(&record.value);
}

fn decode(mod_revision: u64, content: &[u8]) -> Option<(Arc<str>, Record)> {
    let (header, rest) = content.split_at_checked(HEADER)?;
    let word = |index: usize| Some(u64::from_le_bytes(header[index * 8..][..8].try_into().ok()?));
    let (create_revision, ttl_seconds, expires_ms) = (word(0)?, word(1)?, word(2)?.cast_signed());
    let (key, value) = rest.split_at_checked(usize::try_from(word(3)?).ok()?)?;
    let lease = (ttl_seconds > 0).then_some(Lease { ttl_seconds, expires_ms });
    let record = Record { value: Bytes::copy_from_slice(value), create_revision, mod_revision, lease };
    Some((Arc::from(std::str::from_utf8(key).ok()?), record))
}

impl Backend for RedbBackend {
    fn load(&self) -> Result<Loaded, BackendError> {
        self.with(load)
    }

    fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        let result = self.with(|database| commit(database, batch));
        if result.is_err() {
            *self.lock() = None;
        }
        result
    }

    fn revision(&self) -> Result<u64, BackendError> {
        self.with(read_revision)
    }
}
