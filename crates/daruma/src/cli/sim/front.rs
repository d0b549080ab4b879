//! HTTPS in front of a virtual API server: requests of real clients go in, answers come out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use daruma_client::connection::{Handler, Peer};
use daruma_client::{Body, BodyError, TransportError, full_body, stream_body};
use daruma_rehearsal::Doors;
use daruma_rehearsal::sim::Injector;
use daruma_world::World;
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{mpsc, oneshot};

use super::streams;

/// Chunks of an answer that wait for a slow reader.
const WAITING: usize = 16;

/// A stream that tells nothing for so long, in virtual time, is a watch: nobody waits for its next line.
pub(super) const QUIET: Duration = Duration::from_millis(20);

/// Requests whose answer is still under way.
#[derive(Clone, Default)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// One more, until what is given is dropped.
    pub(super) fn one_more(&self) -> OneWaiting {
        self.0.fetch_add(1, Ordering::SeqCst);
        OneWaiting(self.clone())
    }
}

/// A request that is waited for.
pub(super) struct OneWaiting(Waiting);

impl Drop for OneWaiting {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Answer = Result<Response<mpsc::Receiver<Result<Bytes, BodyError>>>, TransportError>;

/// The handler of the real world's server.
pub fn handler(injector: Injector, doors: Doors, world: World, waiting: Waiting) -> Handler {
    Arc::new(move |request: Request<Body>, peer: &Peer| {
        let (injector, doors, world, waiting) = (injector.clone(), doors.clone(), world.clone(), waiting.clone());
        // Whoever shows a certificate of this cluster's authority is its administrator: no other is given out.
        let known = peer.certificate.is_some();
        async move {
            let (sender, answer) = oneshot::channel();
            let transport = if known { doors.administrator } else { doors.anybody };
            injector.inject(carry(world, transport, request, sender, waiting.one_more()).boxed());
            let answer: Option<Answer> = answer.await.ok();
            match answer {
                Some(Ok(response)) => response.map(|chunks| {
                    stream_body(futures::stream::unfold(chunks, |mut chunks| async move {
                        chunks.recv().await.map(|chunk| (chunk, chunks))
                    }))
                }),
                Some(Err(error)) => unavailable(&error.to_string()),
                None => unavailable("the simulation has ended"),
            }
        }
        .boxed()
    })
}

/// One request, as a task of the virtual world.
async fn carry(
    world: World,
    transport: Arc<dyn daruma_client::Transport>,
    request: Request<Body>,
    answer: oneshot::Sender<Answer>,
    waiting: OneWaiting,
) {
    let count = waiting.0.clone();
    let mut waiting = Some(waiting);
    let (mut parts, body) = request.into_parts();
    let outer = parts.extensions.remove::<OnUpgrade>();
    let path = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let mut inside = Request::new(body);
    *inside.method_mut() = parts.method;
    *inside.headers_mut() = parts.headers;
    *inside.uri_mut() = path.parse().unwrap_or_default();
    // A client that is gone wants no answer.
    match transport.call(inside).await {
        Err(error) => drop(answer.send(Err(error))),
        Ok(mut response) => {
            if response.status() == StatusCode::SWITCHING_PROTOCOLS
                && let Some(outer) = outer
            {
                world.spawn("upgraded", streams::join(world.clone(), outer, hyper::upgrade::on(&mut response), count));
            }
            let (parts, mut body) = response.into_parts();
            let (sender, chunks) = mpsc::channel(WAITING);
            if answer.send(Ok(Response::from_parts(parts, chunks))).is_err() {
                return;
            }
            loop {
                let next = match waiting {
                    Some(_) => world.timeout(QUIET, body.frame()).await,
                    None => Ok(body.frame().await),
                };
                let frame = match next {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return,
                    Err(_) => {
                        waiting = None;
                        continue;
                    }
                };
                let chunk = match frame {
                    Ok(frame) => frame.into_data().map(Ok),
                    Err(error) => Ok(Err(error)),
                };
                if let Ok(chunk) = chunk
                    && sender.send(chunk).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

fn unavailable(why: &str) -> Response<Body> {
    let mut response = Response::new(full_body(why.to_owned()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
