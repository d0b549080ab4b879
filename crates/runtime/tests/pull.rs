//! Pulling from a registry on loopback, over TLS and without, and what is said when that fails.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "there is no world but the real one here")]

#[path = "engine_parts/certificates.rs"]
mod certificates;
#[path = "engine_parts/image.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod image;
#[path = "engine_parts/registry.rs"]
mod registry;
#[path = "engine_parts/world.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod world;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use certificates::Authority;
use daruma_runtime::images::registry::Settings;
use daruma_runtime::images::{ImageStore, archive, pull::pull};
use daruma_world::containers::RegistryAuth;
use image::{Packing, TestImage, tar};
use registry::{Registry, Rules};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ME: (&str, &str) = ("me", "s:ecret");

/// A machine's image store and settings.
struct Place {
    directory: tempfile::TempDir,
    store: Arc<ImageStore>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(ImageStore::open(&directory.path().join("images"), None).unwrap());
        Self { directory, store }
    }

    /// Writes a file below the directory of a registry's settings.
    fn setting(&self, registry: &Registry, file: &str, content: &str) {
        let path = self.directory.path().join("certs.d").join(registry.address.to_string()).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn pull(&self, image: &str, user: Option<(&str, &str)>) -> Result<String, String> {
        // No authority of this host's counts.
        let settings = Settings { certs_dir: self.directory.path().join("certs.d"), ca_file: Some(PathBuf::from("/dev/null")) };
        let auth = user.map(|(name, password)| RegistryAuth { username: name.to_owned(), password: password.to_owned() });
        pull(&world::world(), &self.store, image, auth, &settings).await.map_err(|error| error.to_string())
    }

    /// The file `hello` of the topmost layer, once the image is here.
    fn hello(&self, image: &str) -> Option<usize> {
        let record = self.store.find(image).unwrap()?;
        Some(std::fs::read(self.store.layer_paths(&record)[0].join("hello")).unwrap().len())
    }

    fn check_nothing_is_left(&self) {
        for name in ["layers", "records", "tmp"] {
            let left = std::fs::read_dir(self.directory.path().join("images").join(name)).unwrap();
            assert_eq!(left.count(), 0, "in {name}");
        }
    }
}

const HELLO: usize = 300_000;

/// Content that does not compress, so that downloads take several reads.
fn test_image() -> TestImage {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(HELLO)
    .collect();
    let layers = vec![tar(&[("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n")]), tar(&[("hello", 0o644, &noise)])];
    TestImage::new(serde_json::json!({ "Cmd": ["/hello"] }), layers)
}

async fn serve(rules: Rules) -> (Registry, String) {
    let registry = Registry::serve(LOOPBACK, &test_image(), rules).await;
    let name = format!("{}/team/app:v1", registry.address);
    (registry, name)
}

