//! The file of what is published, in the directory of a shared store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Published;
use crate::error::{Code, Error, Result};

/// The name of the file, in the directory of the store.
pub const FILE_NAME: &str = "limits.json";
/// Where it is written, until it is whole.
const NEW_NAME: &str = "limits.json.new";

impl Published {
    /// Reads what is published in `directory`, that of a store; `None` where nothing is. No lock is needed: the file is
    /// replaced whole.
    ///
    /// # Errors
    /// Each names the file and what to do. [`Code::StoreDamaged`] for a file that is not what this library wrote;
    /// [`Code::InvalidConfig`] for one of a newer version, and for one that cannot be read.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE_NAME);
        let shown = path.display();
        let text = match text_of(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(damaged(&path, "it is no text in UTF-8"));
            }
            Err(error) => {
                let message = format!("{shown} cannot be read: {error}; let this user read it");
                return Err(Error::new(Code::InvalidConfig, "store", message));
            }
        };
        match Self::from_json(&text) {
            Ok(published) => Ok(Some(published)),
            Err(error) if error.code() == Code::InvalidConfig => {
                let message = format!(
                    "{shown} was written by a newer version of llmquota: {}; use that version in every process of the \
                     store",
                    error.message()
                );
                Err(Error::new(Code::InvalidConfig, "store", message))
            }
            Err(error) => Err(damaged(&path, error.message())),
        }
    }

    /// Publishes it in `directory`, instead of what was published there. Whoever reads finds the old one or this one,
    /// whole, also after a power cut. One process at a time: the caller has the store's lock for it.
    ///
    /// # Errors
    /// Each names the file; what was published before still is, unless the disk itself fails. [`Code::StoreFull`] where
    /// the disk is full, [`Code::InvalidConfig`] where it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = self.to_json()?;
        replace(directory, text.as_bytes()).map_err(|error| {
            let shown = directory.join(FILE_NAME);
            let shown = shown.display();
            let (code, remedy) = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Code::StoreFull, "make room on its disk"),
                _ => (Code::InvalidConfig, "let this user write to its directory"),
            };
            Error::new(code, "store", format!("{shown} cannot be written: {error}; {remedy}"))
        })
    }
}

fn damaged(path: &Path, detail: &str) -> Error {
    let message = format!(
        "{} is not as llmquota wrote it: {detail}; move it away and start the processes of the store again: they publish \
         their settings anew, and overrides have to be set again",
        path.display()
    );
    Error::new(Code::StoreDamaged, "store", message)
}

fn text_of(path: &Path) -> io::Result<String> {
    // Before it is opened: opening a pipe waits for a writer.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    fs::read_to_string(path)
}

fn replace(directory: &Path, content: &[u8]) -> io::Result<()> {
    let new = directory.join(NEW_NAME);
    let written = create(directory, &new).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&new, directory.join(FILE_NAME)));
    if replaced.is_err() {
        // It takes room on a disk that may be full. The first error is the one that counts.
        let _removed = fs::remove_file(&new);
    }
    replaced.and_then(|()| sync_directory(directory))
}

/// Makes the file anew, in place of one whose writer has died.
fn create(directory: &Path, path: &PathBuf) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    share(directory, &file)?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(file)
}

/// Gives the file to those who may use the store: the owner of the directory, and its group where that may write there.
/// A file that is replaced has a new owner each time, which must not shut out the others: an administrator may be
/// another user.
#[cfg(unix)]
fn share(directory: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

    let of_directory = fs::metadata(directory)?;
    // Only root may give a file to another user, and others to groups of their own: who may not keeps it.
    if fchown(file, Some(of_directory.uid()), Some(of_directory.gid())).is_err() {
        let _kept = fchown(file, None, Some(of_directory.gid()));
    }
    if of_directory.mode() & 0o020 != 0 {
        file.set_permissions(PermissionsExt::from_mode(0o660))?;
    }
    Ok(())
}

/// Makes the new name last.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
