//! Writers that remember what was acknowledged, and a watcher that remembers what it saw.

#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::disallowed_methods, reason = "it loads a real server")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_host::https::HttpsTransport;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::calls::{self, Lines};

const MAPS: &str = "/api/v1/namespaces/load/configmaps";
/// Objects of a writer; small, so that every one is changed often.
const OBJECTS: u64 = 20;

/// How long an answer to a question may take before it is asked over a new connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// What became of one object: `None` is deleted.
type Content = Option<u64>;

#[derive(Default)]
struct Book {
    /// By name: what was acknowledged last.
    acknowledged: BTreeMap<String, Content>,
    /// By revision: every acknowledged change.
    changes: BTreeMap<u64, (String, Content)>,
    /// By revision: every change that the watch delivered.
    seen: BTreeMap<u64, (String, Content)>,
    /// Revisions that a list stands for, because the watch could not go on: after .0, up to .1.
    listed: Vec<(u64, u64)>,
    /// Writes whose fate nobody told the writer.
    unknown: u64,
    complaints: Vec<String>,
}

/// Makes a connection to the server.
type Connect = Arc<dyn Fn() -> HttpsTransport + Send + Sync>;

/// A connection that is made anew when the server is: nobody hangs up for a machine without power.
struct Connection {
    connect: Connect,
    transport: HttpsTransport,
    restarts: tokio::sync::watch::Receiver<u64>,
}

impl Connection {
    fn new(connect: &Connect, restarts: &tokio::sync::watch::Receiver<u64>) -> Self {
        Self { connect: connect.clone(), transport: connect(), restarts: restarts.clone() }
    }

    /// A change: given up when the server that it went to is gone, never before.
    async fn change(&mut self, method: Method, path: &str, body: &[u8]) -> Result<(StatusCode, Vec<u8>), String> {
        tokio::select! {
            biased;
            _ = self.restarts.changed() => {
                self.transport = (self.connect)();
                Err("the server is gone".into())
            }
            answer = calls::call(&self.transport, method, path, body) => answer,
        }
    }

    /// A question, which can be given up at any time.
    async fn ask(&mut self, path: &str) -> Result<(StatusCode, Vec<u8>), String> {
        let answer = tokio::time::timeout(PATIENCE, calls::call(&self.transport, Method::GET, path, b"")).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer".into()));
        if answer.is_err() {
            self.transport = (self.connect)();
        }
        answer
    }
}

/// Load on one API server, until [`Load::finish`].
pub struct Load {
    connect: Connect,
    restarts: tokio::sync::watch::Sender<u64>,
    stop: Arc<AtomicBool>,
    book: Arc<Mutex<Book>>,
    writers: Vec<tokio::task::JoinHandle<()>>,
    watcher: tokio::task::JoinHandle<()>,
}

/// Figures of a load.
#[derive(Debug)]
pub struct Outcome {
    /// Acknowledged changes.
    pub acknowledged: usize,
    /// Changes that the watch delivered.
    pub seen: usize,
    /// How often the watch had to list again.
    pub lists: usize,
    /// Writes whose answer was lost.
    pub unknown: u64,
    /// All that was wrong.
    pub complaints: Vec<String>,
}

