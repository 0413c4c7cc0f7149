//! Tests on real files and, where the machine allows them, real mounts.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering;

use super::super::place;
use super::*;

const PAGE_WORDS: usize = 512;

/// A file without a name of `bytes`, in the directory for temporary files or another.
fn file(directory: &std::path::Path, bytes: u64) -> File {
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(directory, flags, rustix::fs::Mode::RUSR).unwrap());
    file.set_len(bytes).unwrap();
    file
}

fn temporary(bytes: u64) -> File {
    file(&std::env::temp_dir(), bytes)
}

#[test]
fn two_mappings_of_a_file_are_the_same_words_at_the_start_of_a_page() {
    let file = temporary(1 << 20);
    let [one, other] = [(); 2].map(|()| Memory::mapped(file.try_clone().unwrap(), 1 << 17).unwrap());
    assert!(one.is_shared() && one.is_whole() && one.len() == 1 << 17);
    assert_eq!(one.as_ptr().align_offset(4096), 0);
    one[77].store(5, Ordering::Relaxed);
    assert_eq!(other[77].load(Ordering::Relaxed), 5);
    drop(one);
    assert_eq!(other[77].swap(6, Ordering::Relaxed), 5);
}

#[test]
fn private_words_are_whole_and_need_no_backing() {
    let memory = Memory::private(100).unwrap();
    assert!(!memory.is_shared() && memory.is_whole());
    memory.back(0..100).unwrap();
}

#[test]
fn backed_words_have_room_and_keep_their_values_and_the_file_its_length() {
    let file = temporary(1 << 20);
    let memory = Memory::mapped(file.try_clone().unwrap(), 1 << 17).unwrap();
    memory.back(0..1).unwrap();
    assert_eq!(file.metadata().unwrap().blocks() * 512, 4096);
    memory[3].store(9, Ordering::Relaxed);
    memory.back(0..PAGE_WORDS + 1).unwrap();
    assert_eq!(memory[3].load(Ordering::Relaxed), 9);
    assert_eq!(file.metadata().unwrap().blocks() * 512, 8192);
    memory.back(1 << 16..1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
}

#[test]
fn where_nothing_can_allocate_holes_alone_are_filled() {
    let file = temporary(64 * 4096);
    for page in [3, 4, 9] {
        file.write_all_at(&[page; 100], u64::from(page) * 4096).unwrap();
    }
    mapped::fill_holes(&file, 2 * 4096..12 * 4096).unwrap();
    assert_eq!(file.metadata().unwrap().blocks() * 512, 10 * 4096);
    for page in [3, 4, 9] {
        let mut read = [0; 101];
        file.read_exact_at(&mut read, u64::from(page) * 4096).unwrap();
        assert!(read[..100].iter().all(|byte| *byte == page) && read[100] == 0);
    }
    mapped::fill_holes(&file, 60 * 4096..80 * 4096).unwrap();
    assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().blocks() * 512), (64 * 4096, 14 * 4096));
}

#[test]
fn a_full_disk_is_an_error_and_the_memory_goes_on() {
    let Some(top) = place::tests::inside() else {
        let test = "memory::tests::a_full_disk_is_an_error_and_the_memory_goes_on";
        return place::tests::run_with_mounts(test, "mkdir small; mount -t tmpfs -o size=64k tmpfs small");
    };
    let small = top.join("small");
    std::fs::write(small.join("other"), [1; 32 << 10]).unwrap();
    let memory = Memory::mapped(file(&small, 1 << 20), 1 << 17).unwrap();
    memory.back(0..PAGE_WORDS).unwrap();
    memory[0].store(5, Ordering::Relaxed);
    let error = memory.back(0..PAGE_WORDS * 16).unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::StoreFull, "store"));
    assert!(error.message().contains("65536 bytes") && error.message().contains("free disk space"), "{error}");
    assert!(error.message().contains(&*small.to_string_lossy()), "{error}");
    memory[1].store(6, Ordering::Relaxed);
    assert_eq!((memory[0].load(Ordering::Relaxed), memory.is_whole()), (5, true));
    std::fs::remove_file(small.join("other")).unwrap();
    memory.back(0..PAGE_WORDS * 16).unwrap();
    memory[PAGE_WORDS * 15].store(7, Ordering::Relaxed);
    // Beyond what is backed, the disk's refusal is a signal, of which nobody dies.
    assert_eq!(memory[PAGE_WORDS * 200].fetch_add(1, Ordering::Relaxed), 0);
    assert!(memory.is_torn() && !memory.is_whole());
    assert_eq!(memory.back(0..PAGE_WORDS).unwrap_err().code(), Code::StoreDamaged);
}

#[test]
fn a_file_system_that_promises_nothing_is_refused() {
    let Some(top) = place::tests::inside() else {
        let test = "memory::tests::a_file_system_that_promises_nothing_is_refused";
        return place::tests::run_with_mounts(test, "mkdir ram; mount -t ramfs ramfs ram");
    };
    let memory = Memory::mapped(file(&top.join("ram"), 1 << 20), 1 << 17).unwrap();
    let error = memory.back(0..PAGE_WORDS).unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.message().contains("LLMQUOTA_STORE"), "{error}");
}

#[test]
fn a_file_shorter_than_the_mapping_is_told() {
    let file = temporary(4096);
    let error = Memory::mapped(file.try_clone().unwrap(), PAGE_WORDS + 1).err().unwrap();
    assert_eq!(error.code(), Code::StoreDamaged);
    let memory = Memory::mapped(file.try_clone().unwrap(), PAGE_WORDS).unwrap();
    file.set_len(4095).unwrap();
    assert!(!memory.is_whole());
    assert_eq!(memory.back(0..1).unwrap_err().code(), Code::StoreDamaged);
}
