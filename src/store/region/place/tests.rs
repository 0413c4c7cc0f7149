//! Tests on real directories and, where the machine allows them, real mounts.

use std::io::Write;
use std::process::Command;

use super::*;

/// A directory of a test's own, gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("llmquota-place-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn allow(&self, mode: u32) {
        std::fs::set_permissions(&self.0, PermissionsExt::from_mode(mode)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.allow(0o700);
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

fn complaint(directory: &Path) -> String {
    let error = Place::of(directory).unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::InvalidConfig, "store"));
    let message = error.message().to_owned();
    assert!(message.contains("LLMQUOTA_STORE") && message.contains(&*directory.to_string_lossy()), "{message}");
    message
}

#[test]
fn a_missing_directory_is_made_with_those_above_it() {
    let top = Directory::new("missing");
    let directory = top.0.join("a/b");
    assert_eq!(Place::of(&directory).unwrap().directory, directory);
    assert_eq!(mode(&directory) & 0o007, 0);
    assert_eq!(Place::of(&directory).unwrap().directory, directory);
    let link = top.0.join("link");
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    assert_eq!(Place::of(&link).unwrap().directory, directory);
}

#[test]
fn what_is_no_directory_or_cannot_be_one_is_named() {
    let top = Directory::new("file");
    let file = top.0.join("file");
    File::create(&file).unwrap();
    assert!(complaint(&file).contains("is no directory"));
    assert!(complaint(&file.join("inside")).contains("cannot be made"));
    assert!(complaint(Path::new("/proc/llmquota")).contains("cannot be made"));
    std::os::unix::fs::symlink("nowhere", top.0.join("link")).unwrap();
    assert!(complaint(&top.0.join("link")).contains("cannot be reached"));
}

#[test]
fn files_are_for_those_who_may_write_to_the_directory_and_never_for_all() {
    let directory = Directory::new("modes");
    for (allowed, expected) in [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660), (0o777, 0o660)] {
        directory.allow(allowed);
        let path = directory.0.join(format!("{allowed:o}"));
        let inodes = [(); 2].map(|()| create(&path).unwrap().metadata().unwrap().ino());
        assert_eq!((mode(&path), inodes[0]), (expected, inodes[1]), "{allowed:o}");
    }
    let link = directory.0.join("link");
    std::os::unix::fs::symlink(directory.0.join("700"), &link).unwrap();
    assert_eq!(create(&link).unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
}

/// Says, past the harness, that this machine does not let a test do what it is about.
fn not_run(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "{test}: not run in full on this machine: {why}");
}

/// Where the directory of a test stands in its environment while it runs inside mounts of its own.
const INSIDE: &str = "LLMQUOTA_TEST_PLACE";