impl Load {
    /// Starts `writers` writers and one watcher, each with a connection of its own.
    pub async fn start(writers: u64, connect: Connect) -> Self {
        let transport = connect();
        let namespace = json!({"metadata": {"name": "load"}});
        calls::ensure(&transport, "/api/v1/namespaces", &namespace).await.expect("a namespace");
        let (stop, book) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Book::default())));
        let (restarts, receiver) = tokio::sync::watch::channel(0);
        let connection = || Connection::new(&connect, &receiver);
        let watcher = tokio::spawn(watch(connection(), stop.clone(), book.clone()));
        let writers = (0..writers).map(|writer| tokio::spawn(write(connection(), writer, stop.clone(), book.clone()))).collect();
        Self { connect, restarts, stop, book, writers, watcher }
    }

    /// The server that was there is gone for certain; whatever was asked of it gets no answer.
    pub fn restarted(&self) {
        self.restarts.send_modify(|restarts| *restarts += 1);
    }

    /// How many changes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.book.lock().expect("no panic").changes.len()
    }

    /// Compares what the server has with what it acknowledged; the writers go on meanwhile.
    pub async fn check(&self) {
        let before = self.book.lock().expect("no panic").acknowledged.clone();
        let (objects, _) = list(&(self.connect)()).await.expect("a list after a start");
        let mut book = self.book.lock().expect("no panic");
        for (name, content) in before {
            let now = objects.get(&name).copied();
            // Contents only grow, so what a writer did since can be told from a loss.
            if content.is_some_and(|content| now.is_some_and(|now| now < content)) {
                book.complaints.push(format!("{name} went back from {content:?} to {now:?}"));
            }
        }
    }

    /// Stops the writers, waits until the watch has caught up, and compares everything.
    pub async fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("a writer does not panic");
        }
        let transport = (self.connect)();
        // A last change marks the end of the watch.
        let mark = json!({"metadata": {"generateName": "mark-"}, "data": {"n": "0"}});
        let mark = calls::json(&transport, Method::POST, MAPS, &mark).await.expect("a last write");
        let end = revision(&mark);
        for _ in 0..100 {
            let reached = {
                let book = self.book.lock().expect("no panic");
                book.seen.last_key_value().map(|(revision, _)| *revision).max(book.listed.last().map(|(_, to)| *to))
            };
            if reached >= Some(end) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.watcher.abort();
        let (objects, _) = list(&transport).await.expect("a last list");
        let mut book = std::mem::take(&mut *self.book.lock().expect("no panic"));
        if book.seen.last_key_value().is_none_or(|(revision, _)| *revision < end)
            && book.listed.last().is_none_or(|(_, to)| *to < end)
        {
            book.complaints.push(format!("the watch did not come to {end}"));
        }
        for (name, content) in &book.acknowledged {
            if objects.get(name).copied() != *content {
                let now = objects.get(name);
                book.complaints.push(format!("{name}: {content:?} was acknowledged, {now:?} is there"));
            }
        }
        for (revision, change) in &book.changes {
            let listed = book.listed.iter().any(|(after, to)| after < revision && revision <= to);
            match book.seen.get(revision) {
                Some(seen) if seen == change => {}
                Some(seen) => book.complaints.push(format!("{change:?} at {revision} was watched as {seen:?}")),
                None if listed => {}
                None => book.complaints.push(format!("the watch did not show {change:?} at {revision}")),
            }
        }
        Outcome {
            acknowledged: book.changes.len(),
            seen: book.seen.len(),
            lists: book.listed.len(),
            unknown: book.unknown,
            complaints: book.complaints,
        }
    }
}

