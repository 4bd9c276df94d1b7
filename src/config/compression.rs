//! `[compression]` and `[site.compression]`: which answers are compressed, and how.

use std::sync::Arc;

/// What is compressed where nobody says: what is text.
pub const DEFAULT_TYPES: [&str; 12] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/javascript",
    "text/xml",
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/problem+json",
    "application/xml",
    "application/rss+xml",
    "image/svg+xml",
];
/// Octets below which compressing costs more than it saves.
pub const DEFAULT_MIN_LENGTH: u64 = 1024;
/// Answers that one worker compresses at once.
pub const DEFAULT_STREAMS: usize = 256;

/// A content coding that answers are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// gzip
    Gzip,
    /// Brotli
    Brotli,
    /// Zstandard
    Zstd,
}

impl Algorithm {
    /// In the order of preference where nobody says.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `Accept-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// How hard each tries: pages are made while someone waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// 1 to 9.
    pub gzip: u8,
    /// 1 to 6: beyond, a stream would hold tens of megabytes.
    pub brotli: u8,
    /// 1 to 9.
    pub zstd: u8,
}

impl Default for Levels {
    fn default() -> Self {
        Self { gzip: 5, brotli: 4, zstd: 3 }
    }
}

/// One of the sections: what it says, and what it leaves to the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompressionKeys {
    /// `false`: nothing is compressed here.
    pub enabled: Option<bool>,
    /// `text/html`, `text/*`; in lower case.
    pub types: Option<Vec<Arc<str>>>,
    /// Octets of a body whose length is announced.
    pub min_length: Option<u64>,
    /// The best first.
    pub algorithms: Option<Vec<Algorithm>>,
    /// How hard each tries.
    pub level: Option<Levels>,
    /// Answers that one worker compresses at once; further ones pass as they come.
    pub streams: Option<usize>,
}

/// What is compressed at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `CompressionKeys`")]
pub struct Compression {
    pub types: Vec<Arc<str>>,
    pub min_length: u64,
    pub algorithms: Vec<Algorithm>,
    pub level: Levels,
    pub streams: usize,
}

impl Compression {
    /// Of the section of a site and the one for all; `None`: nothing is compressed.
    #[must_use]
    pub fn new(own: Option<&CompressionKeys>, all: Option<&CompressionKeys>) -> Option<Self> {
        let is_enabled = match (own, all) {
            (Some(own), _) => own.enabled.unwrap_or(true),
            (None, Some(all)) => all.enabled.unwrap_or(true),
            (None, None) => false,
        };
        if !is_enabled {
            return None;
        }
        fn pick<T: Clone>(
            own: Option<&CompressionKeys>,
            all: Option<&CompressionKeys>,
            key: impl Fn(&CompressionKeys) -> Option<T>,
        ) -> Option<T> {
            own.and_then(&key).or_else(|| all.and_then(&key))
        }
        let default_types = || DEFAULT_TYPES.map(Arc::from).to_vec();
        Some(Self {
            types: pick(own, all, |it| it.types.clone()).unwrap_or_else(default_types),
            min_length: pick(own, all, |it| it.min_length).unwrap_or(DEFAULT_MIN_LENGTH),
            algorithms: pick(own, all, |it| it.algorithms.clone()).unwrap_or_else(|| Algorithm::ALL.to_vec()),
            level: pick(own, all, |it| it.level).unwrap_or_default(),
            streams: pick(own, all, |it| it.streams).unwrap_or(DEFAULT_STREAMS),
        })
    }
}
