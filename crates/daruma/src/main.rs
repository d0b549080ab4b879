//! The daruma binary: the command line, and every part of a cluster as a mode of it.

mod cli;
mod components;
mod early;
mod platform;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: daruma_host::memory::Allocator = daruma_host::memory::Allocator;

fn main() -> ExitCode {
    daruma_host::memory::share_one_arena();
    // Modes that must run before any thread exists, or that must stay small.
    early::dispatch();
    daruma_host::memory::serve_computing();
    cli::main()
}
