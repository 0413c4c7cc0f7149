//! Where a shared store lies: its directory, what kind of disk that is on, and what tells this host, this boot and this process.

/// What every part of a shared store says on another system.
#[cfg(not(target_os = "linux"))]
pub(super) fn needs_linux() -> crate::error::Error {
    crate::error::Error::new(
        crate::error::Code::InvalidConfig,
        "store",
        "shared: stores need Linux; use memory: or redis://",
    )
}

#[cfg(target_os = "linux")]
pub(super) use linux::{Place, boot, create, process_start};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    use crate::error::{Code, Error};

    /// A directory that can serve.
    #[derive(Debug)]
    pub(in crate::store::region) struct Place {
        /// What its user should know of it.
        pub(in crate::store::region) warnings: Vec<String>,
    }

    impl Place {
        /// Makes the directory where it is missing.
        pub(in crate::store::region) fn of(directory: &Path) -> Result<Self, Error> {
            std::fs::create_dir_all(directory).map_err(|error| {
                let message = format!("LLMQUOTA_STORE: {} cannot be made: {error}", directory.display());
                Error::new(Code::InvalidConfig, "store", message)
            })?;
            Ok(Self { warnings: Vec::new() })
        }
    }

    /// The machine's boot, as a number.
    pub(in crate::store::region) fn boot() -> u64 {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// When a process began, as the system counts it.
    pub(in crate::store::region) fn process_start(pid: u32) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()
    }

    /// Opens a file of the store to read and write, and makes it where it is missing.
    ///
    /// Whoever may write to the directory may use the store: a new file is its owner's, and its group's too where the group may
    /// write to the directory, whatever the umask says. Others get nothing, for a quota that everybody on the host can change
    /// is none.
    ///
    /// # Errors
    /// As the system tells them; `ELOOP` where a symbolic link lies in its place.
    pub(in crate::store::region) fn create(path: &Path) -> std::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let owner = Mode::RUSR | Mode::WUSR;
        loop {
            match rustix::fs::open(path, flags, owner) {
                Err(Errno::NOENT) => {}
                opened => return Ok(File::from(opened?)),
            }
            match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, owner) {
                // Another process was faster.
                Err(Errno::EXIST) => {}
                created => {
                    let file = File::from(created?);
                    let directory = path.parent().map(Path::metadata).transpose()?;
                    if directory.is_some_and(|directory| directory.mode() & 0o020 != 0) {
                        file.set_permissions(PermissionsExt::from_mode(0o660))?;
                    }
                    return Ok(file);
                }
            }
        }
    }
}
