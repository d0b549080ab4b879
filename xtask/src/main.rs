//! Project automation: `cargo xtask ci`, `tidy`, `dist`, `bench`.

mod bench;
mod ci;
mod dist;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["ci"] => ci::run(&root()),
        ["tidy"] => tidy::run(&root()),
        ["dist"] => dist::run(&root()).map(|dist| println!("{}", dist.binary.display())),
        ["bench", rest @ ..] => bench::run(&root(), rest),
        _ => {
            eprintln!("usage: cargo xtask ci | tidy | dist | bench [NAME…]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's directory.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
