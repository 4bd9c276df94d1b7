//! `audit verify`: whether the chain of an audit log holds, and where it breaks.

use super::{AuditCommand, FAILED};
use crate::telemetry::{Broken, Checked, LineHash, Link, Verifier, first_seq, read_head};
use anyhow::{Context, bail};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn run(command: &AuditCommand) -> anyhow::Result<ExitCode> {
    let AuditCommand::Verify { files, head } = command;
    let wanted = match head.as_deref().map(LineHash::parse) {
        Some(None) => bail!("--head must be the 64 hexadecimal digits that /v1/status shows as audit.head"),
        wanted => wanted.flatten(),
    };
    let mut out = io::stdout().lock();
    let whole = read(files, wanted, |path, checked| tell(&mut out, path, checked), |_| {})?;
    match whole {
        Ok(Read { note: Some(note), .. }) => writeln!(out, "{note}")?,
        Ok(_) => {}
        Err(broken) => {
            writeln!(out, "BROKEN 链条断裂: {broken}")?;
            return Ok(ExitCode::from(FAILED));
        }
    }
    writeln!(out, "the chain holds / 链条完整")?;
    Ok(ExitCode::SUCCESS)
}

fn tell(out: &mut impl Write, path: &Path, checked: &Checked) -> io::Result<()> {
    let file = path.display();
    match checked.seqs.zip(checked.times) {
        Some(((first, last), (began, ended))) => {
            writeln!(out, "{file}: lines {first} to {last}, {began} to {ended}")?;
        }
        None => writeln!(out, "{file}: no lines")?,
    }
    if checked.torn_bytes > 0 {
        let octets = checked.torn_bytes;
        writeln!(
            out,
            "{file}: its last line is cut off ({octets} octets): a crash did that, or it is being written; it counts as \
             not written / 最后一行不完整（{octets} 字节）：写入时中断或正在写入，不计入"
        )?;
    }
    Ok(())
}

/// What was read of a chain that holds.
pub(super) struct Read {
    /// What is to be said beside that.
    pub(super) note: Option<String>,
}

/// Reads the files in the order of their lines. `file` hears of each that is whole, `each` every line. The inner
/// error says where the chain breaks.
pub(super) fn read(
    files: &[PathBuf],
    wanted: Option<LineHash>,
    mut file: impl FnMut(&Path, &Checked) -> io::Result<()>,
    mut each: impl FnMut(&[u8]),
) -> anyhow::Result<Result<Read, String>> {
    // The heads first: what is written meanwhile is after them.
    let mut ordered = Vec::new();
    for path in files {
        let failed = || format!("can't read {}", path.display());
        let head = read_head(path).with_context(failed)?;
        ordered.push((first_seq(open(path)?).with_context(failed)?, path.as_path(), head));
    }
    ordered.sort_by_key(|(first, ..)| *first);
    let mut verifier = Verifier::looking_for(wanted);
    for (_, path, head) in &ordered {
        let failed = || format!("can't read {}", path.display());
        match verifier.file(open(path)?, &mut each).with_context(failed)? {
            Ok(checked) => file(path, &checked)?,
            Err(broken) => {
                return Ok(Err(format!("{}, line {}: {}", path.display(), broken.line, broken.what)));
            }
        }
        if let (Some(head), end) = (head, verifier.end())
            && let Some(what) = against_head(*head, end)
        {
            return Ok(Err(format!("{}, at its end: {what}", path.display())));
        }
    }
    if !verifier.has_found() {
        return Ok(Err(
            "no line has the hash given as --head: lines were replaced or are missing / 未找到 --head \
                       所示的记录"
                .to_owned(),
        ));
    }
    let first = ordered.iter().find_map(|(first, ..)| *first);
    let note = first.filter(|first| *first > 1).map(|first| {
        format!("lines 1 to {} are in files that were not given / 之前的文件未给出，未检查", first - 1)
    });
    Ok(Ok(Read { note }))
}

/// What is wrong where a file's end is not what its head says. The head is written after the lines.
fn against_head(head: Link, end: Option<Link>) -> Option<Broken> {
    let end = end.unwrap_or(Link::START);
    match head.seq {
        seq if seq > end.seq => Some(Broken::Sequence { expected: end.seq + 1, got: seq + 1 }),
        seq if seq == end.seq && head.hash != end.hash => Some(Broken::Changed { seq }),
        _ => None,
    }
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let failed = || format!("can't read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    Ok(match path.extension().is_some_and(|extension| extension == "zst") {
        true => Box::new(BufReader::new(zstd::Decoder::new(file).with_context(failed)?)),
        false => Box::new(BufReader::new(file)),
    })
}
