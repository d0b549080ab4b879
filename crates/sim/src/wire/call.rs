//! One request and its response.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use daruma_client::{Body, TransportError};
use futures::FutureExt;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::body::{Item, WireBody, pump};
use super::{HttpServer, PeerAddress};
use crate::clock::{Sleep, nanos};
use crate::executor::TaskId;
use crate::network::{CLIENT, Line, Part, Pipe, Received, SERVER, Transit, retry_pause};
use crate::scope::ScopeInner;

/// Bytes of a body on their way: the stream window of our real client.
const WINDOW: usize = 1 << 20;
/// What a head takes, compressed.
const HEAD_BYTES: usize = 200;

/// What client and server of one call share.
struct Call {
    line: Arc<Line>,
    response: Arc<Pipe<Item>>,
    request: Option<Arc<Pipe<Item>>>,
    /// The task that handles it on the server.
    handling: Mutex<Option<TaskId>>,
    part: Mutex<u64>,
}

impl Call {
    /// The server drops what it does for the call.
    fn abort(&self) {
        let task = self.handling.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            self.line.network.core.abort(task);
        }
    }
}

impl Part for Call {
    fn broken(&self, end: usize) {
        if end == SERVER {
            self.abort();
        }
        self.response.wake();
        if let Some(request) = &self.request {
            request.wake();
        }
    }
}

/// The client's hold on a call: letting go cancels it.
struct Hold(Arc<Call>);

impl Drop for Hold {
    fn drop(&mut self) {
        let call = &self.0;
        let part = *call.part.lock().unwrap_or_else(PoisonError::into_inner);
        call.line.remove_part(part);
        // The dead cancel nothing; their kernel's goodbye, or the server's own patience, ends the call.
        if !call.line.scope(CLIENT).is_dead() && call.line.is_heard(CLIENT) {
            call.abort();
        }
    }
}

/// A body that is all there is taken as it is; one that is not travels frame by frame.
fn whole(mut body: Body) -> Result<Body, Body> {
    if body.is_end_stream() {
        return Ok(body);
    }
    // An exact size says that the content is known, not that it is there; so it is looked at.
    if body.size_hint().exact().is_none() {
        return Err(body);
    }
    match body.frame().now_or_never() {
        None => Err(body),
        Some(None) => Ok(daruma_client::empty_body()),
        Some(Some(Ok(frame))) if body.is_end_stream() => match frame.into_data() {
            Ok(content) => Ok(daruma_client::full_body(content)),
            Err(_) => Ok(daruma_client::empty_body()),
        },
        Some(Some(frame)) => {
            use futures::StreamExt;
            let first = futures::stream::iter([frame]);
            let rest = http_body_util::BodyStream::new(body);
            Err(http_body_util::StreamBody::new(first.chain(rest)).boxed_unsync())
        }
    }
}

/// Sends a request over a connection; completes with the response's head.
pub(super) async fn call(
    line: Arc<Line>,
    server: Arc<HttpServer>,
    peer: PeerAddress,
    request: Request<Body>,
) -> Result<Response<Body>, TransportError> {
    let failed = |why: crate::network::Break| TransportError(why.error().to_string());
    let core = line.network.core.clone();
    let client: Arc<ScopeInner> = line.scope(CLIENT).clone();
    let (parts, body) = request.into_parts();
    let (body, outgoing) = match whole(body) {
        Ok(body) => (Some(body), None),
        Err(body) => (None, Some(body)),
    };
    let incoming = outgoing.as_ref().map(|_| Arc::new(Pipe::new(SERVER, WINDOW)));
    let call = Arc::new(Call {
        line: line.clone(),
        response: Arc::new(Pipe::new(CLIENT, WINDOW)),
        request: incoming.clone(),
        handling: Mutex::new(None),
        part: Mutex::new(0),
    });
    let weak: Weak<dyn Part> = Arc::downgrade(&call) as Weak<dyn Part>;
    *call.part.lock().unwrap_or_else(PoisonError::into_inner) = line.add_part(weak);
    let hold = Hold(call.clone());

    let bytes = HEAD_BYTES + body.as_ref().and_then(|body| body.size_hint().exact()).unwrap_or(0) as usize;
    let mut retries = 0;
    let delay = loop {
        match line.transmit(CLIENT, bytes) {
            Transit::Arrives(delay) => break delay,
            Transit::Gone => {
                line.break_end(CLIENT, crate::network::Break::Reset);
                return Err(failed(crate::network::Break::Reset));
            }
            Transit::Lost => {
                let again = Sleep::until(&client, core.now_ns().saturating_add(nanos(retry_pause(retries))));
                retries += 1;
                let broken = std::future::poll_fn(|context| call.response.poll_receive(&line, context, &mut None));
                if let futures::future::Either::Right((Received::Broken(why), _)) = futures::future::select(again, broken).await {
                    return Err(failed(why));
                }
            }
        }
    };
    // A server that holds still answers no pings either.
    line.suspect(CLIENT);

    let body = match (body, &incoming) {
        (Some(body), _) => body,
        (None, Some(pipe)) => {
            WireBody { line: line.clone(), pipe: pipe.clone(), sleep: None, is_at_end: false, _owner: () }.boxed_unsync()
        }
        (None, None) => daruma_client::empty_body(),
    };
    let mut request = Request::from_parts(parts, body);
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(line.network.decoded.clone());
    let handling = handle(call.clone(), server.clone(), request, delay);
    let task = core.spawn(server.scope(), "http request", handling.boxed());
    *call.handling.lock().unwrap_or_else(PoisonError::into_inner) = task;
    if let (Some(body), Some(pipe)) = (outgoing, incoming) {
        let line = line.clone();
        let sending = async move {
            // Where the connection breaks, whoever waits for the response learns of it.
            let _ = pump(body, &line, &pipe).await;
        };
        core.spawn(&client, "http request body", sending.boxed());
    }

    let mut sleep = None;
    let head = std::future::poll_fn(|context| call.response.poll_receive(&line, context, &mut sleep)).await;
    match head {
        Received::Item(Item::Head(mut parts)) => {
            parts.extensions.insert(line.network.decoded.clone());
            let body = WireBody { line, pipe: call.response.clone(), sleep, is_at_end: false, _owner: hold };
            Ok(Response::from_parts(*parts, body.boxed_unsync()))
        }
        Received::Broken(why) => Err(failed(why)),
        Received::Item(_) | Received::End => Err(TransportError("the server has closed the stream".into())),
    }
}

/// The server's side: its handler, then the response's way back.
async fn handle(call: Arc<Call>, server: Arc<HttpServer>, request: Request<Body>, delay_ns: u64) {
    let scope = server.scope();
    if delay_ns > 0 {
        Sleep::until(scope, scope.core.now_ns().saturating_add(delay_ns)).await;
    }
    call.line.note_read(SERVER);
    let handling = (server.handler)(request);
    drop(server);
    let (parts, body) = handling.await.into_parts();
    if call.response.send(&call.line, Some(Item::Head(Box::new(parts))), HEAD_BYTES).is_ok() {
        // A client that is gone misses nothing.
        let _ = pump(body, &call.line, &call.response).await;
    }
}
