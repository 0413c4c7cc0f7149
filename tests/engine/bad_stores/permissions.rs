//! Directories in which a store cannot be: without rights, read-only, a file, without a parent.

use std::os::unix::fs::PermissionsExt;

use llmquota::error::Code;

use crate::scene::{Door, assert_says, inside, open, record, refusal, total};

#[test]
fn a_read_only_disk_is_named_with_the_setting() {
    let Some(place) = inside(
        "permissions::a_read_only_disk_is_named_with_the_setting",
        "mount -t tmpfs none \"$AT\"; mkdir \"$AT/store\"; mount -o remount,ro \"$AT\"",
    ) else {
        return;
    };
    assert_says(&refusal(&place.join("store")), Code::InvalidConfig, &["LLMQUOTA_STORE", "store", "read-only"]);
    let error = refusal(&place.join("missing"));
    assert_says(&error, Code::InvalidConfig, &["LLMQUOTA_STORE", "missing", "cannot be made"]);
}

#[test]
fn a_store_whose_disk_became_read_only_is_not_opened_and_is_left_as_it_is() {
    let Some(place) = inside(
        "permissions::a_store_whose_disk_became_read_only_is_not_opened_and_is_left_as_it_is",
        "mount -t tmpfs none \"$AT\"",
    ) else {
        return;
    };
    let manager = open(&place);
    record(&manager, "acme", 5);
    manager.flush().unwrap();
    drop(manager);
    let remount = |how: &str| {
        let how = format!("remount,{how}");
        // What still closes its files has a moment for it.
        crate::scene::until("the disk is remounted", || {
            std::process::Command::new("mount").args(["-o", &how]).arg(&place).output().unwrap().status.success()
        });
    };
    remount("ro");
    assert_says(&refusal(&place), Code::InvalidConfig, &["read-only"]);
    remount("rw");
    assert_eq!(total(&open(&place), "acme"), 5);
}

/// A user whom the rights bind: not root, who passes over them.
#[test]
fn a_directory_without_rights_is_named_with_the_user_whom_it_shuts_out() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o500)).unwrap();
        assert_says(&refusal(place.path()), Code::InvalidConfig, &["cannot be read and written to by user"]);
        let error = refusal(&place.path().join("inside"));
        assert_says(&error, Code::InvalidConfig, &["cannot be made", "let this user write there"]);
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).unwrap();
        return;
    }
    // SAFETY: the child becomes nobody, opens stores, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let right = std::panic::catch_unwind(|| {
            let place = std::env::temp_dir().join(format!("llmquota-rights-{}", std::process::id()));
            std::fs::create_dir(&place).unwrap();
            std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
            // SAFETY: plain system calls; this process is the test's own child.
            assert_eq!(unsafe { libc::setgid(65_534) | libc::setuid(65_534) }, 0);
            let error = refusal(&place);
            assert_says(&error, Code::InvalidConfig, &["user 65534", "LLMQUOTA_STORE"]);
            assert_says(&refusal(&place.join("inside")), Code::InvalidConfig, &["cannot be made", "LLMQUOTA_STORE"]);
        });
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(right.is_err())) }
    }
    let mut status = -1;
    // SAFETY: a child of this process that nobody else waits for.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    std::fs::remove_dir(std::env::temp_dir().join(format!("llmquota-rights-{child}"))).unwrap();
    assert_eq!(status, 0);
}

#[test]
fn a_file_is_no_directory() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "notes").unwrap();
    assert_says(&refusal(&file), Code::InvalidConfig, &["is no directory", "file", "LLMQUOTA_STORE"]);
    let error = refusal(&file.join("inside"));
    assert_says(&error, Code::InvalidConfig, &["LLMQUOTA_STORE", "cannot be"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "notes");
}

#[test]
fn a_missing_parent_is_made_and_a_link_to_nowhere_is_not() {
    let place = tempfile::tempdir().unwrap();
    let deep = place.path().join("a/b/c");
    let manager = open(&deep);
    record(&manager, "acme", 5);
    assert_eq!(std::fs::metadata(&deep).unwrap().permissions().mode() & 0o7, 0, "nothing for others");
    let link = place.path().join("link");
    std::os::unix::fs::symlink(place.path().join("nowhere"), &link).unwrap();
    assert_says(&refusal(&link), Code::InvalidConfig, &["LLMQUOTA_STORE", "link"]);
    assert!(!place.path().join("nowhere").exists());
}

#[test]
fn a_link_to_a_directory_is_the_same_store() {
    let place = tempfile::tempdir().unwrap();
    let (real, link) = (place.path().join("real"), place.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let (one, other) = (open(&real), open(&link));
    record(&one, "acme", 5);
    record(&other, "acme", 6);
    assert_eq!((total(&one, "acme"), total(&other, "acme")), (11, 11));
}

#[test]
fn a_relative_path_is_refused_for_every_process_may_stand_elsewhere() {
    let error = Door::default().open(std::path::Path::new("store")).err().unwrap();
    assert_says(&error, Code::InvalidConfig, &["absolute"]);
}