/// Runs a test of the region's again, in a process that has mounts of its own: those that the shell commands make in the
/// directory that is handed over.
pub(in crate::store::region) fn run_with_mounts(test: &str, commands: &str) {
    let directory = Directory::new(&test.replace(':', "-"));
    let unshared = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount").env(INSIDE, &directory.0);
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["sh", "-euc", &format!("cd \"${INSIDE}\"; {script}"), "sh"]);
        unshare
    };
    if !unshared("mount -t tmpfs tmpfs .").output().is_ok_and(|output| output.status.success()) {
        not_run(test, "it lets nobody mount");
        return;
    }
    let output = unshared(&format!("{commands}; exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::region::{test}"), "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// The directory with the mounts, where this is that process.
pub(in crate::store::region) fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

#[test]
fn memory_that_looks_like_a_disk_is_accepted_with_a_warning() {
    if let Some(top) = inside() {
        let place = Place::of(&top.join("memory/store")).unwrap();
        assert!(matches!(&place.warnings[..], [one] if one.contains("tmpfs")), "{place:?}");
        return;
    }
    run_with_mounts(
        "place::tests::memory_that_looks_like_a_disk_is_accepted_with_a_warning",
        "mkdir memory; mount -t tmpfs tmpfs memory",
    );
}

#[test]
fn a_containers_layer_is_accepted_with_a_warning() {
    if let Some(top) = inside() {
        let place = Place::of(&top.join("merged/store")).unwrap();
        assert!(matches!(&place.warnings[..], [one] if one.contains("overlay")), "{place:?}");
        return;
    }
    run_with_mounts(
        "place::tests::a_containers_layer_is_accepted_with_a_warning",
        "mount -t tmpfs tmpfs .; cd .; mkdir lower upper work merged; \
         mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged",
    );
}

#[test]
fn a_directory_that_may_not_be_written_to_is_refused() {
    if let Some(top) = inside() {
        assert!(complaint(&top.join("sealed")).contains("read-only"));
        return;
    }
    if rustix::process::geteuid().is_root() {
        // Nothing but the disk itself refuses root.
        run_with_mounts(
            "place::tests::a_directory_that_may_not_be_written_to_is_refused",
            "mkdir sealed; mount -t tmpfs -o ro tmpfs sealed",
        );
    } else {
        let directory = Directory::new("sealed");
        directory.allow(0o555);
        assert!(complaint(&directory.0).contains("cannot be read and written to by user"));
        assert!(complaint(&directory.0.join("inside")).contains("cannot be made"));
    }
}

#[test]
fn disks_of_other_machines_are_refused_by_name() {
    let path = Path::new("/srv/quota");
    for (magic, name) in [(0x6969, "NFS"), (0xFE53_4D42, "SMB"), (0xFF53_4D42, "SMB"), (0x0102_1997, "9p")] {
        let error = Kind::of(magic, String::new).check(path).unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfig);
        let message = error.message();
        assert!(message.contains(name) && message.contains("/srv/quota") && message.contains("redis://"), "{message}");
    }
    for (name, served) in
        [("fuse.sshfs", false), ("fuse.s3fs", false), ("", false), ("fuseblk", true), ("virtiofs", true)]
    {
        assert_eq!(Kind::of(0x6573_5546, || name.to_owned()).check(path).is_ok(), served, "{name}");
    }
    assert_eq!(Kind::of(0xEF53, String::new).check(path).unwrap(), None);
    assert!(Kind::of(0x9123_683E, String::new).check(path).unwrap().is_some_and(|warning| warning.contains("btrfs")));
}

#[test]
fn a_device_is_found_among_the_mounts() {
    let mounts = "30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                  41 30 0:52 / /mnt/a\\040b rw,nosuid - fuse.sshfs host:/dir rw,user_id=0\n\
                  42 30 0:53 / /mnt/c rw master:7 propagate_from:2 - fuse.s3fs s3fs rw\n";
    assert_eq!(file_system(mounts, rustix::fs::makedev(0, 52)), "fuse.sshfs");
    assert_eq!(file_system(mounts, rustix::fs::makedev(0, 53)), "fuse.s3fs");
    assert_eq!(file_system(mounts, rustix::fs::makedev(8, 1)), "ext4");
    assert_eq!(file_system(mounts, rustix::fs::makedev(8, 2)), "");
    // The list that this system gives has the form that is read.
    let real = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(file_system(&real, Path::new("/proc").metadata().unwrap().dev()), "proc");
}

#[test]
fn a_boot_has_a_number_that_is_never_zero() {
    assert!(boot() != 0 && boot() == boot());
    let directory = Directory::new("numbers");
    let path = directory.0.join("id");
    assert_eq!(number_in(&path), 0);
    let numbers = ["one", "one\n", "two", " \n"].map(|text| {
        std::fs::write(&path, text).unwrap();
        number_in(&path)
    });
    assert_eq!((numbers[0], numbers[3]), (numbers[1], 0));
    assert_ne!(numbers[0], numbers[2]);
}

#[test]
fn a_process_has_a_start_that_its_child_does_not_share() {
    assert_eq!(started("7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234 20\n"), Some(1234));
    assert!(started("7 (a").is_none() && started("7 (a) S 1").is_none() && process_start(u32::MAX).is_none());
    let mine = process_start(std::process::id()).unwrap();
    // A tick is 10 ms.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let its = process_start(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(its.unwrap() > mine);
    assert_eq!(process_start(child.id()), None);
}