fn map(name: &str, content: u64) -> Vec<u8> {
    let padding = "x".repeat(300);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": content.to_string(), "padding": padding}})
        .to_string()
        .into_bytes()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn content(object: &Value) -> u64 {
    object["data"]["n"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn list(transport: &HttpsTransport) -> Result<(BTreeMap<String, u64>, u64), String> {
    let answer = calls::json(transport, Method::GET, MAPS, &Value::Null).await?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok((items.iter().map(|item| (name(item), content(item))).collect(), revision(&answer)))
}

/// Creates, changes and (every seventh time) deletes objects that nobody else writes.
async fn write(mut connection: Connection, writer: u64, stop: Arc<AtomicBool>, book: Arc<Mutex<Book>>) {
    let mut last = 0;
    for count in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("writer-{writer}-{}", count % OBJECTS);
        let path = format!("{MAPS}/{name}");
        let old = book.lock().expect("no panic").acknowledged.get(&name).copied().flatten();
        let (method, path, new) = match old {
            None => (Method::POST, MAPS, Some(count)),
            Some(_) if count % 7 == 0 => (Method::DELETE, path.as_str(), None),
            Some(_) => (Method::PUT, path.as_str(), Some(count)),
        };
        let body = new.map(|content| map(&name, content)).unwrap_or_default();
        let answer = connection.change(method.clone(), path, &body).await;
        let mut complaint = None;
        match answer {
            Ok((status, answer)) if status.is_success() => {
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                let mut book = book.lock().expect("no panic");
                // A deletion answers with a Status, which has no revision.
                let revision = revision(&answer);
                if new.is_some() {
                    if revision <= last {
                        complaint = Some(format!("{name}: revision {revision} after {last}"));
                    }
                    last = revision;
                    book.changes.insert(revision, (name.clone(), new));
                }
                book.acknowledged.insert(name, new);
            }
            Ok((status, answer)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                complaint = Some(format!("{method} {path} ({old:?} before): {status}: {}", String::from_utf8_lossy(&answer)));
                find_out(&mut connection, &name, old, new, &book, &stop).await;
            }
            _ => {
                book.lock().expect("no panic").unknown += 1;
                find_out(&mut connection, &name, old, new, &book, &stop).await;
            }
        }
        book.lock().expect("no panic").complaints.extend(complaint);
    }
}

/// After a lost answer: either the old content or the new one must be there.
async fn find_out(connection: &mut Connection, name: &str, old: Content, new: Content, book: &Mutex<Book>, stop: &AtomicBool) {
    for attempt in 0.. {
        let answer = connection.ask(&format!("{MAPS}/{name}")).await;
        let now = match answer {
            Ok((StatusCode::OK, object)) => Some(content(&serde_json::from_slice(&object).unwrap_or_default())),
            Ok((StatusCode::NOT_FOUND, _)) => None,
            other => {
                if stop.load(Ordering::Relaxed) && attempt > 100 {
                    book.lock().expect("no panic").complaints.push(format!("{name}: no answer any more: {other:?}"));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let mut book = book.lock().expect("no panic");
        if now != old && now != new {
            book.complaints.push(format!("{name} was {old:?}, became perhaps {new:?} and is {now:?}"));
        }
        book.acknowledged.insert(name.to_owned(), now);
        return;
    }
}

/// Watches from the last revision on, again and again.
async fn watch(mut connection: Connection, stop: Arc<AtomicBool>, book: Arc<Mutex<Book>>) {
    let mut last = None;
    loop {
        let Some(from) = last else {
            let listed = tokio::time::timeout(PATIENCE, list(&connection.transport)).await;
            if let Ok(Ok((_, revision))) = listed {
                let mut book = book.lock().expect("no panic");
                let after = book.seen.last_key_value().map_or(0, |(revision, _)| *revision);
                let listed = book.listed.last().map_or(0, |(_, to)| *to);
                book.listed.push((after.max(listed), revision));
                last = Some(revision);
            } else {
                connection.transport = (connection.connect)();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            continue;
        };
        let path = format!("{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={from}");
        let opened = tokio::time::timeout(PATIENCE, Lines::open(&connection.transport, &path)).await;
        match opened.unwrap_or_else(|_| Err((None, "no answer".into()))) {
            Ok(mut lines) => loop {
                let line = tokio::select! {
                    biased;
                    line = lines.next() => line,
                    _ = connection.restarts.changed() => None,
                };
                if !line.is_some_and(|line| take(&line, &mut last, &book)) {
                    break;
                }
            },
            Err((Some(StatusCode::GONE), _)) => last = None,
            Err((Some(status), text)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                book.lock().expect("no panic").complaints.push(format!("watch from {from}: {status}: {text}"));
            }
            Err(_) => connection.transport = (connection.connect)(),
        }
        if stop.load(Ordering::Relaxed) && last.is_none() {
            continue;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes one line of a watch down; false ends the watch.
fn take(line: &[u8], last: &mut Option<u64>, book: &Mutex<Book>) -> bool {
    // A line that broke off with the connection is not an event.
    let Ok(event) = serde_json::from_slice::<Value>(line) else { return false };
    let object = &event["object"];
    let mut book = book.lock().expect("no panic");
    match event["type"].as_str().unwrap_or_default() {
        "ERROR" if object["code"] == 410 => {
            *last = None;
            return false;
        }
        "BOOKMARK" => {
            let revision = revision(object);
            if Some(revision) < *last {
                book.complaints.push(format!("a bookmark at {revision} after {last:?}"));
            }
            *last = Some(revision);
        }
        "ADDED" | "MODIFIED" | "DELETED" => {
            let (revision, name) = (revision(object), object["metadata"]["name"].as_str().unwrap_or_default());
            if Some(revision) <= *last {
                book.complaints.push(format!("an event of {name} at {revision} after {last:?}"));
            }
            *last = Some(revision);
            let content = (event["type"] != "DELETED").then(|| content(object));
            book.seen.insert(revision, (name.to_owned(), content));
        }
        other => book.complaints.push(format!("an event of type {other:?}: {object}")),
    }
    true
}
