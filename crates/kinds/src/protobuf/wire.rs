//! The protobuf wire format: fields one after the other, without knowing what they mean.
//!
//! Encoding: https://protobuf.dev/programming-guides/encoding/. Refusals are worded as the generated Go code of
//! Kubernetes words them.

use super::Malformed;

/// What a field carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: a string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 1, 3 and 5, which no field of the served kinds has: passed over.
    Other(u8),
}

impl Payload<'_> {
    /// The number that stands for the form on the wire.
    pub(super) fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Bytes(_) => 2,
            Self::Other(wire_type) => wire_type,
        }
    }
}

/// Reads fields off a message.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Whether all is read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and payload; `None` at the end of the message.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let payload = match wire_type {
            0 => Payload::Varint(self.varint()?),
            2 => Payload::Bytes(self.bytes()?),
            3 => {
                self.skip_group()?;
                Payload::Other(wire_type)
            }
            _ => {
                self.skip(wire_type)?;
                Payload::Other(wire_type)
            }
        };
        Ok(Some((number, payload)))
    }

    /// A number of 7 bits a byte, the least significant first.
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Overflow)
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = self.varint()?;
        let (number, wire_type) = (tag >> 3, (tag & 7) as u8);
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok((number, wire_type)),
            _ => Err(Malformed::Tag(number)),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, wire_type: u8) -> Result<(), Malformed> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.bytes().map(drop),
            5 => self.take(4).map(drop),
            4 => Err(Malformed::EndGroup),
            _ => Err(Malformed::WireType(wire_type)),
        }
    }

    /// Passes over the rest of a group, and groups within it, without recursion.
    fn skip_group(&mut self) -> Result<(), Malformed> {
        let mut depth = 1usize;
        while depth > 0 {
            match self.tag()?.1 {
                3 => depth += 1,
                4 => depth -= 1,
                wire_type => self.skip(wire_type)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &[u8], expected: Result<&[(u32, Payload)], Malformed>) {
        let (mut reader, mut fields) = (Reader::new(message), Vec::new());
        let outcome = loop {
            match reader.next() {
                Ok(Some(field)) => fields.push(field),
                Ok(None) => break Ok(fields.as_slice()),
                Err(error) => break Err(error.to_string()),
            }
        };
        assert_eq!(outcome, expected.map_err(|error| error.to_string()));
    }

    #[test]
    fn fields() {
        check(&[], Ok(&[]));
        check(&[0x08, 0x96, 0x01], Ok(&[(1, Payload::Varint(150))]));
        check(&[0x12, 2, b'o', b'k'], Ok(&[(2, Payload::Bytes(b"ok"))]));
        check(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Ok(&[(1, Payload::Varint(u64::MAX))]));
        check(&[0x82, 0x01, 0], Ok(&[(16, Payload::Bytes(b""))]));
        // Fixed 64 and 32 bits, and a group with a group in it.
        check(
            &[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x1b, 0x08, 1, 0x23, 0x24, 0x1c, 0x08, 1],
            Ok(&[(1, Payload::Other(1)), (2, Payload::Other(5)), (3, Payload::Other(3)), (1, Payload::Varint(1))]),
        );
    }

    #[test]
    fn refusals() {
        check(&[0x12, 3, b'o', b'k'], Err(Malformed::Truncated));
        check(&[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Err(Malformed::Truncated));
        check(&[0x08], Err(Malformed::Truncated));
        check(&[0x80], Err(Malformed::Truncated));
        check(&[0x09, 1, 2], Err(Malformed::Truncated));
        check(&[0x1b, 0x08, 1], Err(Malformed::Truncated));
        check(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Err(Malformed::Overflow));
        check(&[0x00, 0], Err(Malformed::Tag(0)));
        check(&[0x0c], Err(Malformed::EndGroup));
        check(&[0x0f], Err(Malformed::WireType(7)));
    }
}
