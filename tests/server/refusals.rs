//! Settings that can't work are refused with a clear error, before anything is written.

use super::harness::{Server, directories, run, tree};

fn check(arguments: &[&str], because: &str) {
    let root = tempfile::tempdir().expect("temporary directory");
    std::fs::write(root.path().join("bad.toml"), "lisden = 1\n").expect("written");
    let before = tree(root.path());
    let output = run(root.path(), arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(said.contains(because), "{arguments:?}: {said}");
    assert_eq!(tree(root.path()), before, "{arguments:?}");
}

#[test]
fn settings_that_can_not_work() {
    check(&["server", "a", "b", "--coding", "4+2"], "needs 6 directories");
    check(&["server", "--coding", "six"], "K+M");
    check(&["server", "a", "a"], "given twice");
    check(&["server", "--config", "bad.toml"], "lisden");
    check(&["server", "--config", "none.toml"], "none.toml");
    check(&["server", "--listen", "nowhere"], "--listen");
    check(&["server", "--log", "a=b=c"], "log filter");
    check(&["server", "--root-access-key", "onlythis"], "belong together");
    check(&["admin", "status", "--endpoint", "http://127.0.0.1:1"], "no server answers");
    check(&["serve"], "unrecognized subcommand");
}

#[test]
fn a_directory_of_another_cluster_and_a_directory_in_use() {
    let root = tempfile::tempdir().expect("temporary directory");
    let one = directories(root.path(), &["a", "b", "c"]);
    let two = directories(root.path(), &["x", "y", "z"]);
    fn borrowed(list: &[String]) -> Vec<&str> {
        list.iter().map(String::as_str).collect()
    }
    let first = Server::start(root.path(), &borrowed(&one));
    let second =
        run(root.path(), &[&["server", "--listen", "127.0.0.1:0"], &borrowed(&one)[..]].concat());
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another Drystone process"), "{said}");
    assert!(first.terminate().success());

    assert!(Server::start(root.path(), &borrowed(&two)).terminate().success());
    let mixed = [&one[0], &one[1], &two[2]].map(String::as_str);
    let output = run(root.path(), &[&["server"], &mixed[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("another cluster"), "{said}");
}
