//! Layers and archives are plain, gzip or zstd; their first bytes tell, as their media types do not always.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// First bytes of a gzip member (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a zstd frame (RFC 8878).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of a zstd frame that holds no content; the lowest half byte is free.
const ZSTD_SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Uncompresses gzip and zstd; anything else is taken as it is.
pub fn decompress<'a>(mut content: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    content.by_ref().take(4).read_to_end(&mut start)?;
    let skipped = start.first().is_some_and(|first| first & 0xf0 == ZSTD_SKIPPED[0]) && start[1..] == ZSTD_SKIPPED[1..];
    let (gzip, zstd) = (start.starts_with(&GZIP), start == ZSTD || skipped);
    let whole = io::BufReader::new(io::Cursor::new(start).chain(content));
    Ok(if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(Zstd { source: whole, decoder: FrameDecoder::new() })
    } else {
        Box::new(whole)
    })
}

/// The content of all frames, one after the other. Parallel compressors write several, zstd:chunked ends with some that
/// hold no content. A frame that wants to look back further than 128 MiB is refused.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(format!("zstd: {error}"))),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                if !self.next_frame()? {
                    return Ok(0);
                }
            } else {
                let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| io::Error::other(format!("zstd: {error}")))?;
            }
        }
        self.decoder.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn zstd(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn check(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decompress(packed)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn forms() {
        let content: Vec<u8> = (0..700_000_u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        let (first, second) = content.split_at(1_000_001);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, &content).expect("in memory");
        let gzip = encoder.finish().expect("in memory");
        let skipped = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for (form, packed) in [
            ("plain", content.clone()),
            ("gzip", gzip),
            ("zstd", zstd(&content)),
            ("two frames", [zstd(first), zstd(second)].concat()),
            ("skipped frames", [skipped.clone(), zstd(first), skipped.clone(), zstd(second), skipped].concat()),
        ] {
            assert!(check(&packed).expect(form) == content, "{form}");
        }
        assert_eq!(check(b"").expect("nothing"), b"");
    }

    /// `echo -n hello | zstd --ultra -22`, by the reference implementation, with a checksum.
    #[test]
    fn a_foreign_frame() {
        let packed = b"\x28\xb5\x2f\xfd\x04\x88\x29\x00\x00hello\xa3\x6d\x9f\x88";
        assert_eq!(check(packed).expect("a frame"), b"hello");
    }

    #[test]
    fn broken_frames() {
        let packed = zstd(&vec![7; 100_000]);
        for (broken, wanted) in [
            (packed[..packed.len() - 3].to_vec(), "zstd: "),
            ([&packed[..], b"rubbish"].concat(), "BadMagicNumber"),
            ([0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1].to_vec(), "unexpected end of file"),
        ] {
            let error = check(&broken).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
