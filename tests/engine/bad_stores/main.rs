//! Shared stores in places and circumstances that nobody would choose: disks that are full, read-only or somebody else's, files
//! that were cut, copied, deleted or written by others, processes that are stopped, killed, or too many, and clocks that were
//! set. A store then works, or says in words what is wrong; it never counts wrongly, and no process dies of it.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "there is no other way to fork, to stop and to kill")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

mod actor;
mod clocks;
mod copies;
mod foreign;
mod full_disk;
mod many;
mod mounts;
mod opening;
mod overrun;
mod permissions;
mod scene;
mod slots;
mod stopped;
mod truncated;
mod versions;
