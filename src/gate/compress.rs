//! Which answers are compressed, and with what: by what the site wants and what the client takes. Pure, but for the count
//! of those that a worker has under way.
//!
//! Sources: RFC 9110, 8.4 (content codings), 12.5.3 (Accept-Encoding), 12.5.5 (Vary), 8.8.3 (ETag).

use crate::config::{Algorithm, Compression, CompressionKeys, Levels};
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head::ResponseHead;
use crate::gate::request::{RequestHead, Version, list_elements};
use crate::gate::transform::{Coding, fields};
use crate::telemetry::WorkerCounters;
use std::cell::Cell;
use std::sync::Arc;

/// What a stream that is compressed holds at most, by the levels and windows that are allowed: Brotli's at its highest
/// level, a window of 256 KiB, and the buffers on both sides.
pub const STREAM_BYTES: usize = 4 << 20;

thread_local! {
    /// Streams of this worker's that are compressed now.
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
}

/// A stream's place among those that a worker compresses at once.
#[derive(Debug)]
pub struct Place(());

impl Place {
    /// `None`: there are so many already.
    fn take(most: usize) -> Option<Self> {
        let now = UNDER_WAY.get();
        (now < most).then(|| {
            UNDER_WAY.set(now + 1);
            Self(())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.set(UNDER_WAY.get().saturating_sub(1));
    }
}

/// What of the sites is compressed: those that say nothing share what holds for all.
#[derive(Debug)]
pub struct Compressions {
    keys: Option<CompressionKeys>,
    of_all: Option<Arc<Compressor>>,
}

impl Compressions {
    /// Of the section for all.
    #[must_use]
    pub fn new(keys: Option<&CompressionKeys>) -> Self {
        Self { keys: keys.cloned(), of_all: Compressor::new(None, keys) }
    }

    /// Of a site; `None`: nothing is compressed there.
    #[must_use]
    pub fn of(&self, own: Option<&CompressionKeys>) -> Option<Arc<Compressor>> {
        match own {
            None => self.of_all.clone(),
            own => Compressor::new(own, self.keys.as_ref()),
        }
    }
}

/// Compresses the answers of a site.
#[derive(Debug)]
pub struct Compressor(Compression);

/// What is to become of an answer that may be compressed.
#[derive(Debug)]
pub enum Choice {
    /// It passes as it came.
    None,
    /// It would be compressed, but there is no room.
    NoRoom,
    /// It is compressed; a place for it.
    With(Coding, Place),
}

impl Choice {
    /// The coding and its place, counted; nothing where it passes as it came.
    #[must_use]
    pub fn counted(self, counters: &WorkerCounters) -> Option<(Coding, Place)> {
        match self {
            Self::None => None,
            Self::NoRoom => {
                counters.one(|c| &c.not_compressed);
                None
            }
            Self::With(coding, place) => {
                counters.one(|c| &c.compressed);
                Some((coding, place))
            }
        }
    }
}

impl Compressor {
    fn new(own: Option<&CompressionKeys>, all: Option<&CompressionKeys>) -> Option<Arc<Self>> {
        Compression::new(own, all).map(|it| Arc::new(Self(it)))
    }

    /// How hard each algorithm tries.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.0.level
    }

    /// What is to become of an answer. Says in its head that it depends on what the client takes, where it does.
    pub fn choose(&self, request: &RequestHead, response: &mut ResponseHead) -> Choice {
        let accepted = || accepted(request, &self.0.algorithms);
        if response.status == 304 {
            // Of an answer that was compressed, the validator was weakened: it is the same still.
            if accepted().is_some() {
                fields::weaken_etag(response);
            }
            return Choice::None;
        }
        if !self.is_compressible(request, response) {
            return Choice::None;
        }
        fields::vary(response, "accept-encoding");
        let Some(algorithm) = accepted() else { return Choice::None };
        match Place::take(self.0.streams) {
            Some(place) => Choice::With(coding(algorithm), place),
            None => Choice::NoRoom,
        }
    }

    /// Whether the answer is of a kind that is compressed for whoever takes that.
    fn is_compressible(&self, request: &RequestHead, response: &ResponseHead) -> bool {
        let is_whole = response.status >= 200 && !matches!(response.status, 204..=206);
        let is_long_enough = match response.framing {
            Framing::Length(octets) => octets >= self.0.min_length.max(1),
            Framing::Empty => false,
            Framing::Chunked | Framing::UntilClose => true,
        };
        // Of a HEAD's answer the length is all that is known, and that may be left out.
        let is_long_enough = is_long_enough || (request.is_head() && response.framing == Framing::Empty);
        is_whole
            && is_long_enough
            && request.version != Version::Http10
            && self.is_of_type(response)
            && fields::values(response, "content-encoding").flat_map(list_elements).next().is_none()
            && fields::may_change(request, response)
    }

    fn is_of_type(&self, response: &ResponseHead) -> bool {
        let Some(value) = fields::only(response, "content-type") else { return false };
        let essence = value.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
        self.0.types.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(kind) => {
                essence.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()))
            }
            None => essence.eq_ignore_ascii_case(wanted.as_bytes()),
        })
    }
}

