//! One child process: its output kept, its end certain.

use super::{DEADLINE, wait};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

pub struct Process {
    child: Mutex<Child>,
    pub pid: u32,
    output: Arc<Mutex<String>>,
}

pub fn command(arguments: &[&str], directory: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_beian-gate")), arguments, directory)
}

fn command_of(binary: &Path, arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(directory).env("NO_COLOR", "1").stdin(Stdio::null());
    // A huge page makes 2 MiB present at its first octet: what a connection costs could not be told.
    command.env("MIMALLOC_ALLOW_THP", "0");
    command
}

impl Process {
    pub fn start(arguments: &[&str], directory: &Path) -> Self {
        Self::of(command(arguments, directory))
    }

    /// Another file than the one that was built.
    pub fn start_binary(binary: &Path, arguments: &[&str], directory: &Path) -> Self {
        Self::of(command_of(binary, arguments, directory))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), Arc::clone(&output));
        collect(child.stderr.take().unwrap(), Arc::clone(&output));
        Self { pid: child.id(), child: Mutex::new(child), output }
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// The URL of a line `  what  url` of the start banner.
    #[track_caller]
    pub fn banner(&self, what: &str) -> String {
        wait(&format!("the banner's {what} line"), || {
            let found = find_line(&self.output(), what);
            if found.is_none() {
                self.assert_running();
            }
            found
        })
    }

    #[track_caller]
    pub fn assert_running(&self) {
        let ended = self.child.lock().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "ended with {ended:?}:\n{}", self.output());
    }

    /// Octets of memory that are its own and present.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&self) -> ExitStatus {
        wait("the process's end", || self.child.lock().unwrap().try_wait().unwrap())
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "{name} to {pid}");
}

/// A process that the one started here started: nobody else ends it.
pub struct Heir(pub u32);

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).output();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- process {} (deadline {DEADLINE:?}) ---\n{}", self.pid, self.output());
        }
    }
}

fn find_line(output: &str, what: &str) -> Option<String> {
    let whole = &output[..=output.rfind('\n')?];
    whole.lines().filter(|line| line.starts_with(char::is_whitespace)).find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == what).then(|| words.next().map(str::to_owned))?
    })
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}
