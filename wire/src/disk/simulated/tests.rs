//! What a simulated disk promises to those who test on it.

use super::*;

fn write(disk: &SimulatedDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(name, OpenMode::CreateNew).expect("new");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("written");
    file
}

fn faulty(faults: DiskFaults) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new(1);
    let file = write(&disk, "f", &[7; 1000]);
    file.sync_data().expect("synced");
    disk.sync_directory().expect("synced");
    disk.set_faults(faults);
    (disk, file)
}

#[test]
fn what_is_synced_survives_every_crash() {
    for seed in 0..200 {
        let disk = SimulatedDisk::new(seed);
        write(&disk, "kept", &[7; 3000]).sync_data().expect("synced");
        disk.sync_directory().expect("synced");
        let file = disk.open("kept", OpenMode::Write).expect("there");
        file.write_at(&[IoSlice::new(&[9; 2000])], 3000).expect("written");
        disk.crash();
        assert!(file.sync_data().is_err());
        let file = disk.open("kept", OpenMode::Read).expect("there");
        let mut back = vec![0; 3000];
        file.read_exact_at(&mut back, 0).expect("read");
        assert_eq!(back, [7; 3000]);
    }
}

#[test]
fn a_file_without_a_synced_directory_may_vanish_or_stay() {
    let survived = |seed| {
        let disk = SimulatedDisk::new(seed);
        write(&disk, "f", b"x").sync_data().expect("synced");
        disk.crash();
        disk.list().expect("list").len()
    };
    let outcomes: BTreeSet<usize> = (0..50).map(survived).collect();
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_failed_sync_is_not_mended_by_a_later_one() {
    let disk = SimulatedDisk::new(1);
    let file = write(&disk, "f", b"lost");
    disk.sync_directory().expect("synced");
    disk.set_faults(DiskFaults { syncs_fail: true, ..DiskFaults::default() });
    assert!(file.sync_data().is_err());
    disk.set_faults(DiskFaults::default());
    file.sync_data().expect("the kernel says so");
    disk.crash();
    let file = disk.open("f", OpenMode::Read).expect("there");
    assert_eq!(file.length().expect("length"), 0);
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let disk = SimulatedDisk::new(1);
    let file = write(&disk, "f", &[1; 100]);
    disk.set_faults(DiskFaults { capacity_bytes: 100, ..DiskFaults::default() });
    file.write_at(&[IoSlice::new(&[2; 100])], 0).expect("in place");
    let error = file.write_at(&[IoSlice::new(&[2; 1])], 100).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn the_power_fails_after_so_many_changes() {
    let mut begun = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        disk.cut_power_after(3);
        let file = write(&disk, "f", &[1; 10]);
        assert!(!disk.is_powerless());
        file.sync_data().expect("the third change");
        assert!(disk.sync_directory().is_err());
        assert!(disk.is_powerless());
        assert!(disk.remove("f").is_err() && disk.open("g", OpenMode::CreateNew).is_err());
        assert_eq!(disk.list().expect("list"), ["f"]);
        disk.crash();
        begun.insert(disk.list().expect("list").len());
        write(&disk, "g", b"the power is back");
    }
    assert_eq!(begun.len(), 2, "the sync at which it failed was done, or not");
}

#[test]
fn a_read_only_disk_is_read() {
    let (disk, file) = faulty(DiskFaults { read_only: true, ..DiskFaults::default() });
    let refused = file.write_at(&[IoSlice::new(&[1])], 0).expect_err("read-only");
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(disk.remove("f").is_err() && disk.open("f", OpenMode::Write).is_err());
    file.read_exact_at(&mut [0; 1000], 0).expect("read");
}

#[test]
fn faults_at_random_happen_about_as_often_as_asked() {
    let odds = DiskFaultOdds { reads_fail: 10, ..DiskFaultOdds::default() };
    let (_, file) = faulty(DiskFaults { odds, ..DiskFaults::default() });
    let failed = (0..1000).filter(|_| file.read_at(&mut [0; 10], 0).is_err()).count();
    assert!((50..200).contains(&failed), "{failed}");
    let odds = DiskFaultOdds { reads_short: 10, reads_flip: 10, ..DiskFaultOdds::default() };
    let (_, file) = faulty(DiskFaults { odds, ..DiskFaults::default() });
    let mut buffer = [0; 100];
    let (mut short, mut flipped) = (0, 0);
    for _ in 0..1000 {
        let count = file.read_at(&mut buffer, 0).expect("read");
        short += u32::from(count < 100);
        flipped += u32::from(buffer[..count] != [7; 100][..count]);
    }
    assert!((50..200).contains(&short) && (50..200).contains(&flipped), "{short} {flipped}");
    let odds = DiskFaultOdds { syncs_fail: 2, writes_fail: 2, ..DiskFaultOdds::default() };
    let (_, file) = faulty(DiskFaults { odds, ..DiskFaults::default() });
    let fails = |work: &dyn Fn() -> bool| (0..100).filter(|_| work()).count();
    assert!((20..80).contains(&fails(&|| file.sync_data().is_err())));
    assert!((20..80).contains(&fails(&|| file.set_length(1000).is_err())));
}
