//! Where the running gate's admin API is: a file beside the saved state, for commands that want to ask it.
//!
//! The config does not tell where port 0 ended up. A file that a crash left behind names an address where
//! nobody answers, which callers take as no gate.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

const FILE: &str = "admin.address";

/// Says that the admin API of the gate with this data directory is at `address`.
///
/// # Errors
/// Where the directory can't be written.
pub fn publish(directory: &Path, address: SocketAddr) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let aside = directory.join(format!("{FILE}.new"));
    std::fs::write(&aside, format!("{address}\n"))?;
    std::fs::rename(aside, directory.join(FILE))
}

/// Takes back what `publish` said, at the end of the gate.
pub fn withdraw(directory: &Path) {
    // What stays behind names an address where nobody answers.
    let _ = std::fs::remove_file(directory.join(FILE));
}

/// This host's name, as far as a gate may be called so.
pub fn host_name() -> String {
    const MOST: usize = 64;
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_good = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let name: String = name.chars().filter(is_good).take(MOST).collect();
    if name.is_empty() { "gate".to_owned() } else { name }
}

/// Where a gate with this data directory says that it is.
pub fn find(directory: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(directory.join(FILE)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_found_until_withdrawn() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("data");
        assert_eq!(find(&directory), None);
        let address = "127.0.0.1:9090".parse().unwrap();
        publish(&directory, address).unwrap();
        assert_eq!(find(&directory), Some(address));
        withdraw(&directory);
        assert_eq!(find(&directory), None);
        withdraw(&directory);
    }
}
