//! What the test binary does inside containers.

use std::io::{BufRead, Read, Write};
use std::time::Duration;

extern "C" fn polite_end(_: libc::c_int) {
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(3) }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Plays the part named by the first word.
pub fn main(words: &[String]) -> ! {
    let word = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    match word(0) {
        "say" => println!("{}", word(1)),
        "exit" => std::process::exit(word(1).parse().unwrap()),
        "delay" => {
            std::thread::sleep(Duration::from_millis(500));
            std::process::exit(word(1).parse().unwrap())
        }
        "sleep" => sleep(),
        "polite" => {
            // SAFETY: the handler only calls _exit.
            unsafe { libc::signal(libc::SIGTERM, polite_end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
            sleep()
        }
        "hog" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(vec![1; 1 << 20]);
            }
        }
        "cat" => {
            let mut buffer = [0u8; 4096];
            while let Ok(len @ 1..) = std::io::stdin().read(&mut buffer) {
                std::io::stdout().write_all(&buffer[..len]).unwrap();
                std::io::stdout().flush().unwrap();
            }
        }
        "echo-server" => {
            let listener = std::net::TcpListener::bind("127.0.0.1:8123").unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut other = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut other);
                }
            });
            for line in std::io::stdin().lock().lines() {
                println!("got {}", line.unwrap());
            }
            sleep()
        }
        "exists" => words[1..].iter().for_each(|path| println!("{path} {}", std::path::Path::new(path).exists())),
        "look" => look(),
        other => panic!("no part {other}"),
    }
    std::process::exit(0)
}

fn look() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    println!("pid {}", std::process::id());
    println!("uid {}", nix::unistd::getuid());
    let groups: Vec<String> = read("/proc/self/status")
        .lines()
        .filter_map(|line| line.strip_prefix("Groups:"))
        .map(|line| line.trim().to_owned())
        .collect();
    println!("groups {}", groups.join(""));
    println!("hostname {}", nix::unistd::gethostname().unwrap().to_string_lossy());
    println!("cwd {}", std::env::current_dir().unwrap().display());
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    println!("file {}", read("/data/one"));
    println!("resolv {}", read("/etc/resolv.conf"));
    println!("{}", read("/proc/self/status").lines().find(|line| line.starts_with("CapEff")).unwrap());
    println!("cgroups {}", read("/proc/self/cgroup"));
    for path in
        ["/new", "/var/run/secrets/x/new", "/sys/fs/cgroup/memory/notify_on_release", "/dev/null", "/dev/shm/new", "/dev/stderr"]
    {
        match std::fs::write(path, "0") {
            Ok(()) => println!("write {path}: ok"),
            Err(error) => println!("write {path}: {:?}", nix::Error::from_raw(error.raw_os_error().unwrap())),
        }
    }
}
