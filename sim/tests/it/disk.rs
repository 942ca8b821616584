//! The disk in memory does as a disk does: what it keeps, what it loses, how it fails.

use std::path::Path;
use std::sync::Arc;

use df_core::rng::Rng;
use df_daemons::env::disk::{Disk, OpenMode};
use df_sim::turmoil::disk::SimDisk;

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(Path::new("/data"), Rng::new(seed), Arc::default(), true);
    disk.create_dir_all(Path::new("/data/a")).unwrap();
    disk
}

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Existing).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn what_is_synced_survives_a_power_loss_and_the_rest_may() {
    let mut lost = 0;
    for seed in 0..64 {
        let disk = disk(seed);
        let file = disk.open(Path::new("/data/a/x"), OpenMode::New).unwrap();
        file.write_all_at(&[1; 1000], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/data/a")).unwrap();
        file.write_all_at(&[2; 1000], 1000).unwrap();
        let boot = disk.boot_id();
        disk.power_lost();
        assert_ne!(disk.boot_id(), boot);
        let bytes = read(&disk, "/data/a/x").unwrap();
        assert_eq!(bytes[..1000], [1; 1000]);
        assert!(bytes[1000..].iter().all(|byte| [0, 2].contains(byte)));
        lost += usize::from(bytes.get(1000..) != Some(&[2; 1000]));
    }
    assert!((8..64).contains(&lost), "{lost}");
}

#[test]
fn a_name_that_was_not_synced_may_be_gone_after_a_power_loss_and_never_after_a_kill() {
    let mut gone = 0;
    for seed in 0..64 {
        let disk = disk(seed);
        disk.open(Path::new("/data/a/x"), OpenMode::New).unwrap();
        disk.process_died();
        assert!(read(&disk, "/data/a/x").is_some());
        disk.power_lost();
        gone += usize::from(read(&disk, "/data/a/x").is_none());
    }
    assert!((2..40).contains(&gone), "{gone}");
}

#[test]
fn a_lock_is_held_until_its_file_is_closed_or_its_process_dies() {
    let disk = disk(1);
    let open = || disk.open(Path::new("/data/a/lock"), OpenMode::Any).unwrap();
    let first = open();
    assert!(first.try_lock().unwrap());
    assert!(!open().try_lock().unwrap());
    drop(first);
    assert!(open().try_lock().unwrap());
    let second = open();
    assert!(second.try_lock().unwrap());
    disk.process_died();
    assert!(open().try_lock().unwrap());
}

#[test]
fn a_full_disk_takes_what_was_reserved_and_nothing_else() {
    let disk = disk(1);
    let file = disk.open(Path::new("/data/a/x"), OpenMode::New).unwrap();
    file.reserve(0, 100).unwrap();
    disk.set_faults(|faults| faults.is_full = true);
    file.write_all_at(&[1; 100], 0).unwrap();
    assert!(file.write_all_at(&[1], 100).is_err());
    assert!(file.reserve(0, 101).is_err());
    assert!(disk.open(Path::new("/data/a/y"), OpenMode::New).is_err());
    assert_eq!(disk.space(Path::new("/data")).unwrap().free, 0);
}

#[test]
fn paths_outside_are_refused_and_remembered() {
    let disk = disk(1);
    assert!(disk.open(Path::new("/etc/passwd"), OpenMode::Existing).is_err());
    assert!(disk.remove_file(Path::new("/data/../etc/passwd")).is_err());
    assert_eq!(disk.trespasses().len(), 2);
}

#[test]
fn a_flipped_bit_is_one_bit() {
    let disk = disk(1);
    let file = disk.open(Path::new("/data/a/x.data"), OpenMode::New).unwrap();
    file.write_all_at(&[0; 100], 0).unwrap();
    assert!(!disk.is_tainted());
    disk.flip(7);
    let bytes = read(&disk, "/data/a/x.data").unwrap();
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert!(disk.is_tainted());
}
