//! Name/value blocks and their compression.
//!
//! Blocks of one direction share one zlib stream with a preset dictionary. What is written goes out as
//! stored (uncompressed) deflate blocks, which every inflater reads; so only reading needs a window.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress};

use super::FrameError;

const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow \
authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 \
content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since \
last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer \
transfer-encoding upgrade user-agent vary via warning www-authenticate method get status";
const MORE_WORDS: &[&str] = &["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"];
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found\
500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
/// Adler-32 of the dictionary: its name in a zlib header.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;
/// Header blocks above this size are refused.
const MOST_BYTES: usize = 1 << 20;

/// A stored block of nothing.
const SYNC_FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ').chain(MORE_WORDS.iter().copied()) {
        bytes.put_u32(word.len() as u32);
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

fn stored_block(output: &mut BytesMut, data: &[u8]) {
    for chunk in data.chunks(0xffff) {
        output.put_u8(0);
        output.put_u16_le(chunk.len() as u16);
        output.put_u16_le(!(chunk.len() as u16));
        output.extend_from_slice(chunk);
    }
}

/// Appends a compressed block. `first` is whether it is the first of its connection and direction.
pub fn write_headers(output: &mut BytesMut, headers: &BTreeMap<String, String>, first: bool) {
    let mut plain = BytesMut::new();
    plain.put_u32(headers.len() as u32);
    for (name, value) in headers {
        for text in [name.to_ascii_lowercase(), value.clone()] {
            plain.put_u32(text.len() as u32);
            plain.extend_from_slice(text.as_bytes());
        }
    }
    if first {
        output.extend_from_slice(&[0x78, 0xf9]);
        output.put_u32(DICTIONARY_ID);
    }
    stored_block(output, &plain);
    // The empty block of a sync flush. Go's inflater hands out what precedes it only then; without it, it takes the
    // end of the frame for the end of the stream and refuses every later block.
    output.extend_from_slice(&SYNC_FLUSH);
}

/// Reads the blocks of one direction in their order.
pub struct HeaderReader {
    inflate: Decompress,
    started: bool,
}

impl Default for HeaderReader {
    fn default() -> Self {
        // Inflates the dictionary itself first, as a stored block: from then on it is the window's content.
        let mut inflate = Decompress::new(false);
        let mut block = BytesMut::new();
        stored_block(&mut block, &dictionary());
        let mut ignored = Vec::with_capacity(block.len());
        // A stored block of right length always inflates.
        let _ = inflate.decompress_vec(&block, &mut ignored, FlushDecompress::Sync);
        Self { inflate, started: false }
    }
}

impl HeaderReader {
    /// Decodes the next block.
    ///
    /// # Errors
    /// A block that does not follow the format, after which the connection cannot be read further.
    pub fn read(&mut self, mut block: &[u8]) -> Result<BTreeMap<String, String>, FrameError> {
        if !self.started && !block.is_empty() {
            // Two bytes of zlib header and the dictionary's name.
            block = block.get(6..).ok_or(FrameError::Headers)?;
            self.started = true;
        }
        let start = self.inflate.total_in();
        let mut plain = Vec::with_capacity(1024);
        loop {
            let consumed = (self.inflate.total_in() - start) as usize;
            let before = plain.len();
            plain.reserve(1024);
            self.inflate
                .decompress_vec(block.get(consumed..).unwrap_or_default(), &mut plain, FlushDecompress::Sync)
                .map_err(|_| FrameError::Headers)?;
            let done = (self.inflate.total_in() - start) as usize >= block.len() && plain.len() < plain.capacity();
            if plain.len() > MOST_BYTES {
                return Err(FrameError::Headers);
            }
            if done || (plain.len() == before && (self.inflate.total_in() - start) as usize == consumed) {
                break;
            }
        }
        parse(&plain).ok_or(FrameError::Headers)
    }
}

fn parse(mut plain: &[u8]) -> Option<BTreeMap<String, String>> {
    fn number(plain: &mut &[u8]) -> Option<usize> {
        let (head, rest) = plain.split_first_chunk::<4>()?;
        *plain = rest;
        Some(u32::from_be_bytes(*head) as usize)
    }
    fn text(plain: &mut &[u8]) -> Option<String> {
        let length = number(plain)?;
        let (head, rest) = plain.split_at_checked(length)?;
        *plain = rest;
        String::from_utf8(head.to_vec()).ok()
    }
    let count = number(&mut plain)?;
    let mut headers = BTreeMap::new();
    for _ in 0..count {
        let name = text(&mut plain)?;
        headers.insert(name, text(&mut plain)?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn reads_what_zlib_wrote() {
        assert_eq!(dictionary().len(), 1423);
        let mut reader = HeaderReader::default();
        let expected = BTreeMap::from([("streamtype".to_owned(), "data".to_owned())]);
        // Two equal blocks, made by zlib 1.3 at level 9 with the dictionary and sync flushes.
        assert_eq!(reader.read(&unhex("78f9e3c6a7c202a62346703a2b294a4dcc452a4a1201000000ffff")), Ok(expected.clone()));
        assert_eq!(reader.read(&unhex("c22d03000000ffff")), Ok(expected));
    }

    #[test]
    fn reads_what_go_wrote() {
        // Two blocks as kubectl port-forward 8080 sends them.
        let mut reader = HeaderReader::default();
        for (block, kind) in [
            ("78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c60616061c0c0c0c0590489c64c50f2663400000000ffff", "error"),
            ("c2aa19540e2512d60b000000ffff", "data"),
        ] {
            let expected = [("streamtype", kind), ("port", "8080"), ("requestid", "0")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(reader.read(&unhex(block)), Ok(BTreeMap::from(expected)));
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let mut reader = HeaderReader::default();
        let headers = BTreeMap::from([("a".to_owned(), "b".repeat(70_000)), ("port".to_owned(), "80".to_owned())]);
        for first in [true, false] {
            let mut block = BytesMut::new();
            write_headers(&mut block, &headers, first);
            assert!(block.ends_with(&SYNC_FLUSH), "an inflater that waits for a flush gets one");
            assert_eq!(reader.read(&block), Ok(headers.clone()));
        }
    }
}
