//! A real PostgreSQL server for tests: its own directory, a Unix socket, an unprivileged user; gone with who started it.
//!
//! Where Debian's package is not installed there is none, which is said on standard error, and is a failure in CI.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(60);
/// Runs the server until standard input ends, then removes everything.
const WATCH: &str = "dir=$1; shift; \"$@\" >>\"$dir/log\" 2>&1 & pid=$!; read -r _; kill -QUIT $pid 2>/dev/null; \
                     wait $pid; [ -e \"$dir/keep\" ] || rm -rf \"$dir\"";

/// A server.
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    watch: Option<Child>,
    databases: AtomicUsize,
}

impl Postgres {
    /// Makes and starts one; `None` where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed: .ci/run installs it");
            let mut out = std::io::stderr();
            let _ = writeln!(out, "!!! SKIPPED on PostgreSQL: /usr/lib/postgresql/*/bin/initdb is missing");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("bg-pg-").tempdir().unwrap().keep();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = Self { directory, programs, watch: None, databases: AtomicUsize::new(0) };
        let home = server.directory.join("home");
        std::fs::create_dir(&home).unwrap();
        if is_root() {
            let owner = Command::new("chown").arg("postgres").arg(&home).status().unwrap();
            assert!(owner.success(), "the package makes the user postgres");
        }
        let made = server
            .as_owner("initdb")
            .args(["-U", "beian", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.resume();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("home/data")
    }

    /// Where its programs are.
    #[allow(dead_code, reason = "not every test binary calls one")]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The directory of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// A program of PostgreSQL, as someone whom it lets run it.
    fn as_owner(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.socket()).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Starts it, or starts it again.
    pub fn resume(&mut self) {
        let server = self.as_owner("postgres");
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "sh"]).arg(&self.directory);
        watch.arg(server.get_program()).args(server.get_args());
        watch.arg("-D").arg(self.data()).arg("-k").arg(self.socket());
        for setting in ["listen_addresses=", "fsync=off", "max_connections=300", "shared_buffers=32MB"] {
            watch.args(["-c", setting]);
        }
        watch.current_dir(self.socket()).env("LC_ALL", "C.UTF-8").stdin(Stdio::piped());
        self.watch = Some(watch.spawn().unwrap());
        let until = Instant::now() + START;
        while !self.is_ready() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "PostgreSQL does not start:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let ready = self.as_owner("pg_isready").arg("-q").arg("-h").arg(self.socket()).status();
        ready.is_ok_and(|it| it.success())
    }

    /// Stops it as a crash would; what it holds stays.
    #[allow(dead_code, reason = "not every test binary stops one")]
    pub fn pause(&mut self) {
        std::fs::write(self.directory.join("keep"), "").unwrap();
        self.end();
        std::fs::remove_file(self.directory.join("keep")).unwrap();
    }

    fn end(&mut self) {
        let Some(mut watch) = self.watch.take() else { return };
        drop(watch.stdin.take());
        let _ = watch.wait();
    }

    /// The URL of a new database.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://beian@localhost/{name}?host={}", self.socket().display())
    }

    /// Runs statements; gives what they answer, unaligned.
    pub fn run(&self, database: &str, sql: &str) -> String {
        let mut psql = self.as_owner("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "beian",
            "-d",
            database,
            "-c",
            sql,
        ]);
        let done = psql.arg("-h").arg(self.socket()).output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

/// Where the newest installed version's programs are.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = versions.filter_map(|it| Some(it.ok()?.path()));
    let newest = installed.filter(|it| it.join("bin/initdb").exists()).max_by_key(|it| version(it))?;
    Some(newest.join("bin"))
}
