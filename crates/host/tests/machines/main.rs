//! Machines on the real kernel: this binary is the tests, the supervisor, PID 1 and the command of the machines.
//!
//! Needs root; prints why it skips where something is missing. Cleans up after itself.

mod agent;
mod bed;
mod capture;
mod failures;
mod lifecycle;
mod links;
mod outside;
mod power;
mod pressure;
mod programs;

use std::process::ExitCode;

/// A named test.
type Test = (&'static str, fn() -> anyhow::Result<()>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("agent") => agent::main(&arguments[1..]),
        Some("hog") => agent::hog(),
        Some("sleep") => agent::sleep(),
        Some(mode) => {
            daruma_host::modes::run(mode, &arguments[1..]).map_or_else(|| run(&arguments), |code| ExitCode::from(code as u8))
        }
        None => run(&arguments),
    }
}

fn all() -> Vec<Test> {
    [power::ALL, lifecycle::ALL, links::ALL, failures::ALL, pressure::ALL, programs::ALL, outside::ALL].concat()
}

/// The part of the standard harness's command line that test runners use.
fn run(arguments: &[String]) -> ExitCode {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if has("--list") {
        if !has("--ignored") {
            for (name, _) in all() {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let lacking: Vec<String> = daruma_host::doctor::check()
        .into_iter()
        .filter(|finding| !finding.optional)
        .filter_map(|finding| finding.problem.map(|problem| format!("{}: {problem}", finding.name)))
        .collect();
    if !lacking.is_empty() {
        println!("skipped: this host cannot run machines: {}", lacking.join("; "));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in all() {
        let chosen = wanted.is_empty()
            || wanted.iter().any(|word| if has("--exact") { *word == name } else { name.contains(word.as_str()) });
        if !chosen {
            continue;
        }
        match test() {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                println!("test {name} ... FAILED: {error:?}");
                failed += 1;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
