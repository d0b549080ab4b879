//! The API server as a whole, in one process, under the virtual clock.

mod access;
mod apply;
mod crontabs;
mod custom_objects;
mod custom_resources;
mod deletion;
mod evictions;
mod harness;
mod kinds;
mod lists;
mod ownership;
mod patches;
mod pods;
mod services;
mod start;
mod watches;
