//! What sets of directories are accepted, and that refused ones are left untouched.

use std::os::unix::fs::PermissionsExt as _;

use wire::entropy::SeededEntropy;

use super::*;

struct World {
    directory: tempfile::TempDir,
    entropy: SeededEntropy,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        Self { directory, entropy: SeededEntropy::new(1) }
    }

    fn paths(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.directory.path().join(name)).collect()
    }

    fn plan(&self, names: &[&str], coding: Option<&str>) -> Result<Plan> {
        let coding = coding.map(|text| Coding::parse(text).expect("valid"));
        decide(inspect(&self.paths(names))?, coding, &self.entropy)
    }

    fn make(&self, names: &[&str], coding: Option<&str>) -> Plan {
        let mut plan = self.plan(names, coding).expect("can work");
        plan.founded = true;
        let secrets = plan.secrets.clone().unwrap_or_else(|| Secrets::generate(&self.entropy));
        format(&plan, &secrets).expect("formatted");
        plan
    }

    fn refused(&self, names: &[&str], coding: Option<&str>, because: &str) {
        let before = self.files();
        let error = self.plan(names, coding).expect_err("refused").to_string();
        assert!(error.contains(because), "{error}");
        assert_eq!(self.files(), before);
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![];
        for entry in fs::read_dir(self.directory.path()).expect("readable") {
            let path = entry.expect("entry").path();
            if let Ok(inside) = fs::read_dir(&path) {
                files.extend(inside.map(|entry| entry.expect("entry").path()));
            }
            files.push(path);
        }
        files.sort();
        files
    }
}

#[test]
fn a_new_store_gets_the_best_coding_its_directories_allow() {
    let world = World::new();
    for (count, expected) in
        [(1, "1+0"), (2, "1+1"), (3, "2+1"), (4, "2+2"), (5, "3+2"), (6, "4+2"), (9, "4+2")]
    {
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plan = world.plan(&names, None).expect("can work");
        assert_eq!(plan.coding.to_string(), expected);
        assert!(!plan.founded);
    }
}

#[test]
fn a_formatted_store_is_recognised_and_its_secrets_are_private() {
    let world = World::new();
    let made = world.make(&["a", "b", "c"], None);
    let plan = world.plan(&["c", "a", "b"], None).expect("can work");
    assert!(plan.founded);
    assert_eq!(plan.cluster, made.cluster);
    assert_eq!(
        plan.directories[1].role,
        match &made.directories[0].role {
            DirectoryRole::New(disk) => DirectoryRole::Member(*disk),
            other => panic!("{other:?}"),
        }
    );
    let mode = fs::metadata(world.directory.path().join("a").join(secrets::NAME))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_lost_directory_becomes_a_new_disk() {
    let world = World::new();
    world.make(&["a", "b", "c"], None);
    fs::remove_dir_all(world.directory.path().join("b")).expect("removed");
    let plan = world.plan(&["a", "b", "c"], None).expect("can work");
    assert!(matches!(plan.directories[1].role, DirectoryRole::New(_)));
    assert!(plan.secrets.is_some());
}

#[test]
fn a_damaged_identity_is_left_alone() {
    let world = World::new();
    world.make(&["a", "b", "c"], None);
    let noise = world.directory.path().join("b").join(identity::NAME);
    fs::write(&noise, [0xff; 100]).expect("written");
    let plan = world.plan(&["a", "b", "c"], None).expect("can work");
    assert!(matches!(plan.directories[1].role, DirectoryRole::Unusable(_)));
    let secrets = plan.secrets.clone().expect("found");
    format(&plan, &secrets).expect("formatted");
    assert_eq!(fs::read(&noise).expect("there"), [0xff; 100]);
}

#[test]
fn sets_that_can_not_work_are_refused_before_anything_is_written() {
    let world = World::new();
    world.refused(&["a", "b", "c"], Some("4+2"), "needs 6 directories");
    world.refused(&["a", "a"], None, "given twice");
    world.make(&["a", "b", "c"], None);
    world.make(&["x", "y", "z"], None);
    world.refused(&["a", "b", "z"], None, "another cluster");
    world.refused(&["a", "b", "c"], Some("1+1"), "was made with coding 2+1");
    world.refused(&["a"], None, "only 1 of the store's directories");
    fs::create_dir(world.directory.path().join("full")).expect("made");
    fs::write(world.directory.path().join("full/letter.txt"), "dear").expect("written");
    world.refused(&["full"], None, "not empty");
    fs::write(world.directory.path().join("file"), "x").expect("written");
    world.refused(&["file"], None, "not a directory");
}

#[test]
fn a_directory_is_locked_against_a_second_server() {
    let world = World::new();
    let first = lock(world.directory.path()).expect("free");
    assert!(lock(world.directory.path()).is_err());
    drop(first);
    lock(world.directory.path()).expect("free again");
}