/// What containerd says before it comes to the point.
fn unresolved(image: &str, why: &str) -> String {
    format!("failed to pull and unpack image {image:?}: failed to resolve reference {image:?}: {why}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_a_token() {
    let place = Place::new();
    let authority = Authority::new();
    let rules = Rules { tls: Some(authority.server("127.0.0.1")), user: Some(ME), ..Rules::default() };
    let (registry, name) = serve(rules).await;
    place.setting(&registry, "own-ca.pem", &authority.pem);
    place.setting(&registry, "hosts.toml", &format!("server = 'https://{}'\nca = 'own-ca.pem'", registry.address));

    // Nobody's token opens nothing.
    let denied = "pull access denied, repository does not exist or may require authorization: server message: \
                  insufficient_scope: authorization failed";
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, denied));
    assert_eq!(registry.asked(), ["HEAD manifests/v1 401", "GET token 200", "HEAD manifests/v1 401"]);
    let token = format!("https://{}/token?scope=repository%3Ateam%2Fapp%3Apull&service=test", registry.address);
    let wrong = format!(
        "failed to authorize: failed to fetch oauth token: unexpected status from GET request to {token}: 401 Unauthorized\n\
         unauthorized: incorrect username or password"
    );
    assert_eq!(place.pull(&name, Some(("me", "wrong"))).await.unwrap_err(), unresolved(&name, &wrong));
    registry.asked();
    place.check_nothing_is_left();

    let id = place.pull(&name, Some(ME)).await.unwrap();
    let mut asked = registry.asked();
    // Both layers at once, in any order.
    asked[6..].sort();
    assert_eq!(
        asked,
        [
            "HEAD manifests/v1 401",
            "GET token 200",
            "HEAD manifests/v1 200",
            "GET manifests 200", // the index
            "GET manifests 200", // the manifest for this machine
            "GET blobs 307",
            "GET blobs 307",
            "GET blobs 307",
            "GET elsewhere 200",
            "GET elsewhere 200",
            "GET elsewhere 200",
        ]
    );
    assert_eq!(place.hello(&name), Some(HELLO));
    let record = place.store.find(&id).unwrap().unwrap();
    assert_eq!(record.config.cmd, ["/hello"]);
    let index = daruma_runtime::images::manifest::digest(&test_image().publish("x").index);
    let by_digest = format!("{}/team/app@{index}", registry.address);
    assert_eq!(record.digests.into_iter().collect::<Vec<_>>().concat(), by_digest);

    // By digest; the layers are here already.
    place.pull(&by_digest, Some(ME)).await.unwrap();
    let again = ["HEAD manifests 401", "GET token 200", "HEAD manifests 200"];
    assert_eq!(registry.asked()[..3], again);

    let missing = format!("{}/team/app:v2", registry.address);
    assert_eq!(place.pull(&missing, Some(ME)).await.unwrap_err(), unresolved(&missing, &format!("{missing}: not found")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_not_believed() {
    let authority = Authority::new();
    let head =
        |registry: &Registry| format!("failed to do request: Head \"https://{}/v2/team/app/manifests/v1\"", registry.address);
    let server = |registry: &Registry| format!("server = 'https://{}'\n", registry.address);
    let place = Place::new();

    let (registry, name) = serve(Rules { tls: Some(authority.server("127.0.0.1")), ..Rules::default() }).await;
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    place.setting(&registry, "hosts.toml", &server(&registry));
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, &format!("{}: {unknown}", head(&registry))));
    place.setting(&registry, "hosts.toml", &(server(&registry) + "ca = 'other.pem'"));
    place.setting(&registry, "other.pem", &Authority::new().pem);
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, &format!("{}: {unknown}", head(&registry))));
    place.setting(&registry, "hosts.toml", &(server(&registry) + "ca = 'missing.pem'"));
    let error = place.pull(&name, None).await.unwrap_err();
    assert!(error.contains("registry settings: unable to read CA cert") && error.contains("missing.pem"), "{error}");
    place.check_nothing_is_left();
    place.setting(&registry, "hosts.toml", &(server(&registry) + "skip_verify = true"));
    place.pull(&name, None).await.unwrap();

    let (registry, name) = serve(Rules { tls: Some(authority.server("registry.example")), ..Rules::default() }).await;
    place.setting(&registry, "hosts.toml", &(server(&registry) + "ca = 'ca.pem'"));
    place.setting(&registry, "ca.pem", &authority.pem);
    let other = "tls: failed to verify certificate: x509: certificate is valid for registry.example, not 127.0.0.1";
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, &format!("{}: {other}", head(&registry))));

    // A server that is its own authority, as most private registries are.
    let (pair, pem) = certificates::self_signed("127.0.0.1");
    let (registry, name) = serve(Rules { tls: Some(pair), ..Rules::default() }).await;
    place.setting(&registry, "hosts.toml", &(server(&registry) + "ca = ['ca.pem']"));
    place.setting(&registry, "ca.pem", &pem);
    place.pull(&name, None).await.unwrap();

    let (registry, name) = serve(Rules::default()).await;
    place.setting(&registry, "hosts.toml", &server(&registry));
    let plain = "http: server gave HTTP response to HTTPS client";
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, &format!("{}: {plain}", head(&registry))));
    assert!(registry.asked().is_empty());

    // Nobody listens.
    let gone = "127.0.0.1:1/team/app:v1";
    let refused = "failed to do request: Head \"http://127.0.0.1:1/v2/team/app/manifests/v1\": dial tcp 127.0.0.1:1: \
                   connect: connection refused";
    assert_eq!(place.pull(gone, None).await.unwrap_err(), unresolved(gone, refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_not_what_it_should_be() {
    let place = Place::new();
    let (_registry, name) = serve(Rules { corrupt: true, ..Rules::default() }).await;
    let error = place.pull(&name, None).await.unwrap_err();
    assert!(
        error.starts_with(&format!("failed to pull and unpack image {name:?}: failed commit on ref \"layer-sha256:")),
        "{error}"
    );
    assert!(error.contains(": unexpected commit digest sha256:") && error.ends_with(": failed precondition"), "{error}");
    assert!(place.store.find(&name).unwrap().is_none());
    assert!(place.hello(&name).is_none());

    // An image for other machines only.
    let mut published = test_image().publish("x");
    let mut index: serde_json::Value = serde_json::from_slice(&published.index).unwrap();
    index["manifests"].as_array_mut().unwrap().truncate(1);
    published.index = index.to_string().into_bytes();
    let digest = daruma_runtime::images::manifest::digest(&published.index);
    let registry = Registry::serve_published(LOOPBACK, published, Rules::default()).await;
    let name = format!("{}/team/app:v1", registry.address);
    let wanted = format!("failed to pull and unpack image {name:?}: no match for platform in manifest {digest}: not found");
    assert_eq!(place.pull(&name, None).await.unwrap_err(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_downloads_go_on() {
    for (ranges, breaks) in [(true, 2), (true, 12), (false, 2)] {
        let place = Place::new();
        let (registry, name) = serve(Rules { breaks, ranges, ..Rules::default() }).await;
        let pulled = place.pull(&name, None).await;
        assert!(pulled.is_ok(), "ranges {ranges}, {breaks} breaks: {pulled:?}");
        assert_eq!(place.hello(&name), Some(HELLO));
        let again = if ranges { "GET elsewhere 206" } else { "GET elsewhere 200" };
        assert!(registry.asked().iter().filter(|line| *line == again).count() >= breaks as usize);
    }
    // What brings nothing new is given up: every attempt ends at the same half.
    let place = Place::new();
    let (_registry, name) = serve(Rules { breaks: 1000, ..Rules::default() }).await;
    let error = place.pull(&name, None).await.unwrap_err();
    let wanted = format!(
        "failed to pull and unpack image {name:?}: failed to copy: httpReadSeeker: failed open: failed to do request: Get"
    );
    assert!(error.starts_with(&wanted), "{error}");
    place.check_nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_of_all_kinds() {
    let url = |registry: &Registry| format!("http://{}/v2/team/app/manifests/v1", registry.address);
    let place = Place::new();
    // One failure of the server is passed over, two are not.
    let (_registry, name) = serve(Rules { busy: 1, ..Rules::default() }).await;
    place.pull(&name, None).await.unwrap();
    let (registry, name) = serve(Rules { busy: 2, ..Rules::default() }).await;
    let wanted = format!("unexpected status from HEAD request to {}: 503 Service Unavailable", url(&registry));
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, &wanted));

    for rules in [Rules { no_head: true, ..Rules::default() }, Rules { no_digest: true, ..Rules::default() }] {
        let place = Place::new();
        let (_registry, name) = serve(rules).await;
        place.pull(&name, None).await.unwrap();
        assert_eq!(place.hello(&name), Some(HELLO));
    }

    let (registry, name) = serve(Rules { user: Some(ME), basic: true, ..Rules::default() }).await;
    let none = "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth \
                credentials";
    assert_eq!(place.pull(&name, None).await.unwrap_err(), unresolved(&name, none));
    let wrong = format!("unexpected status from HEAD request to {}: 401 Unauthorized", url(&registry));
    assert_eq!(place.pull(&name, Some(("me", "wrong"))).await.unwrap_err(), unresolved(&name, &wrong));
    place.pull(&name, Some(ME)).await.unwrap();

    // A mirror that has nothing, one that may not say what a tag is, one that is off; then the registry itself.
    let (mirror, _) = serve(Rules::default()).await;
    let (registry, name) = serve(Rules::default()).await;
    let hosts = format!(
        "server = 'http://{}'\n[host.'http://127.0.0.1:1']\n[host.'http://{}/nothing']\ncapabilities = ['pull', 'resolve']\n\
         [host.'http://{}']\ncapabilities = ['pull']",
        registry.address, mirror.address, mirror.address
    );
    place.setting(&registry, "hosts.toml", &hosts);
    place.pull(&name, None).await.unwrap();
    assert!(mirror.asked().iter().any(|line| line == "GET manifests 200"), "content comes from the mirror");
    assert_eq!(registry.asked().last().unwrap(), "HEAD manifests/v1 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zstd_layers() {
    let image = TestImage { packing: Packing::Zstd, ..test_image() };
    let registry = Registry::serve(LOOPBACK, &image, Rules::default()).await;
    let name = format!("{}/team/app:v1", registry.address);
    let place = Place::new();
    place.pull(&name, None).await.unwrap();
    assert_eq!(place.hello(&name), Some(HELLO));

    let place = Place::new();
    let file = place.directory.path().join("layout.tar");
    std::fs::write(&file, image.oci_archive("example.org/app:z")).unwrap();
    assert_eq!(archive::load(&place.store, &file).unwrap(), ["example.org/app:z"]);
    assert_eq!(place.hello("example.org/app:z"), Some(HELLO));
}
