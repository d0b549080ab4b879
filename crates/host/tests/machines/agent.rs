//! What the machines of the tests run: a process that does what it is told over TCP, one line a connection.
#![expect(clippy::disallowed_methods, reason = "this runs inside a real machine")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use daruma_host::hardware::MachineHardware;
use daruma_world::hardware::Hardware;
use nix::sys::signal::{SigSet, Signal};

pub const PORT: u16 = 7000;
const SHOUT_PORT: u16 = 7001;
/// Datagrams that came to the machine.
static HEARD: AtomicU32 = AtomicU32::new(0);

pub fn main(_: &[String]) -> ExitCode {
    say_goodbye_on_term();
    let Ok(listener) = TcpListener::bind(("0.0.0.0", PORT)) else { return ExitCode::FAILURE };
    println!("agent: listening");
    if let Ok(ears) = UdpSocket::bind(("0.0.0.0", SHOUT_PORT)) {
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while ears.recv(&mut buffer).is_ok() {
                HEARD.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).is_ok() {
                let answer = obey(line.trim()).unwrap_or_else(|error| format!("error: {error}"));
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
    }
    ExitCode::SUCCESS
}

/// Writes a file when it is asked to end, and ends.
fn say_goodbye_on_term() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    let _ = set.thread_block();
    thread::spawn(move || {
        let _ = set.wait();
        let _ = fs::write("/var/goodbye", "bye");
        std::process::exit(0);
    });
}

fn obey(line: &str) -> std::io::Result<String> {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    match words.as_slice() {
        ["read", path] => fs::read_to_string(path),
        ["ls", path] => {
            let mut names: Vec<String> =
                fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            Ok(names.join(" "))
        }
        ["write", path, text] => fs::write(path, text).map(|()| "ok".to_owned()),
        ["write-synced", path, text] => {
            let mut file = File::create(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            File::open("/var")?.sync_all()?;
            Ok("ok".to_owned())
        }
        ["facts"] => Ok(format!("{:?}", MachineHardware::read()?.facts())),
        ["hog"] => {
            let status = Command::new("/usr/local/bin/daruma").arg("hog").status()?;
            Ok(format!("{status}"))
        }
        ["orphan"] => {
            // A grandchild whose parent ends at once: PID 1 has to bury it.
            Command::new("/usr/local/bin/daruma").arg("--list").stdout(std::process::Stdio::null()).spawn()?;
            Ok("ok".to_owned())
        }
        ["fill", path] => fill(path),
        ["talk", to] => talk(to),
        ["relay", to, line] => tell(to.parse().map_err(std::io::Error::other)?, line),
        ["heard"] => Ok(HEARD.swap(0, Ordering::Relaxed).to_string()),
        ["shout", to, count] => shout(to, count.parse().map_err(std::io::Error::other)?),
        ["receive", count] => receive(count.parse().map_err(std::io::Error::other)?),
        ["free", path] => {
            let space = nix::sys::statvfs::statvfs(*path)?;
            Ok(format!("{} {}", space.blocks_available() * space.fragment_size(), space.files_free()))
        }
        ["cpu"] => Ok(daruma_host::machine::usage::read()?.cpu_ns.to_string()),
        ["thread"] => Ok(format!("{}", thread::Builder::new().spawn(|| ()).is_ok())),
        ["container", id] => container(id),
        // Written, so that the machine has to find a page for each.
        ["take", mib] => Ok(vec![1_u8; mib.parse::<usize>().map_err(std::io::Error::other)? << 20].len().to_string()),
        ["pid"] => Ok(std::process::id().to_string()),
        ["fail"] => std::process::exit(7),
        _ => Ok(format!("error: what is {line}?")),
    }
}

fn fill(path: &str) -> std::io::Result<String> {
    let mut file = File::create(path)?;
    let block = vec![7; 1 << 20];
    for written in 0..4096_u32 {
        if let Err(error) = file.write_all(&block) {
            fs::remove_file(path)?;
            return Ok(format!("{:?} after {written} MiB", error.kind()));
        }
    }
    Ok("never full".to_owned())
}

/// Connects and sends a byte every 2 ms for as long as it lives.
fn talk(to: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
    Ok("ok".to_owned())
}

fn shout(to: &str, count: u32) -> std::io::Result<String> {
    let mouth = UdpSocket::bind(("0.0.0.0", 0))?;
    for number in 0..count {
        // Slow enough for any ear.
        if number % 20 == 19 {
            thread::sleep(Duration::from_millis(1));
        }
        // A machine that cannot be found is shouted at in vain.
        let _ = mouth.send_to(&[7; 100], (to, SHOUT_PORT));
    }
    Ok("ok".to_owned())
}

/// Sends so many bytes to whoever asks: the answer itself.
fn receive(count: usize) -> std::io::Result<String> {
    Ok("x".repeat(count))
}

/// Starts a process in a control group of its own, as an engine does.
fn container(id: &str) -> std::io::Result<String> {
    let top = std::path::Path::new("/sys/fs/cgroup");
    let pids = top.join("pids");
    let group = if pids.exists() { pids } else { top.to_owned() }.join("kubepods").join(id);
    fs::create_dir_all(&group)?;
    let mut child = Command::new("/usr/local/bin/daruma").arg("sleep").spawn()?;
    fs::write(group.join("cgroup.procs"), child.id().to_string())?;
    let pid = child.id();
    thread::spawn(move || child.wait());
    Ok(pid.to_string())
}

/// Lives.
pub fn sleep() -> ExitCode {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// Takes memory until the kernel has enough of it. Marked as containers are.
pub fn hog() -> ExitCode {
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; 1 << 20]);
        if taken.len() > 4096 {
            return ExitCode::SUCCESS;
        }
    }
}

/// Sends one line to the agent at `address` and returns its answer.
pub fn tell(address: std::net::Ipv4Addr, line: &str) -> std::io::Result<String> {
    let to = std::net::SocketAddr::from((address, PORT));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
