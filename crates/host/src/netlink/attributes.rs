//! What the kernel answers: a family header and attributes.

use std::net::Ipv4Addr;

const KIND_MASK: u16 = 0x3fff;

/// One attribute of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    /// Its number, without flags.
    pub(crate) kind: u16,
    /// Its content.
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// A number in host order; 0 where it is shorter.
    pub(crate) fn u32(&self) -> u32 {
        number(self.value, 0)
    }

    /// A port in network order; 0 where it is shorter.
    pub(crate) fn be16(&self) -> u16 {
        self.value.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }

    /// A number in network order; 0 where it is shorter.
    pub(crate) fn be64(&self) -> u64 {
        self.value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// An address; `None` where it is none.
    pub(crate) fn ipv4(&self) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.value).ok().map(Ipv4Addr::from)
    }

    /// Text without its zero byte.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    }

    /// The attributes inside.
    pub(crate) fn inner(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// Attributes of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The attribute of that number.
    pub(crate) fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self.clone(), |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & KIND_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

/// An answer without its message header.
#[derive(Debug)]
pub(crate) struct Answer(pub(super) Vec<u8>);

impl Answer {
    /// The family header, when the answer has `N` bytes of one.
    pub(crate) fn header<const N: usize>(&self) -> Option<&[u8; N]> {
        self.0.first_chunk()
    }

    /// Attributes behind a family header of `header` bytes.
    pub(crate) fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes(self.0.get(header..).unwrap_or_default())
    }
}

/// The number in host order at `at`; 0 where the bytes end before.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}
