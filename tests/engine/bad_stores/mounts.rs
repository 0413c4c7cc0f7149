//! Disks that a store can lie on, and those that it cannot. Network file systems are judged by the number that `statfs` gives for
//! them, in the tests of the module: a real one needs a server.

use llmquota::error::Code;

use crate::scene::{assert_clean, assert_says, inside, open, record, refusal, total, warnings};

#[test]
fn a_store_on_an_overlay_works_and_says_where_it_is() {
    let Some(place) = inside(
        "mounts::a_store_on_an_overlay_works_and_says_where_it_is",
        "mount -t tmpfs none \"$AT\"; mkdir \"$AT/lower\" \"$AT/upper\" \"$AT/work\" \"$AT/merged\"; mkdir \"$AT/lower/store\"; \
         mount -t overlay none -o \"lowerdir=$AT/lower,upperdir=$AT/upper,workdir=$AT/work\" \"$AT/merged\"",
    ) else {
        return;
    };
    let directory = place.join("merged/store");
    let (one, other) = (open(&directory), open(&directory));
    record(&one, "acme", 5);
    record(&other, "acme", 6);
    assert_eq!((total(&one, "acme"), total(&other, "acme")), (11, 11));
    let told = warnings(&one);
    assert!(told.contains("overlay") && told.contains("mount a volume there"), "{told}");
    assert_clean(&one);
}

/// The layers below hold a store: written to, a file of it is copied up and becomes another.
#[test]
fn a_store_in_an_image_is_made_anew_in_each_container() {
    let Some(place) = inside(
        "mounts::a_store_in_an_image_is_made_anew_in_each_container",
        "mount -t tmpfs none \"$AT\"; mkdir \"$AT/lower\" \"$AT/upper\" \"$AT/work\" \"$AT/merged\"",
    ) else {
        return;
    };
    let below = open(&place.join("lower/store"));
    record(&below, "acme", 5);
    crate::scene::close(below, &place.join("lower/store"));
    let at = |name: &str| place.join(name).display().to_string();
    let layers = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let mounted =
        std::process::Command::new("mount").args(["-t", "overlay", "none", "-o", &layers, &at("merged")]).output();
    assert!(mounted.unwrap().status.success());
    let directory = place.join("merged/store");
    for before in [5, 6, 7] {
        let manager = crate::scene::reopen(&directory);
        assert_eq!(total(&manager, "acme"), before);
        record(&manager, "acme", 1);
        assert_clean(&manager);
    }
    assert_eq!(total(&open(&place.join("lower/store")), "acme"), 5);
}

#[test]
fn a_store_in_memory_says_so() {
    let Some(place) = inside("mounts::a_store_in_memory_says_so", "mount -t tmpfs none \"$AT\"") else { return };
    assert!(warnings(&open(&place)).contains("lies in memory (tmpfs)"));
}

/// A file system that has no room for a store at all, and is nobody's disk.
#[test]
fn proc_is_no_place_for_a_store() {
    let error = refusal(std::path::Path::new("/proc/self"));
    assert_says(&error, Code::InvalidConfig, &["LLMQUOTA_STORE", "/proc"]);
}