fn coding(algorithm: Algorithm) -> Coding {
    match algorithm {
        Algorithm::Gzip => Coding::Gzip,
        Algorithm::Brotli => Coding::Brotli,
        Algorithm::Zstd => Coding::Zstd,
    }
}

/// The algorithm that the client likes best, the first of those that it likes as much; `None`: none at all, or nothing
/// as well as an answer that is not compressed.
fn accepted(request: &RequestHead, algorithms: &[Algorithm]) -> Option<Algorithm> {
    let fields = request.fields.iter().map(|field| request.field(field));
    let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding"));
    let mut weights: [Option<u16>; 3] = [None; 3];
    let (mut others, mut identity) = (None, None);
    for element in values.flat_map(|(_, value)| list_elements(value)) {
        let Some((name, weight)) = weighed(element) else { continue };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let slot = match () {
            () if is("*") => &mut others,
            () if is("identity") => &mut identity,
            () => match algorithms.iter().position(|it| is(it.as_str())) {
                Some(place) => &mut weights[place],
                None if is("x-gzip") => match algorithms.iter().position(|it| *it == Algorithm::Gzip) {
                    Some(place) => &mut weights[place],
                    None => continue,
                },
                None => continue,
            },
        };
        *slot = Some(weight);
    }
    let weight = |place: usize| weights[place].or(others).unwrap_or(0);
    let best = (0..algorithms.len()).rev().max_by_key(|place| weight(*place))?;
    let is_good = weight(best) > 0 && weight(best) >= identity.unwrap_or(0);
    is_good.then(|| algorithms[best])
}

/// `gzip`, `gzip;q=0.5`: the name, and its weight in thousandths. `None`: it is not written so.
fn weighed(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|octet| *octet == b';').map(<[u8]>::trim_ascii);
    let name = parts.next()?;
    let Some(parameter) = parts.next() else { return Some((name, 1000)) };
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut thousandths = 0_u16;
    for place in 0..3 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths = thousandths * 10 + u16::from(digit - b'0');
    }
    match whole {
        b'0' => Some((name, thousandths)),
        b'1' if thousandths == 0 => Some((name, 1000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::http1::head::{HeadLimits, parse_request};

    #[track_caller]
    fn check(fields: &str, expected: Option<&str>) {
        let raw = format!("GET / HTTP/1.1\r\nHost: a.cn\r\n{fields}\r\n");
        let mut request = RequestHead::default();
        parse_request(raw.as_bytes(), HeadLimits { bytes: 4096, fields: 20 }, &mut request).unwrap();
        assert_eq!(accepted(&request, &Algorithm::ALL).map(Algorithm::as_str), expected, "{fields}");
    }

    #[test]
    fn what_clients_take() {
        check("", None);
        check("Accept-Encoding: \r\n", None);
        check("Accept-Encoding: deflate, compress\r\n", None);
        check("Accept-Encoding: gzip, deflate, br, zstd\r\n", Some("zstd"));
        check("Accept-Encoding: gzip\r\naccept-encoding: br\r\n", Some("br"));
        check("Accept-Encoding: GZip\r\n", Some("gzip"));
        check("Accept-Encoding: x-gzip\r\n", Some("gzip"));
        check("Accept-Encoding: *\r\n", Some("zstd"));
        check("Accept-Encoding: *;q=0.5, zstd;q=0\r\n", Some("br"));
        check("Accept-Encoding: gzip;q=1.0, br;q=0.9\r\n", Some("gzip"));
        check("Accept-Encoding: gzip; q=0.001 , br ;q=0\r\n", Some("gzip"));
        check("Accept-Encoding: gzip;q=0, *;q=0\r\n", None);
        check("Accept-Encoding: identity, gzip;q=0.9\r\n", None);
        check("Accept-Encoding: identity;q=0.5, gzip;q=0.5\r\n", Some("gzip"));
        check("Accept-Encoding: identity;q=0\r\n", None);
        for malformed in
            ["gzip;q=1.1", "gzip;q=2", "gzip;q=0.0001", "gzip;q=", "gzip;q=-1", "gzip;r=1", "gzip;q=0.x"]
        {
            check(&format!("Accept-Encoding: {malformed}\r\n"), None);
        }
    }

    #[test]
    fn places_are_given_back() {
        let taken: Vec<_> = (0..3).filter_map(|_| Place::take(2)).collect();
        assert_eq!(taken.len(), 2);
        drop(taken);
        assert!(Place::take(1).is_some());
    }
}
