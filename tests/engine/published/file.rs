//! The file in the directory of a store.

use std::fs;
use std::path::{Path, PathBuf};

use llmquota::config::{Change, Config, FILE_NAME, Override, Published};
use llmquota::error::Code;
use llmquota::rules::limits::LimitSet;

use super::{RPM, enforced, held, published, with_file, workspace};

/// A directory that is removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("llmquota-published-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn some() -> Published {
    published([&with_file("/etc/limits.toml", "# kept\ndefaults.requests_per_minute = 10 # as it is\n", 7)])
}

fn with_cap(cap: u64) -> Published {
    let entry = Override { limits: LimitSet::NONE.with(RPM, cap).into(), expires_wall_nanos: None };
    some().apply(&Change::Set(workspace("acme"), entry)).unwrap().unwrap()
}

/// The message of what is told of the file with this content.
fn told(directory: &Path, content: &str) -> (Code, String) {
    fs::write(directory.join(FILE_NAME), content).unwrap();
    let error = Published::read(directory).unwrap_err();
    assert_eq!(fs::read_to_string(directory.join(FILE_NAME)).unwrap(), content, "it stays as it is");
    (error.code(), error.message().to_owned())
}

#[test]
fn what_was_written_is_read_and_nothing_is_none() {
    let directory = Directory::new("written");
    assert_eq!(Published::read(&directory.0).unwrap(), None);
    for all in [some(), with_cap(3), Published::new(9)] {
        all.write(&directory.0).unwrap();
        assert_eq!(Published::read(&directory.0).unwrap(), Some(all));
        assert_eq!(directory.names(), [FILE_NAME]);
    }
    some().write(&directory.0).unwrap();
    let text = fs::read_to_string(directory.0.join(FILE_NAME)).unwrap();
    assert!(text.contains(r"# kept\ndefaults.requests_per_minute = 10 # as it is\n"), "{text}");
}

#[test]
fn whoever_reads_finds_the_old_or_the_new_whole() {
    let directory = Directory::new("whole");
    let both = [with_cap(1), with_cap(2)];
    both[0].write(&directory.0).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..100).for_each(|turn| both[turn % 2].write(&directory.0).unwrap()));
        let mut reads = 0;
        while !writer.is_finished() || reads == 0 {
            let found = Published::read(&directory.0).unwrap().unwrap();
            assert!(both.contains(&found));
            reads += 1;
        }
    });
}

#[test]
fn a_writer_that_died_or_fails_leaves_what_was_published() {
    let directory = Directory::new("failed");
    some().write(&directory.0).unwrap();
    let left = directory.0.join("limits.json.new");
    fs::write(&left, "{\"format\": 1, \"ver").unwrap();
    assert_eq!(Published::read(&directory.0).unwrap(), Some(some()));
    with_cap(4).write(&directory.0).unwrap();
    assert_eq!(directory.names(), [FILE_NAME]);
    // Something that is no file lies where the new one is to be written.
    fs::create_dir(&left).unwrap();
    let error = with_cap(5).write(&directory.0).unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.message().contains(FILE_NAME), "{error}");
    assert_eq!(Published::read(&directory.0).unwrap(), Some(with_cap(4)));
    let error = some().write(&directory.0.join("missing")).unwrap_err();
    assert!(error.message().contains("missing/limits.json cannot be written: "), "{error}");
}

#[test]
fn a_damaged_file_is_named_with_what_to_do_and_not_touched() {
    let directory = Directory::new("damaged");
    let path = directory.0.join(FILE_NAME);
    let whole = with_cap(3).to_json().unwrap();
    let unknown_zone = published([&super::with_variables(&[("LLMQUOTA_TIMEZONE", "Europe/Rome")])]).to_json().unwrap();
    for content in [
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        whole[..whole.len() / 2].to_owned(),
        format!("{whole}x"),
        whole.replace("\"version\"", "\"versions\""),
        whole.replace("\"requests_per_minute\": 3", "\"requests_per_minute\": -3"),
        whole.replace("\"requests_per_minute\": 3", "\"requests_per_hours\": 3"),
        whole.replace("\"name\": \"acme\"", "\"name\": \"\""),
        whole.replace("\"workspace\"", "\"tenant\""),
        unknown_zone.replace("Europe/Rome", "Europe/Roma"),
        unknown_zone.replace("\"timezone\"", "\"time_zone\""),
    ] {
        let (code, message) = told(&directory.0, &content);
        assert_eq!(code, Code::StoreDamaged, "{message}");
        assert!(message.starts_with(&format!("{} is not as llmquota wrote it: ", path.display())), "{message}");
        assert!(message.contains("; move it away and start the processes of the store again"), "{message}");
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    let error = Published::read(&directory.0).unwrap_err();
    assert_eq!(error.code(), Code::StoreDamaged);
    assert!(error.message().contains("UTF-8"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = Published::read(&directory.0).unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.message().contains("it is no regular file"), "{error}");
}

#[test]
fn a_file_of_a_newer_version_is_refused_as_such() {
    let directory = Directory::new("newer");
    let (code, message) = told(&directory.0, "{\"format\": 2, \"everything\": [\"else\"]}");
    assert_eq!(code, Code::InvalidConfig);
    assert_eq!(
        message,
        format!(
            "{} was written by a newer version of llmquota: it is of format 2, and this version of llmquota reads \
             formats up to 1; use that version in every process of the store",
            directory.0.join(FILE_NAME).display()
        )
    );
}

#[test]
fn a_limits_file_that_only_a_newer_version_reads_is_told_with_its_line() {
    let text = some().to_json().unwrap().replace("defaults.requests_per_minute", "defaults.requests_per_decade");
    let newer = Published::from_json(&text).unwrap();
    let error = newer.config(&Config::default()).unwrap_err();
    assert!(error.message().starts_with("/etc/limits.toml, line 2, column 10: "), "{error}");
    // A process that has its own way to say nothing about files still finds the rest.
    assert_eq!(enforced(&held(&newer.forget(|_| false).unwrap()), RPM), Some(500));
}

#[cfg(unix)]
#[test]
fn whoever_may_write_to_the_directory_may_use_the_file() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    let directory = Directory::new("rights");
    let metadata = || fs::symlink_metadata(directory.0.join(FILE_NAME)).unwrap();
    for (of_directory, of_file) in [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660), (0o777, 0o660)] {
        fs::set_permissions(&directory.0, PermissionsExt::from_mode(of_directory)).unwrap();
        some().write(&directory.0).unwrap();
        assert_eq!(metadata().mode() & 0o777, of_file);
        let of_directory = fs::metadata(&directory.0).unwrap();
        assert_eq!((metadata().uid(), metadata().gid()), (of_directory.uid(), of_directory.gid()));
    }
    // A symbolic link is neither followed nor written through.
    let elsewhere = directory.0.join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    for name in [FILE_NAME, "limits.json.new"] {
        let _ = fs::remove_file(directory.0.join(name));
        symlink(&elsewhere, directory.0.join(name)).unwrap();
    }
    assert!(Published::read(&directory.0).unwrap_err().message().contains("it is no regular file"));
    some().write(&directory.0).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert_eq!(Published::read(&directory.0).unwrap(), Some(some()));
}
