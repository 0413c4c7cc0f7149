//! Where a shared store lies: its directory, the kind of disk under it, and what tells this boot of the machine and a
//! process from others.
#![cfg(target_os = "linux")]

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Code, Error, Result};

/// A directory that can serve as a store for the processes of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its path, absolute and without symbolic links.
    pub(super) directory: PathBuf,
    /// What whoever runs this machine should know of it, a sentence each.
    pub(super) warnings: Vec<String>,
}

impl Place {
    /// Looks at a directory, which is made, with those above it, where it is missing: open to its group as the umask says.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] where it cannot be made, is no directory, cannot be written to, or lies on another machine, whose
    /// locks and memory do not reach this one. The message names the setting, the path, and what to do.
    pub(super) fn of(directory: &Path) -> Result<Self> {
        let refused = |why: &str| Err(refused(directory, why));
        if let Err(error) = make(directory) {
            return refused(&format!("cannot be made: {error}; make it and let this user write there"));
        }
        let path = match directory.canonicalize() {
            Ok(path) => path,
            Err(error) => return refused(&format!("cannot be reached: {error}; name another directory")),
        };
        if !path.is_dir() {
            return refused("is no directory; name one");
        }
        match rustix::fs::accessat(CWD, &path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => {}
            Err(Errno::ROFS) => {
                return refused("lies on a disk that is mounted read-only; name one that can be written to");
            }
            Err(error) => {
                let user = rustix::process::geteuid().as_raw();
                return refused(&format!(
                    "cannot be read and written to by user {user} ({error}); let that user do so"
                ));
            }
        }
        // Without it a region of an earlier boot, whose clock has begun anew, would pass for one of this boot.
        if let Err(error) = std::fs::read(BOOT_ID) {
            return refused(&format!("cannot be used without {BOOT_ID} ({error}); mount /proc"));
        }
        let warnings = match kind_of(&path) {
            Ok(kind) => kind.check(&path)?,
            Err(error) => {
                return refused(&format!("does not tell what disk it lies on ({error}); name another directory"));
            }
        };
        Ok(Self { directory: path, warnings: warnings.into_iter().collect() })
    }
}

fn refused(directory: &Path, why: &str) -> Error {
    let message = format!("the directory of LLMQUOTA_STORE, {}, {why}", directory.display());
    Error::new(Code::InvalidConfig, "store", message)
}

fn make(directory: &Path) -> std::io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        std::fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o770).create(directory) {
        // Another process was faster, or a symbolic link leads nowhere, which is told when it is followed.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// What a directory lies on, as far as a store is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Disk,
    /// Memory that looks like a disk.
    Volatile,
    /// A container's own layer over its image.
    Layer,
    /// A disk that writes to another place each time.
    CopyOnWrite(&'static str),
    /// A directory of the machine that this virtual one runs on.
    HostShare,
    /// Another machine's, or a program's that may be anywhere.
    Remote(String),
}

impl Kind {
    /// By the number that `statfs` gives; `name` is the file system's name, as the list of mounts has it.
    fn of(magic: u64, name: impl FnOnce() -> String) -> Self {
        match magic {
            0x0102_1994 | 0x8584_58F6 => Kind::Volatile,
            0x794C_7630 => Kind::Layer,
            0x9123_683E => Kind::CopyOnWrite("btrfs"),
            0x2FC1_2FC1 => Kind::CopyOnWrite("zfs"),
            0xCA45_1A4E => Kind::CopyOnWrite("bcachefs"),
            0x6969 => Kind::Remote("NFS".to_owned()),
            0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Kind::Remote("SMB".to_owned()),
            0x0102_1997 => Kind::Remote("9p".to_owned()),
            0x00C3_6400 => Kind::Remote("Ceph".to_owned()),
            0x5346_414F | 0x6B41_4653 => Kind::Remote("AFS".to_owned()),
            0x7375_7245 => Kind::Remote("Coda".to_owned()),
            0x0116_1970 => Kind::Remote("GFS2".to_owned()),
            0x7461_636F => Kind::Remote("OCFS2".to_owned()),
            0x0BD0_0BD0 => Kind::Remote("Lustre".to_owned()),
            0x4750_4653 => Kind::Remote("GPFS".to_owned()),
            0x1983_0326 => Kind::Remote("BeeGFS".to_owned()),
            0xAAD7_AAEA => Kind::Remote("PanFS".to_owned()),
            0xBACB_ACBC => Kind::Remote("vmhgfs".to_owned()),
            0x786F_4256 => Kind::Remote("vboxsf".to_owned()),
            0x6573_5546 => match name().as_str() {
                // Programs that serve a disk, or a container's layers, of this very machine.
                "fuseblk" => Kind::Disk,
                "fuse.fuse-overlayfs" => Kind::Layer,
                "virtiofs" => Kind::HostShare,
                other => Kind::Remote(if other.is_empty() { "FUSE".to_owned() } else { other.to_owned() }),
            },
            _ => Kind::Disk,
        }
    }

    /// The warning that goes with it, if any.
    fn check(&self, path: &Path) -> Result<Option<String>> {
        let path_shown = path.display();
        let warning = match self {
            Kind::Disk => return Ok(None),
            Kind::Remote(name) => {
                return Err(refused(
                    path,
                    &format!(
                        "lies on {name}, and locks and shared memory do not reach across machines; name a directory on a \
                         local disk, or use redis:// for several machines"
                    ),
                ));
            }
            Kind::Volatile => {
                format!("{path_shown} lies in memory (tmpfs): its history is gone when the machine restarts")
            }
            Kind::Layer => format!(
                "{path_shown} lies in a container's own layer (overlay): other containers do not share it, and it is gone with \
                 this one; mount a volume there"
            ),
            Kind::CopyOnWrite(name) => format!(
                "{path_shown} lies on {name}, which writes to another place each time: keep room free there, for when that \
                 disk is full the store may have to be opened anew"
            ),
            Kind::HostShare => format!(
                "{path_shown} is shared by the machine that this one runs on (virtiofs): only processes of this one may use it"
            ),
        };
        Ok(Some(warning))
    }
}

fn kind_of(path: &Path) -> std::io::Result<Kind> {
    let magic = rustix::fs::statfs(path)?.f_type;
    let device = path.metadata()?.dev();
    // The type of the field differs between architectures; the numbers have 32 bits.
    let magic = u64::from(magic as u32);
    Ok(Kind::of(magic, || file_system(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), device)))
}

