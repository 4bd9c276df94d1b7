//! What importing and exporting many filings costs: `cargo bench --bench import -- [ROWS…] [--keep DIRECTORY]`.
//!
//! Makes a CSV of each size, then runs the release binary on it as an operator would: into nothing, the same again, and out.
//! Prints seconds, processor seconds, the most resident memory, and the database's size.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

#[allow(dead_code, reason = "the other benches ask for more of it")]
mod domains;

use domains::Numbers;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const DEFAULT_ROWS: u64 = 1_000_000;
/// How often the child's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The kernel's unit of processor time, per second.
const TICKS: f64 = 100.0;

/// What a run took.
struct Cost {
    elapsed: Duration,
    cpu_s: f64,
    peak_mib: u64,
}

fn main() {
    let mut sizes = Vec::new();
    let mut keep = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo says to every bench.
            "--bench" => {}
            "--keep" => keep = Some(PathBuf::from(arguments.next().expect("--keep has a directory"))),
            rows => sizes.push(rows.replace('_', "").parse().expect("sizes are numbers of rows")),
        }
    }
    if sizes.is_empty() {
        sizes.push(DEFAULT_ROWS);
    }
    println!("{:>10}  {:<22} {:>8} {:>8} {:>9} {:>9}", "rows", "what", "s", "CPU s", "peak MiB", "disk MiB");
    for rows in sizes {
        let scratch = tempfile::tempdir().expect("there is room for a directory");
        run(rows, keep.as_deref().unwrap_or(scratch.path()));
    }
}

fn run(rows: u64, directory: &Path) {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    let config = "provider = \"example-cloud\"\n[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"sqlite:registry.db\"\n";
    std::fs::write(directory.join("registry.toml"), config).expect("the directory takes a file");
    let csv = format!("{rows}.csv");
    write_csv(&directory.join(&csv), rows).expect("there is room for the file");
    let steps: [(&str, &[&str]); 4] = [
        ("import into nothing", &["registry", "import", &csv]),
        ("import the same", &["registry", "import", &csv]),
        ("import --replace same", &["registry", "import", &csv, "--replace"]),
        ("export .csv.zst", &["registry", "export", "out.csv.zst"]),
    ];
    for (what, arguments) in steps {
        let Cost { elapsed, cpu_s, peak_mib } = cost(directory, arguments);
        let disk = std::fs::metadata(directory.join("registry.db")).map_or(0, |it| it.len()) >> 20;
        let elapsed = elapsed.as_secs_f64();
        println!("{rows:>10}  {what:<22} {elapsed:>8.1} {cpu_s:>8.1} {peak_mib:>9} {disk:>9}");
    }
}

fn cost(directory: &Path, arguments: &[&str]) -> Cost {
    let since = Instant::now();
    let before = children_cpu_s();
    let mut child = Command::new(env!("CARGO_BIN_EXE_beian-gate"))
        .args(arguments)
        .args(["-c", "registry.toml"])
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut peak_kib = 0;
    let status: ExitStatus = loop {
        peak_kib = peak_kib.max(peak_of(child.id()));
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None => std::thread::sleep(LOOK),
        }
    };
    assert!(status.success(), "{arguments:?}: {status}");
    Cost { elapsed: since.elapsed(), cpu_s: children_cpu_s() - before, peak_mib: peak_kib >> 10 }
}

/// The most memory that the process had resident so far, in KiB.
fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Processor seconds of the children that were waited for.
fn children_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    // The name is in parentheses and may hold spaces; `cutime` and `cstime` are fields 16 and 17.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[13..15].iter().map(|it| it.parse::<f64>().expect("times are numbers")).sum::<f64>() / TICKS
}

/// A filing for every name, each of a site of its own: the most sites that there can be.
fn write_csv(path: &Path, rows: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(out, "domain,number,access,subject,site_name")?;
    for index in 0..rows {
        let mut numbers = Numbers(index ^ 0x5eed);
        let access = match numbers.below(20) {
            0..14 => "example-cloud=active",
            14..17 => "other-cloud=active",
            17 => "example-cloud=cancelled",
            18 => "example-cloud=active;other-cloud=active",
            _ => "example-cloud=cancelled;other-cloud=active",
        };
        let subject = 10_000_000 + index / 9;
        let site = 1 + index % 9;
        let provinces = ["京", "沪", "粤", "浙", "苏", "鲁", "川", "陕"];
        let province = provinces[usize::try_from(subject % 8).expect("it is below 8")];
        let name = domains::filed(index);
        writeln!(
            out,
            "{name},{province}ICP备{subject:08}号-{site},{access},某某网络科技有限公司{subject},站点{site}"
        )?;
    }
    out.flush()
}
