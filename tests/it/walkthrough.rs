//! docs/walkthrough.md and the examples of docs/operations.md, command by command, against a running gate.

use crate::world::{World, access, run, wait};
use serde_json::Value;

/// A command and the lines that its output must hold, in their order.
pub struct Said {
    pub command: String,
    pub lines: Vec<String>,
}

pub enum Part {
    File { name: String, text: String },
    Command(Said),
}

pub fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for block in text.split("\n```").skip(1).step_by(2) {
        let (fence, body) = block.split_once('\n').unwrap();
        if let Some((_, name)) = fence.split_once(' ') {
            parts.push(Part::File { name: name.to_owned(), text: format!("{body}\n") });
        }
        for line in body.lines().filter(|_| fence == "console") {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    parts.push(Part::Command(Said { command: command.to_owned(), lines: Vec::new() }));
                }
                None => match parts.last_mut() {
                    Some(Part::Command(said)) => said.lines.push(line.to_owned()),
                    _ => panic!("output of no command: {line}"),
                },
            }
        }
    }
    parts
}

/// Whether the output holds the line's pieces, in their order, on one of its own lines.
pub fn holds(output: &str, line: &str) -> bool {
    let is_held = |mut rest: &str| {
        line.split('…').all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    };
    output.lines().any(is_held)
}

struct Shell {
    world: World,
    code: String,
}

impl Shell {
    fn beian_gate(&self, arguments: &str) -> String {
        let arguments = arguments.replace("$CODE", &self.code);
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        words.extend(["-c", "gate.toml"]);
        let (code, out, err) = run(self.world.dir.path(), &words);
        assert!([0, 1, 3].contains(&code), "{arguments}: {code} {out}{err}");
        out + &err
    }

    fn do_(&mut self, said: &Said) {
        let command = said.command.as_str();
        if command == "beian-gate run" {
            return;
        }
        if let Some(inner) = command.strip_prefix("CODE=$(beian-gate ") {
            let arguments = inner.strip_suffix(" | jq -r .code)").unwrap();
            let answer: Value = serde_json::from_str(&self.beian_gate(arguments)).unwrap();
            self.code = answer["code"].as_str().unwrap().to_owned();
            return;
        }
        let once = || match command.strip_prefix("beian-gate ") {
            Some(arguments) => self.beian_gate(arguments),
            None => {
                let host = command.split("host: ").nth(1).unwrap().trim_end_matches('\'');
                format!("HTTP/1.1 {}\n", self.world.get(host, "/").status)
            }
        };
        let is_said = |output: &str| said.lines.iter().all(|line| holds(output, line));
        let asks_gate = command.starts_with("beian-gate check") || command.starts_with("curl");
        if asks_gate {
            // The gate hears of it a moment later.
            wait(&format!("{command}: {:?}", said.lines), || is_said(&once()).then_some(()));
        } else {
            let output = once();
            assert!(is_said(&output), "{command}\nsays\n{output}\nand not {:?}", said.lines);
        }
    }
}

#[test]
fn one_sites_life() {
    let world = World::with(|setup| {
        let upstream = setup.upstream;
        let mut elsewhere = access("沪ICP备10000002号-1", "active");
        elsewhere["access"] = serde_json::json!({ "other-cloud": "active" });
        elsewhere["subject"] = "上海示例网络有限公司".into();
        setup
            .toml(&format!("[default_site]\nupstreams = [\"http://{upstream}\"]"))
            .filing("example.net", elsewhere)
    });
    follow(world, include_str!("../../docs/walkthrough.md"), 60);
}

fn follow(world: World, text: &str, least: usize) {
    let mut shell = Shell { world, code: String::new() };
    let parts = parts(text);
    assert!(parts.len() > least, "the examples are found: {}", parts.len());
    for part in &parts {
        match part {
            Part::File { name, text } => std::fs::write(shell.world.path(name), text).unwrap(),
            Part::Command(said) => shell.do_(said),
        }
    }
}

#[test]
fn what_operators_are_shown() {
    follow(World::start(), include_str!("../../docs/operations.md"), 5);
}
