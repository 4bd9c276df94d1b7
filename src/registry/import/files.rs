//! Which file, which format, compressed or not.

use super::{Format, ImportError, Wanting};
use crate::registry::rules::{self, Refusal};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BUFFER_BYTES: usize = 256 << 10;
const COMPRESSION_LEVEL: i32 = 3;
/// What zstd's frames begin with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The format that a name's extension says, and whether it is compressed.
fn kind_of(path: &Path) -> Result<(Format, bool), ImportError> {
    let name = path.to_string_lossy();
    let (plain, is_compressed) = match name.strip_suffix(".zst") {
        Some(plain) => (plain, true),
        None => (&*name, false),
    };
    let format = match Path::new(plain).extension().and_then(|it| it.to_str()) {
        Some("csv") => Format::Csv,
        Some("ndjson" | "jsonl") => Format::Ndjson,
        Some("map" | "lst" | "list") => Format::Map,
        _ => {
            return Err(ImportError::File(format!(
                "can't tell the format of {name}: name it .csv, .ndjson, .jsonl or .map, with .zst after it if compressed, or give --format"
            )));
        }
    };
    Ok((format, is_compressed))
}

/// Whether the path stands for standard input or output.
pub(super) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> ImportError + '_ {
    move |source| ImportError::Io { path: path.to_owned(), source }
}

/// What an import reads.
pub struct Source {
    pub(super) reader: Box<dyn BufRead + Send>,
    pub(super) format: Format,
    /// For messages.
    pub(super) path: PathBuf,
    pub(super) wanting: Wanting,
    /// For the change log.
    pub(super) why: Option<Arc<str>>,
    octets_read: Arc<AtomicU64>,
    octets: Option<u64>,
}

impl Source {
    /// Opens a file, or standard input for `-`. What `format` leaves open a file's name says; standard input is NDJSON
    /// where it begins with `{`, else CSV.
    ///
    /// # Errors
    /// Where the file can't be read, or nothing says what it is.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, ImportError> {
        let failed = io_error(path);
        let octets_read = Arc::<AtomicU64>::default();
        let count = octets_read.clone();
        let (reader, format, octets) = if is_standard(path) {
            let mut input = BufReader::with_capacity(BUFFER_BYTES, Counted { reader: io::stdin(), count });
            let is_compressed = input.fill_buf().map_err(&failed)?.starts_with(&ZSTD_MAGIC);
            let mut input: Box<dyn BufRead + Send> =
                if is_compressed { decompressed(input).map_err(&failed)? } else { Box::new(input) };
            let begins_object = input.fill_buf().map_err(&failed)?.trim_ascii_start().starts_with(b"{");
            let seems = if begins_object { Format::Ndjson } else { Format::Csv };
            (input, format.unwrap_or(seems), None)
        } else {
            let (format, is_compressed) = match format {
                Some(format) => (format, path.extension().is_some_and(|it| it == "zst")),
                None => kind_of(path)?,
            };
            let file = File::open(path).map_err(&failed)?;
            let found = file.metadata().map_err(&failed)?;
            let file = Counted { reader: file, count };
            let reader: Box<dyn BufRead + Send> = if is_compressed {
                decompressed(file).map_err(&failed)?
            } else {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
            };
            (reader, format, found.is_file().then_some(found.len()))
        };
        let (path, wanting) = (path.to_owned(), Wanting::default());
        Ok(Self { reader, format, path, wanting, why: None, octets_read, octets })
    }

    /// Rows from somewhere else.
    pub fn of(reader: impl Read + Send + 'static, format: Format) -> Self {
        let octets_read = Arc::<AtomicU64>::default();
        let reader = Counted { reader, count: octets_read.clone() };
        let reader = Box::new(BufReader::with_capacity(BUFFER_BYTES, reader));
        let path = "the import".into();
        Self { reader, format, path, wanting: Wanting::default(), why: None, octets_read, octets: None }
    }

    /// With what its rows leave out.
    #[must_use]
    pub fn with(self, wanting: Wanting) -> Self {
        Self { wanting, ..self }
    }

    /// With what the change log says of why.
    ///
    /// # Errors
    /// `invalid_text`.
    pub fn because(self, reason: Option<String>) -> Result<Self, Refusal> {
        Ok(Self { why: rules::text("reason", reason)?.map(Into::into), ..self })
    }

    /// How many octets of the file were read so far.
    #[must_use]
    pub fn octets_read(&self) -> Arc<AtomicU64> {
        self.octets_read.clone()
    }

    /// How many there are, where that is known.
    #[must_use]
    pub fn octets(&self) -> Option<u64> {
        self.octets
    }
}

/// Counts what is read through it.
struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn decompressed(from: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::Decoder::new(from)?)))
}

/// A file being written, which takes its name only once it is whole.
pub(super) enum Target {
    Standard(BufWriter<io::Stdout>),
    Plain(BufWriter<File>),
    Compressed(zstd::Encoder<'static, BufWriter<File>>),
}

impl Target {
    /// Opens `path` to write at `temporary`, or standard output (as CSV).
    pub(super) fn create(path: &Path, temporary: &Path) -> Result<(Self, Format), ImportError> {
        if is_standard(path) {
            return Ok((Self::Standard(BufWriter::new(io::stdout())), Format::Csv));
        }
        let failed = io_error(path);
        let (format, is_compressed) = kind_of(path)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(temporary).map_err(&failed)?);
        let target = if is_compressed {
            Self::Compressed(zstd::Encoder::new(file, COMPRESSION_LEVEL).map_err(&failed)?)
        } else {
            Self::Plain(file)
        };
        Ok((target, format))
    }

    /// Writes what is still held back, to the disk.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut file = match self {
            Self::Standard(mut output) => return output.flush(),
            Self::Plain(file) => file,
            Self::Compressed(encoder) => encoder.finish()?,
        };
        file.flush()?;
        file.get_ref().sync_all()
    }
}

impl Write for Target {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(it) => it.write(octets),
            Self::Plain(it) => it.write(octets),
            Self::Compressed(it) => it.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(it) => it.flush(),
            Self::Plain(it) => it.flush(),
            Self::Compressed(it) => it.flush(),
        }
    }
}
