//! Container logs: the files that the runtime writes, as clients ask for them.
//!
//! Source: kubernetes pkg/kubelet (cri-client logs), format of the CRI: `time stream tag text`.

mod line;
mod read;

use std::path::Path;

use daruma_world::Disk;

pub use line::parse;
pub use read::{LogOptions, stream};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// The last `lines` lines without their heads, at most `bytes` bytes.
pub async fn tail(disk: &dyn Disk, path: &Path, lines: usize, bytes: u64) -> Vec<u8> {
    let Ok(facts) = disk.metadata(path).await else { return Vec::new() };
    let start = tail_offset(disk, path, facts.len, lines).await;
    let Ok(content) = disk.read_at(path, start, usize::try_from(facts.len - start).unwrap_or(CHUNK).min(1 << 20)).await else {
        return Vec::new();
    };
    let mut text = Vec::new();
    for raw in content.split_inclusive(|byte| *byte == b'\n') {
        if let Some(line) = parse(raw) {
            text.extend_from_slice(&line.text);
        }
    }
    let from = text.len().saturating_sub(bytes as usize);
    text.split_off(from)
}

/// Where the last `lines` lines of a file of `len` bytes begin.
pub(crate) async fn tail_offset(disk: &dyn Disk, path: &Path, len: u64, lines: usize) -> u64 {
    if lines == 0 {
        return len;
    }
    let mut found = 0;
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let Ok(block) = disk.read_at(path, start, (end - start) as usize).await else { return len };
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + at as u64 + 1;
            // The newline at the very end ends the last line and begins none.
            if after == len {
                continue;
            }
            found += 1;
            if found == lines {
                return after;
            }
        }
        end = start;
    }
    0
}