/// The name of the file system on a device, from the list of mounts; empty where it is not there.
fn file_system(mounts: &str, device: u64) -> String {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut mounted = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(device.as_str()));
    let name = mounted.next_back().and_then(|line| line.split_once(" - ")).and_then(|(_, rest)| rest.split(' ').next());
    name.unwrap_or_default().to_owned()
}

/// Opens a file of the store to read and write, and makes it where it is missing.
///
/// Whoever may write to the directory may use the store: a new file is that of the directory's owner, and its group's too where
/// the group may write to the directory, whatever the umask says. Others get nothing, for a quota that everybody on the machine can change is
/// none.
///
/// # Errors
/// As the system tells them; `ELOOP` where a symbolic link lies in its place.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let owner = Mode::RUSR | Mode::WUSR;
    loop {
        match rustix::fs::open(path, flags, owner) {
            Err(Errno::NOENT) => {}
            opened => {
                let file = File::from(opened?);
                let is_file = file.metadata()?.is_file();
                return if is_file { Ok(file) } else { Err(std::io::Error::other("it is no regular file")) };
            }
        }
        match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, owner) {
            // Another process was faster.
            Err(Errno::EXIST) => {}
            created => {
                let file = File::from(created?);
                if let Some(directory) = path.parent().map(Path::metadata).transpose()? {
                    share(&directory, &file)?;
                }
                return Ok(file);
            }
        }
    }
}

/// A command that root runs must not shut the backend out of a file that is made anew.
fn share(directory: &std::fs::Metadata, file: &File) -> std::io::Result<()> {
    // Only root may give a file to another user, and others to groups of their own: who may not keeps it.
    if fchown(file, Some(directory.uid()), Some(directory.gid())).is_err() {
        let _kept = fchown(file, None, Some(directory.gid()));
    }
    if directory.mode() & 0o020 != 0 {
        file.set_permissions(PermissionsExt::from_mode(0o660))?;
    }
    Ok(())
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A number of this boot of this machine, another after each; where [`Place::of`] found a directory, it is there.
pub(super) fn boot() -> u64 {
    number_in(Path::new(BOOT_ID))
}

/// FNV-1a of a file's text without the space around it; 0 where there is none.
fn number_in(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match text.trim() {
        "" => 0,
        id => {
            id.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
        }
    }
}

/// When a process began, in clock ticks since the machine did: with its id, what no later process shares with it. `None` where
/// no such process is to be seen.
pub(super) fn process_start(pid: u32) -> Option<u64> {
    started(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The 22nd field of a line whose second is a name in parentheses, in which there may be anything.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests;
