//! The tables that fields are named from (RFC 7541, 2.3 and appendix A). Pure.

use std::collections::VecDeque;

/// What the dynamic table may hold, as RFC 7541 counts (4.1).
pub(super) const MAX_BYTES: usize = 4096;
/// What an entry counts beside its octets.
pub(super) const ENTRY_BYTES: usize = 32;
/// Octets that entries no longer there may take up before the others are moved together.
const SLACK_BYTES: usize = MAX_BYTES;

/// Index 1 first.
pub(super) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// An entry's place in the text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    name: usize,
    value: usize,
}

/// A dynamic table: the entries' octets in one piece, oldest first.
#[derive(Debug)]
pub(super) struct Table {
    text: Vec<u8>,
    entries: VecDeque<Entry>,
    /// As RFC 7541 counts.
    bytes: usize,
    max_bytes: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { text: Vec::new(), entries: VecDeque::new(), bytes: 0, max_bytes: MAX_BYTES }
    }
}

impl Table {
    /// Name and value at an index of either table; `None`: there is none.
    pub(super) fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        let Some(age) = index.checked_sub(STATIC.len()) else { return Some(STATIC[index]) };
        // The newest entry has the lowest index.
        let newest = self.entries.len().checked_sub(1)?;
        let entry = self.entries.get(newest.checked_sub(age)?)?;
        let (name, value) = self.text[entry.start..].split_at(entry.name);
        Some((name, &value[..entry.value]))
    }

    /// Adds an entry; one that is larger than the table empties it (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len() + ENTRY_BYTES;
        self.evict(self.max_bytes.saturating_sub(bytes));
        if bytes > self.max_bytes {
            return;
        }
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        let (name, value) = (name.len(), value.len());
        let start = self.text.len() - name - value;
        self.entries.push_back(Entry { start, name, value });
        self.bytes += bytes;
    }

    /// Sets what the table may hold; `false`: that is more than was allowed.
    pub(super) fn resize(&mut self, max_bytes: usize) -> bool {
        self.max_bytes = max_bytes.min(MAX_BYTES);
        self.evict(self.max_bytes);
        max_bytes <= MAX_BYTES
    }

    /// What it may hold.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Takes out the oldest entries until the others take up no more than that.
    fn evict(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry.name + entry.value + ENTRY_BYTES;
        }
        let unused = self.entries.front().map_or(self.text.len(), |oldest| oldest.start);
        if unused >= SLACK_BYTES || self.entries.is_empty() {
            self.text.drain(..unused);
            self.entries.iter_mut().for_each(|entry| entry.start -= unused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first() {
        let mut table = Table::default();
        assert_eq!(table.at(0), None);
        assert_eq!(table.at(1), Some((&b":authority"[..], &b""[..])));
        assert_eq!(table.at(61), Some((&b"www-authenticate"[..], &b""[..])));
        assert_eq!(table.at(62), None);
        table.insert(b"a", b"1");
        table.insert(b"b", b"2");
        assert_eq!(table.at(62), Some((&b"b"[..], &b"2"[..])));
        assert_eq!(table.at(63), Some((&b"a"[..], &b"1"[..])));
        assert_eq!(table.at(64), None);
    }

    #[test]
    fn the_oldest_goes() {
        let mut table = Table::default();
        assert!(table.resize(2 * (ENTRY_BYTES + 2)));
        for value in [b"1", b"2", b"3"] {
            table.insert(b"a", value);
        }
        assert_eq!((table.at(63), table.at(64)), (Some((&b"a"[..], &b"2"[..])), None));
        table.insert(b"a", &[b'x'; 100]);
        assert_eq!((table.at(62), table.bytes), (None, 0));
        table.insert(b"a", b"4");
        assert!(table.resize(0) && table.at(62).is_none());
        assert!(!table.resize(MAX_BYTES + 1));
    }

    proptest::proptest! {
        /// Against a list of all that ever came: what is there is the newest, as much as there is room for.
        #[test]
        fn as_a_list(lengths in proptest::collection::vec((0..3000_usize, 0..60_usize), 1..200)) {
            let (mut table, mut all) = (Table::default(), Vec::new());
            for (index, (value, name)) in lengths.into_iter().enumerate() {
                let octet = u8::try_from(index % 256).unwrap();
                all.push((vec![octet; name], vec![octet; value]));
                table.insert(&all[index].0, &all[index].1);
                let mut bytes = 0;
                for (age, (name, value)) in all.iter().rev().enumerate() {
                    bytes += name.len() + value.len() + ENTRY_BYTES;
                    let expected = (bytes <= MAX_BYTES).then_some((&name[..], &value[..]));
                    proptest::prop_assert_eq!(table.at(62 + age), expected);
                    if expected.is_none() {
                        break;
                    }
                }
                proptest::prop_assert!(table.text.len() <= MAX_BYTES + SLACK_BYTES);
            }
        }
    }
}
