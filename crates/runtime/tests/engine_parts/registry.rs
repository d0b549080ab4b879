//! A registry for one image, on loopback: anonymous tokens, an index, manifests, blobs, a redirect.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn digest(content: &[u8]) -> String {
    daruma_runtime::images::manifest::digest(content)
}

fn tar(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// An image of two layers, the second with whiteouts.
pub struct TestImage {
    config: Vec<u8>,
    layers: Vec<Vec<u8>>,
}

impl TestImage {
    pub fn new() -> Self {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let first = tar(&[
            ("bin/program", 0o755, &program),
            ("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/sh\n"),
            ("etc/gone", 0o644, b"x"),
            ("dir/old", 0o644, b"x"),
        ]);
        let second = tar(&[("etc/.wh.gone", 0o644, b""), ("dir/.wh..wh..opq", 0o644, b""), ("dir/new", 0o644, b"x")]);
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {
                "User": "web", "Env": null, "Entrypoint": ["/bin/program", "act"],
                "Cmd": ["exists", "/etc/gone", "/dir/old", "/dir/new", "/etc/passwd"]
            },
            "rootfs": { "type": "layers", "diff_ids": [digest(&first), digest(&second)] },
        });
        Self { config: config.to_string().into_bytes(), layers: vec![first, second] }
    }

    /// As `docker save` writes it.
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        let manifest =
            serde_json::json!([{ "Config": "c.json", "RepoTags": [name], "Layers": ["0/layer.tar", "1/layer.tar"] }]).to_string();
        tar(&[
            ("c.json", 0o644, &self.config),
            ("0/layer.tar", 0o644, &self.layers[0]),
            ("1/layer.tar", 0o644, &self.layers[1]),
            ("manifest.json", 0o644, manifest.as_bytes()),
        ])
    }

    /// Blobs by digest, the manifest's own digest, and the index document.
    fn blobs(&self, name: &str) -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
        let mut blobs = BTreeMap::new();
        let mut add = |content: Vec<u8>| {
            let (digest, size) = (digest(&content), content.len());
            blobs.insert(digest.clone(), content);
            (digest, size)
        };
        let describe = |(digest, size): (String, usize)| serde_json::json!({ "mediaType": "x", "digest": digest, "size": size });
        let layers: Vec<_> = self.layers.iter().map(|layer| describe(add(gzip(layer)))).collect();
        let config = describe(add(self.config.clone()));
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut entry = describe(add(manifest.to_string().into_bytes()));
        entry["platform"] =
            serde_json::json!({ "architecture": daruma_runtime::images::manifest::architecture(), "os": "linux" });
        entry["annotations"] = serde_json::json!({ "io.containerd.image.name": name });
        (blobs, serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes())
    }

    /// As an OCI layout.
    pub fn oci_archive(&self, name: &str) -> Vec<u8> {
        let (blobs, index) = self.blobs(name);
        let paths: Vec<(String, Vec<u8>)> =
            blobs.into_iter().map(|(digest, content)| (format!("blobs/{}", digest.replace(':', "/")), content)).collect();
        let mut entries: Vec<(&str, u32, &[u8])> =
            paths.iter().map(|(path, content)| (path.as_str(), 0o644, &content[..])).collect();
        entries.push(("index.json", 0o644, &index));
        entries.push(("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#));
        tar(&entries)
    }
}

/// Blobs by digest, and the index.
type Content = (BTreeMap<String, Vec<u8>>, Vec<u8>);

/// Serves the image as `team/app:v1`; gives the port.
pub async fn serve(image: &TestImage) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (blobs, index) = image.blobs("x");
    let content = Arc::new((blobs, index));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, content.clone(), port));
        }
    });
    port
}

async fn answer(mut stream: TcpStream, content: Arc<Content>, port: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (mut status, mut headers, mut body) = ("200 OK", String::new(), Vec::new());
    if path.starts_with("/token") {
        assert!(path.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{path}");
        body = br#"{"token":"secret"}"#.to_vec();
    } else if let Some(digest) = path.strip_prefix("/elsewhere/") {
        body.clone_from(&content.0[digest]);
    } else if !head.to_ascii_lowercase().contains("authorization: bearer secret") {
        status = "401 Unauthorized";
        headers = format!(
            "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"test\",scope=\"repository:team/app:pull\"\r\n"
        );
    } else if path == "/v2/team/app/manifests/v1" {
        body.clone_from(&content.1);
    } else if let Some(manifest) = path.strip_prefix("/v2/team/app/manifests/").and_then(|digest| content.0.get(digest)) {
        body.clone_from(manifest);
    } else if let Some(digest) = path.strip_prefix("/v2/team/app/blobs/") {
        status = "307 Temporary Redirect";
        headers = format!("Location: /elsewhere/{digest}\r\n");
    } else {
        status = "404 Not Found";
    }
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
}
