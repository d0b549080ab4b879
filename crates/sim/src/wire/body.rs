//! Bodies on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use daruma_client::{Body, BodyError};
use http_body::Frame;
use http_body_util::BodyExt;

use crate::clock::Sleep;
use crate::network::{Break, Line, Pipe, Received};

/// What travels in one direction of a call: the head of a response, then frames of the body.
pub(super) enum Item {
    Head(Box<http::response::Parts>),
    Frame(Frame<Bytes>),
    Failed(BodyError),
}

/// Bytes of a frame.
fn length(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(64, Bytes::len)
}

/// Sends a body frame by frame as there is room; ends early where the connection breaks.
pub(super) async fn pump(mut body: Body, line: &Arc<Line>, pipe: &Pipe<Item>) -> Result<(), Break> {
    while let Some(frame) = body.frame().await {
        let (item, bytes) = match frame {
            Ok(frame) => {
                let bytes = length(&frame);
                (Item::Frame(frame), bytes)
            }
            Err(error) => (Item::Failed(error), 0),
        };
        let has_failed = matches!(item, Item::Failed(_));
        std::future::poll_fn(|context| pipe.poll_room(line, context)).await?;
        pipe.send(line, Some(item), bytes)?;
        if has_failed {
            return Ok(());
        }
    }
    pipe.send(line, None, 0)
}

/// The receiver's side of a body. `Owner` is kept until the body is dropped.
pub(super) struct WireBody<Owner> {
    pub(super) line: Arc<Line>,
    pub(super) pipe: Arc<Pipe<Item>>,
    pub(super) sleep: Option<(u64, Sleep)>,
    pub(super) is_at_end: bool,
    pub(super) _owner: Owner,
}

impl<Owner: Unpin> http_body::Body for WireBody<Owner> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_at_end {
            return Poll::Ready(None);
        }
        match std::task::ready!(this.pipe.poll_receive(&this.line, context, &mut this.sleep)) {
            Received::Item(Item::Frame(frame)) => Poll::Ready(Some(Ok(frame))),
            Received::Item(Item::Failed(error)) => {
                this.is_at_end = true;
                Poll::Ready(Some(Err(error)))
            }
            // A head comes once, and before any body is made.
            Received::Item(Item::Head(_)) | Received::End => {
                this.is_at_end = true;
                Poll::Ready(None)
            }
            Received::Broken(why) => {
                this.is_at_end = true;
                Poll::Ready(Some(Err(why.error().into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_at_end
    }
}
