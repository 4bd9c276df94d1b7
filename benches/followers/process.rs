//! The product's own processes: started, read from, measured, ended.

use super::DEADLINE;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Clock ticks a second in /proc: 100 on every Linux that there is.
const TICKS: u64 = 100;

/// One that runs until it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: std::cell::RefCell<Vec<String>>,
}

fn command(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beian-gate"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command
}

/// Runs one that ends by itself; gives the most memory that it was seen to take, in KiB.
pub(crate) fn run_to_end(arguments: &[&str], directory: &Path) -> u64 {
    let said = std::fs::File::create(directory.join("said")).unwrap();
    let mut child = command(arguments, directory).stdout(Stdio::null()).stderr(said).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        most = memory_kib(child.id(), "VmHWM:").unwrap_or(most);
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = std::fs::read_to_string(directory.join("said")).unwrap();
    let said = said.lines().take(20).collect::<Vec<_>>().join("\n");
    assert!(status.success(), "{arguments:?}: {said}");
    most
}

/// A figure of `/proc/PID/status`; none once the process is gone.
pub(crate) fn memory_kib(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

impl Process {
    pub(crate) fn start(arguments: &[&str], directory: &Path) -> Self {
        let mut child = command(arguments, directory).stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|it| send.send(it)));
        Self { child, lines, seen: Default::default() }
    }

    /// The URL that it says it has for this.
    pub(crate) fn url(&self, what: &str) -> String {
        loop {
            for line in self.seen.borrow().iter() {
                let mut words = line.split_whitespace();
                if line.starts_with(' ') && words.next() == Some(what) {
                    return words.next().unwrap().to_owned();
                }
            }
            let line = self.lines.recv_timeout(DEADLINE).expect("it says where it is");
            self.seen.borrow_mut().push(line);
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process, in user and kernel (proc(5), fields 14 and 15).
fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Processor time of a gate's workers, without what its other threads took.
pub(crate) fn cpu_of_workers(pid: u32) -> Duration {
    let of_worker = |task: std::fs::DirEntry| {
        let is_worker = std::fs::read_to_string(task.path().join("comm")).ok()?.starts_with("worker-");
        // Nanoseconds on a processor come first.
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok().filter(|_| is_worker)?;
        stat.split(' ').next()?.parse::<u64>().ok()
    };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    Duration::from_nanos(tasks.map(|task| task.unwrap()).filter_map(of_worker).sum())
}

/// Whose threads are to step aside.
pub(crate) enum Threads {
    All,
    /// That which the process began with.
    First,
}

/// Lets threads of a process that stands for other machines run when nobody else wants to. A lower priority alone
/// would not do: the kernel takes the processor from such a thread at a tick, and that is milliseconds late.
pub(crate) fn step_aside(pid: u32, threads: &Threads) {
    let mut command = Command::new("chrt");
    if matches!(threads, Threads::All) {
        command.arg("--all-tasks");
    }
    let done = command.args(["--idle", "--pid", "0", &pid.to_string()]).status().unwrap();
    assert!(done.success(), "chrt (util-linux) can't make {pid} idle");
}
