//! docs/tutorial.md, command by command, in a shell: an nginx, the gate before it, a filing that comes and goes.

use crate::walkthrough::{Part, Said, holds, parts};
use crate::world::wait;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const TEXT: &str = include_str!("../../docs/tutorial.md");

/// A shell in a directory of its own, on a loopback address of its own: the tutorial's ports are fixed.
struct Shell {
    directory: tempfile::TempDir,
    address: String,
    path: String,
    running: Vec<Child>,
}

impl Shell {
    fn new() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_beian-gate"));
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            directory: tempfile::tempdir().unwrap(),
            address: format!("127.{}.{}.{}", 1 + high % 254, low, 77),
            path: format!("{}:{path}:/usr/sbin:/sbin", binary.parent().unwrap().display()),
            running: Vec::new(),
        }
    }

    fn here(&self, text: &str) -> String {
        text.replace("127.0.0.1", &self.address)
    }

    fn command(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(self.here(command)).current_dir(self.directory.path());
        shell.env("PATH", &self.path).env("NO_COLOR", "1").stdin(Stdio::null());
        shell
    }

    fn output(&self, command: &str) -> String {
        let output = self.command(command).output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }

    #[track_caller]
    fn do_(&mut self, said: &Said) {
        if let Some(command) = said.command.strip_suffix(" &") {
            // `exec`: what is started is what is ended.
            let log =
                std::fs::File::create(self.directory.path().join(format!("out.{}", self.running.len())));
            let mut started = self.command(&format!("exec {command}"));
            started.stderr(log.unwrap()).stdout(Stdio::null());
            self.running.push(started.spawn().unwrap());
            return;
        }
        let is_said = |output: &str| said.lines.iter().all(|line| holds(output, &self.here(line)));
        let may_repeat = (said.command.starts_with("curl") && !said.command.contains("-X"))
            || said.command.starts_with("beian-gate check");
        if may_repeat {
            // What was started, or changed, is there a moment later.
            let mut last = String::new();
            wait(&format!("{}: {:?}", said.command, said.lines), || {
                last = self.output(&said.command);
                is_said(&last).then_some(())
            });
        } else {
            let output = self.output(&said.command);
            assert!(is_said(&output), "{}\nsays\n{output}\nand not {:?}", said.command, said.lines);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for child in &mut self.running {
            // nginx's own children end with it when it is asked to stop.
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for log in ["out.0", "out.1", "error.log"] {
                eprintln!(
                    "--- {log}\n{}",
                    std::fs::read_to_string(self.directory.path().join(log)).unwrap_or_default()
                );
            }
        }
    }
}

#[test]
fn from_nothing_to_a_protected_nginx() {
    let mut shell = Shell::new();
    if !shell.output("command -v nginx && command -v curl").contains("curl") {
        eprintln!("SKIPPED: no nginx, or no curl (Debian: apt-get install nginx-light curl)");
        return;
    }
    let parts = parts(TEXT);
    assert!(parts.len() > 18, "the commands are found: {}", parts.len());
    for part in &parts {
        match part {
            Part::File { name, text } => {
                std::fs::write(shell.directory.path().join(name), shell.here(text)).unwrap();
            }
            Part::Command(said) => shell.do_(said),
        }
    }
}

/// What the pages in Chinese show is what the others show.
#[test]
fn translations_are_in_step() {
    for name in ["tutorial", "warnings", "walkthrough", "operations", "configuration", "audit"] {
        let read = |suffix: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}{suffix}.md"));
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let blocks = |text: &str| -> Vec<String> {
            text.split("\n```").skip(1).step_by(2).map(str::to_owned).collect()
        };
        let levels = |text: &str| -> Vec<usize> {
            text.lines()
                .filter_map(|line| line.find("# ").filter(|at| line[..*at].chars().all(|it| it == '#')))
                .collect()
        };
        let (english, chinese) = (read(""), read(".zh-CN"));
        assert_eq!(blocks(&english), blocks(&chinese), "{name}: what is shown differs");
        let (english_rows, chinese_rows) = (english.matches("\n| ").count(), chinese.matches("\n| ").count());
        assert_eq!(english_rows, chinese_rows, "{name}: tables differ");
        let outside = |text: &str| text.split("\n```").step_by(2).map(levels).collect::<Vec<_>>();
        assert_eq!(outside(&english), outside(&chinese), "{name}: headings differ");
    }
}
