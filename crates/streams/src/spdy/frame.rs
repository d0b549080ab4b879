//! Frames on the wire.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why a connection cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A control frame of another version.
    #[error("unsupported SPDY version {0}")]
    Version(u16),
    /// A frame shorter than its type needs.
    #[error("SPDY frame of type {0} is too short")]
    Short(u16),
    /// A header block that cannot be decoded.
    #[error("SPDY header block cannot be decoded")]
    Headers,
}

/// One frame; header blocks are still compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    SynStream {
        /// Its number.
        id: u32,
        /// The sender will send no data.
        fin: bool,
        /// Compressed headers.
        headers: Bytes,
    },
    /// The other side's answer.
    SynReply {
        /// Which stream.
        id: u32,
        /// The sender will send no data.
        fin: bool,
        /// Compressed headers.
        headers: Bytes,
    },
    /// Content.
    Data {
        /// Which stream.
        id: u32,
        /// The sender's last.
        fin: bool,
        /// Content.
        data: Bytes,
    },
    /// A stream broke off.
    Reset {
        /// Which stream.
        id: u32,
        /// Why (5 is cancel).
        status: u32,
    },
    /// Are you there? Answered with the same number.
    Ping(u32),
    /// No new streams.
    GoAway {
        /// The last stream that was handled.
        last_id: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Which stream.
        id: u32,
        /// The sender will send no data.
        fin: bool,
        /// Compressed headers.
        headers: Bytes,
    },
    /// Settings, window updates and what is unknown.
    Other(u16),
}

const FIN: u8 = 1;

impl Frame {
    /// Takes the first whole frame out of `buffer`.
    ///
    /// # Errors
    /// A frame that breaks the format.
    pub fn read(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        if buffer.len() < 8 {
            return Ok(None);
        }
        let length = usize::from(buffer[5]) << 16 | usize::from(buffer[6]) << 8 | usize::from(buffer[7]);
        if buffer.len() < 8 + length {
            return Ok(None);
        }
        let mut frame = buffer.split_to(8 + length).freeze();
        let first = frame.get_u32();
        let flags = frame.get_u8();
        frame.advance(3);
        let fin = flags & FIN != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Self::Data { id: first, fin, data: frame }));
        }
        let version = (first >> 16) as u16 & 0x7fff;
        let kind = first as u16;
        if version != 3 {
            return Err(FrameError::Version(version));
        }
        let need = |bytes: usize| if frame.len() < bytes { Err(FrameError::Short(kind)) } else { Ok(()) };
        let parsed = match kind {
            1 => {
                need(10)?;
                let id = frame.get_u32() & 0x7fff_ffff;
                frame.advance(6);
                Self::SynStream { id, fin, headers: frame }
            }
            2 | 8 => {
                need(4)?;
                let id = frame.get_u32() & 0x7fff_ffff;
                if kind == 2 { Self::SynReply { id, fin, headers: frame } } else { Self::Headers { id, fin, headers: frame } }
            }
            3 => {
                need(8)?;
                Self::Reset { id: frame.get_u32() & 0x7fff_ffff, status: frame.get_u32() }
            }
            6 => {
                need(4)?;
                Self::Ping(frame.get_u32())
            }
            7 => {
                need(4)?;
                Self::GoAway { last_id: frame.get_u32() & 0x7fff_ffff }
            }
            other => Self::Other(other),
        };
        Ok(Some(parsed))
    }

    /// Appends the frame. [`Frame::Other`] writes nothing.
    pub fn write(&self, output: &mut BytesMut) {
        match self {
            Self::Data { id, fin, data } => {
                output.put_u32(id & 0x7fff_ffff);
                put_flags_and_length(output, *fin, data.len());
                output.extend_from_slice(data);
            }
            Self::SynStream { id, fin, headers } => {
                control(output, 1, *fin, 10 + headers.len());
                output.put_u32(*id);
                output.put_u32(0);
                output.put_u16(0);
                output.extend_from_slice(headers);
            }
            Self::SynReply { id, fin, headers } => {
                control(output, 2, *fin, 4 + headers.len());
                output.put_u32(*id);
                output.extend_from_slice(headers);
            }
            Self::Headers { id, fin, headers } => {
                control(output, 8, *fin, 4 + headers.len());
                output.put_u32(*id);
                output.extend_from_slice(headers);
            }
            Self::Reset { id, status } => {
                control(output, 3, false, 8);
                output.put_u32(*id);
                output.put_u32(*status);
            }
            Self::Ping(number) => {
                control(output, 6, false, 4);
                output.put_u32(*number);
            }
            Self::GoAway { last_id } => {
                control(output, 7, false, 8);
                output.put_u32(*last_id);
                output.put_u32(0);
            }
            Self::Other(_) => {}
        }
    }
}

fn control(output: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    output.put_u16(0x8003);
    output.put_u16(kind);
    put_flags_and_length(output, fin, length);
}

fn put_flags_and_length(output: &mut BytesMut, fin: bool, length: usize) {
    output.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | (length as u32 & 0x00ff_ffff));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let headers = Bytes::from_static(b"abc");
        let frames = [
            Frame::SynStream { id: 1, fin: false, headers: headers.clone() },
            Frame::SynReply { id: 1, fin: true, headers: headers.clone() },
            Frame::Headers { id: 1, fin: true, headers },
            Frame::Data { id: 3, fin: true, data: Bytes::from_static(b"x") },
            Frame::Reset { id: 3, status: 5 },
            Frame::Ping(7),
            Frame::GoAway { last_id: 9 },
        ];
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.write(&mut wire);
        }
        let mut tail = wire.split_off(wire.len() - 1);
        let mut read = Vec::new();
        while let Ok(Some(frame)) = Frame::read(&mut wire) {
            read.push(frame);
        }
        assert_eq!(read.len(), frames.len() - 1, "the last frame is not whole yet");
        wire.unsplit(tail.split());
        read.extend(Frame::read(&mut wire).expect("reads"));
        assert_eq!(read, frames);
    }

    #[test]
    fn refuses() {
        let mut wire = BytesMut::from(&[0x80, 2, 0, 1, 0, 0, 0, 0][..]);
        assert_eq!(Frame::read(&mut wire), Err(FrameError::Version(2)));
        let mut wire = BytesMut::from(&[0x80, 3, 0, 1, 0, 0, 0, 0][..]);
        assert_eq!(Frame::read(&mut wire), Err(FrameError::Short(1)));
    }
}
