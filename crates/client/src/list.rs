//! The items of a list, made into objects while the list arrives: a list can be hundreds of megabytes.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use daruma_api::json::Scanner;
use daruma_api::metav1::ListMeta;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decoded::DecodedObjects;
use crate::watch::Decode;
use crate::{Body, ClientError, TransportError};

/// What stands before the first item, as servers write it. In a text it would be escaped.
const ITEMS: &[u8] = b"\"items\":[";

/// Longest beginning of a list in which its items begin.
const HEAD_BYTES: usize = 64 << 10;

/// A list whose items were decoded one by one; one that does not decode is logged and left out.
pub(crate) struct Reader<'a, T> {
    /// The call, for errors.
    what: &'a str,
    decode: Decode<T>,
    shared: Option<Arc<DecodedObjects>>,
    /// What has arrived and is not decoded yet.
    buffer: BytesMut,
    /// All up to the items' bracket, once that has come.
    head: Option<BytesMut>,
    /// Whether the items are over; what then comes belongs to the list.
    is_through: bool,
    items: Vec<T>,
}

impl<'a, T> Reader<'a, T> {
    pub(crate) fn new(what: &'a str, decode: Decode<T>, shared: Option<Arc<DecodedObjects>>) -> Self {
        Self { what, decode, shared, buffer: BytesMut::new(), head: None, is_through: false, items: Vec::new() }
    }

    /// Reads a whole body.
    pub(crate) async fn read(mut self, mut body: Body) -> Result<(ListMeta, Vec<T>), ClientError> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| TransportError(format!("response broke off: {error}")))?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
                self.take_items()?;
            }
        }
        self.finish()
    }

    /// Decodes the items that are complete.
    fn take_items(&mut self) -> Result<(), ClientError> {
        if self.head.is_none() {
            let beginning = &self.buffer[..self.buffer.len().min(HEAD_BYTES)];
            let Some(at) = memchr::memmem::find(beginning, ITEMS) else { return Ok(()) };
            self.head = Some(self.buffer.split_to(at + ITEMS.len()));
        }
        let mut done = 0;
        while !self.is_through {
            let rest = &self.buffer[done..];
            // One comma between two items, and white space anywhere.
            let Some(begin) = rest.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\n' | b'\r' | b'\t')) else { break };
            if rest[begin] == b']' {
                self.is_through = true;
                break;
            }
            done += begin;
            // Where something else than an object or a list ends is not seen before the whole has arrived.
            if !matches!(rest[begin], b'{' | b'[') {
                break;
            }
            // Or its end has not arrived.
            let Some(item) = Scanner::new(&rest[begin..]).value() else { break };
            done += item.len();
            let item = (self.decode)(item, self.shared.as_deref());
            keep(&mut self.items, item, self.what);
        }
        self.buffer.advance(done);
        Ok(())
    }

    fn finish(mut self) -> Result<(ListMeta, Vec<T>), ClientError> {
        #[derive(Deserialize)]
        struct List<'a> {
            metadata: ListMeta,
            // Whatever was written otherwise than servers write it; the rest is taken out already.
            #[serde(borrow)]
            items: Option<Vec<&'a RawValue>>,
        }
        let mut rest = self.head.take().unwrap_or_default();
        rest.extend_from_slice(&self.buffer);
        let list: List<'_> = serde_json::from_slice(&rest).map_err(|source| self.error(source))?;
        for item in list.items.into_iter().flatten() {
            let item = (self.decode)(item.get().as_bytes(), self.shared.as_deref());
            keep(&mut self.items, item, self.what);
        }
        Ok((list.metadata, self.items))
    }

    fn error(&self, source: serde_json::Error) -> ClientError {
        ClientError::Decode { what: self.what.into(), source: Arc::new(source) }
    }
}

fn keep<T>(items: &mut Vec<T>, item: Result<T, serde_json::Error>, what: &str) {
    match item {
        Ok(item) => items.push(item),
        Err(error) => tracing::warn!(%error, what, "leaving out an item that does not decode"),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The list in pieces of so many bytes.
    fn read(text: &str, piece: usize) -> Result<(Option<String>, Vec<Vec<u32>>), String> {
        let decode: Decode<Vec<u32>> = |text, _| serde_json::from_slice(text);
        let frames: Vec<_> = text.as_bytes().chunks(piece).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
        let body = crate::stream_body(futures::stream::iter(frames));
        let read = Reader::new("list", decode, None).read(body).now_or_never().expect("everything is there");
        read.map(|(metadata, items)| (metadata.resource_version, items)).map_err(|error| error.to_string())
    }

    #[test]
    fn however_it_arrives() {
        let usual = r#"{"kind":"XList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[[1,2],[3]]}"#;
        let tricky = r#"{"metadata":{"continue":"\"items\":[","resourceVersion":"7"},"items":[ [1,2] ,
            ["}]",5] , [3] ] , "more": [{}]}"#;
        let reversed = r#"{"items":[[1,2],[3]],"metadata":{"resourceVersion":"7"}}"#;
        let spaced = r#"{ "metadata" : {"resourceVersion": "7"}, "items" : [[1, 2], [3]] }"#;
        for text in [usual, tricky, reversed, spaced] {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(read(text, piece), Ok((Some("7".to_owned()), vec![vec![1, 2], vec![3]])), "{text} by {piece}");
            }
        }
        for empty in [r#"{"metadata":{},"items":[]}"#, r#"{"metadata":{},"items":null}"#, r#"{"metadata":{}}"#] {
            assert_eq!(read(empty, 4), Ok((None, Vec::new())), "{empty}");
        }
    }

    #[test]
    fn other_items_are_read_at_the_end() {
        let decode: Decode<u32> = |text, _| serde_json::from_slice(text);
        let text = r#"{"metadata":{},"items":[ 1,23 ]}"#;
        for piece in [1, 100] {
            let frames: Vec<_> = text.as_bytes().chunks(piece).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
            let body = crate::stream_body(futures::stream::iter(frames));
            let read = Reader::new("list", decode, None).read(body).now_or_never().expect("everything is there");
            assert_eq!(read.expect("a list").1, [1, 23]);
        }
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for wrong in
            ["", "{}", r#"{"metadata":{},"items":[[1]"#, r#"{"metadata":{},"items":[[1]]"#, r#"{"metadata":{},"items":[}]}"#]
        {
            for piece in [1, 1000] {
                assert!(read(wrong, piece).is_err(), "{wrong} by {piece}");
            }
        }
    }
}
