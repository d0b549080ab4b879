//! What the supervisor and a machine's PID 1 say to each other after the boot: one JSON document a line.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use daruma_world::machines::{Pressure, PressureId, Signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An order to PID 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Repeated by the answer.
    pub number: u64,
    /// What to do.
    pub what: What,
}

/// What PID 1 can be told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum What {
    /// Signal the service.
    Signal { service: String, signal: Signal },
    /// Start to use the machine up.
    Press { id: PressureId, pressure: Pressure },
    /// End that.
    Release { id: PressureId },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Number of the order.
    pub number: u64,
    /// Why it was not carried out.
    pub problem: Option<String>,
}

/// Sends one document.
pub(crate) fn send(mut stream: &UnixStream, document: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Bytes received that do not make a whole line yet.
#[derive(Debug, Default)]
pub(crate) struct Received(Vec<u8>);

impl Received {
    /// Reads once.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other side has gone; those of the stream.
    pub(crate) fn read(&mut self, mut stream: &UnixStream) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.0.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// The next whole line, without its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.0.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// The next whole document. What is none is skipped.
    pub(crate) fn document<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            let line = self.line()?;
            if let Ok(document) = serde_json::from_str(&line) {
                return Some(document);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_through_in_pieces() {
        let (near, far) = UnixStream::pair().unwrap();
        let order = Order { number: 7, what: What::Signal { service: "kubelet".to_owned(), signal: Signal::Kill } };
        (&near).write_all(b"{\"number\":").unwrap();
        let mut received = Received::default();
        received.read(&far).unwrap();
        assert_eq!(received.document::<Order>(), None);
        (&near).write_all(b"nonsense\n").unwrap();
        send(&near, &order).unwrap();
        received.read(&far).unwrap();
        assert_eq!(received.document::<Order>(), Some(order));
        std::mem::drop(near);
        assert_eq!(received.read(&far).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
