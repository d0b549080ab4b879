//! The socket by which `daruma image` reaches a machine's container engine: one JSON line, for `load`
//! followed by the archive, and one JSON line back.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use daruma_runtime::EmbeddedEngine;
use daruma_world::containers::ContainerRuntime;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// Where the socket is inside a machine.
pub const PATH: &str = "/run/daruma/images.sock";
/// Where archives wait to be unpacked: on the disk, as they may be larger than the memory.
const SPOOL: &str = "/var/lib/daruma/load.tar";

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb")]
pub enum Request {
    /// Load an archive of so many bytes, which follows.
    Load {
        /// Its length.
        bytes: u64,
    },
    /// Pull from a registry.
    Pull {
        /// The image.
        reference: String,
    },
    /// List all.
    List,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Answer {
    /// These images are there now.
    Done {
        /// Names or ids.
        images: Vec<String>,
    },
    /// All images.
    Images {
        /// The images.
        images: Vec<Image>,
    },
    /// Nothing was changed.
    Failed {
        /// Why.
        why: String,
    },
}

/// An image.
#[derive(Debug, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…`
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// Asks at the socket `path`; blocks.
pub fn ask(path: &Path, request: &Request, content: Option<impl Read>) -> Result<Answer> {
    let mut stream = UnixStream::connect(path).context("connecting to the machine's container engine")?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    if let Some(mut content) = content {
        std::io::copy(&mut content, &mut stream).context("sending the archive")?;
    }
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("waiting for the answer")?;
    serde_json::from_str(&answer).context("reading the answer")
}

/// Answers until the process ends.
pub async fn serve(engine: Arc<EmbeddedEngine>) -> Result<()> {
    // A socket of an earlier kubelet may be there.
    let _ = std::fs::remove_file(PATH);
    let listener = UnixListener::bind(PATH).with_context(|| format!("listening on {PATH}"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        // One at a time: archives are unpacked through one file.
        let (reader, mut writer) = stream.into_split();
        let mut reader = tokio::io::BufReader::new(reader);
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let answer = match serde_json::from_str(&line) {
            Ok(request) => {
                answer(&engine, request, &mut reader).await.unwrap_or_else(|error| Answer::Failed { why: format!("{error:#}") })
            }
            Err(error) => Answer::Failed { why: format!("cannot understand the request: {error}") },
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        if let Err(error) = writer.write_all(&line).await {
            tracing::debug!(%error, "nobody waits for the answer");
        }
    }
}

async fn answer(
    engine: &Arc<EmbeddedEngine>,
    request: Request,
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Result<Answer> {
    match request {
        Request::Load { bytes } => {
            let spool = PathBuf::from(SPOOL);
            let loaded = async {
                let mut file = tokio::fs::File::create(&spool).await.context("storing the archive")?;
                let received = tokio::io::copy(&mut reader.take(bytes), &mut file).await.context("storing the archive")?;
                anyhow::ensure!(received == bytes, "the archive broke off after {received} of {bytes} bytes");
                file.flush().await.context("storing the archive")?;
                Ok(engine.load_archive(&spool).await?)
            }
            .await;
            // The next load makes it anew.
            let _ = tokio::fs::remove_file(&spool).await;
            Ok(Answer::Done { images: loaded? })
        }
        Request::Pull { reference } => {
            let id = engine.pull_image(&reference, None).await?;
            Ok(Answer::Done { images: vec![format!("{reference} ({id})")] })
        }
        Request::List => {
            let images = engine.list_images().await?;
            let shown =
                images.iter().map(|image| Image { id: image.id.clone(), tags: image.tags.clone(), size_bytes: image.size_bytes });
            Ok(Answer::Images { images: shown.collect() })
        }
    }
}
