//! The command as it is typed, and what it prints.

use clap::Parser;
use serde_json::Value;

use super::report::Report;
use super::text::Text;
use super::*;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    arguments: DurabilityArguments,
}

fn parse(line: &str) -> Result<DurabilityArguments, clap::Error> {
    let words = ["durability"].into_iter().chain(line.split_whitespace());
    Typed::try_parse_from(words).map(|typed| typed.arguments)
}

fn json(line: &str) -> Value {
    let report = Report::new(&parse(line).expect("good flags")).expect("a report");
    serde_json::to_value(&report).expect("JSON")
}

fn text(line: &str) -> String {
    let report = Report::new(&parse(line).expect("good flags")).expect("a report");
    Text(&report).to_string()
}

#[test]
fn four_and_two_with_a_rebuild_of_an_hour_has_eleven_nines() {
    // 10 disks of 3.6 TB, full, rebuilt at 2 GB/s each: 5 * 3.6 TB / (9 * 0.5556 GB/s) = 1 h.
    let found = json(
        "--coding 4+2 --disks 10 --disk-size 3.6TB --fill 100% --rebuild-rate 555.5556MB/s \
         --detect 0s --silent-rate 0 --afr 1.57%",
    );
    let result = &found["result"];
    let near = |name: &str, expected: f64, error: f64| {
        let value = result[name].as_f64().expect("a number");
        assert!((value - expected).abs() <= error, "{name}: {value} instead of {expected}");
    };
    near("rebuild_hours", 1.0, 1e-3);
    near("nines", 11.2, 0.05);
    near("rebuild_hours_max_for_target", 1.27, 0.006);
    near("overhead", 1.5, 1e-9);
    assert_eq!(result["meets_target"], Value::Bool(true));
    assert!(result["groups"].as_u64().expect("a count") > 100);
    assert_eq!(found["scrub"].as_array().map(Vec::len), Some(0));
    assert_eq!(result["nodes_tolerated"], Value::Null);
}

#[test]
fn codings_and_copies_stand_beside_each_other() {
    let found = json("--coding 5+3 --disks 12 --disk-size 20TB --nodes 12 --racks 4");
    let rows = found["comparison"].as_array().expect("rows");
    let codings: Vec<&str> = rows.iter().filter_map(|row| row["coding"].as_str()).collect();
    assert_eq!(codings, ["1+1", "1+2", "1+3", "2+1", "2+2", "4+2", "5+3", "6+3", "8+3", "8+4"]);
    let row = |coding: &str| rows.iter().find(|row| row["coding"] == coding).expect("the row");
    assert_eq!(row("5+3")["is_asked_for"], Value::Bool(true));
    assert_eq!(row("8+4")["racks_tolerated"], 1);
    assert_eq!(row("8+4")["shards_per_rack_max"], 3);
    assert_eq!(row("8+4")["nodes_tolerated"], 4);
    assert_eq!(row("1+2")["overhead"], 3.0);
    let nines = |coding: &str| row(coding)["nines"].as_f64().expect("a number");
    assert!(nines("1+1") < nines("1+2") && nines("1+2") < nines("1+3"));
    // Rare and complete scrubs can only help.
    let scrub: Vec<f64> = found["scrub"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["nines_worst_case"].as_f64())
        .collect();
    assert!(scrub.is_sorted_by(|left, right| left > right), "{scrub:?}");
}

#[test]
fn the_simulation_of_the_same_cluster_agrees() {
    for line in [
        "--coding 4+2 --disks 9 --disk-size 4TB --simulate --seed 3",
        "--coding 2+1 --disks 12 --nodes 6 --node-afr 1% --disk-size 4TB --silent-share 100% \
         --simulate --seed 4",
    ] {
        let check = &json(line)["simulation"];
        let away = check["deviation_standard_errors"].as_f64().expect("a number");
        assert!(away.abs() < 3.0, "{check}");
        assert!(check["losses"].as_u64().expect("a count") > 2000, "{check}");
        assert!(check["acceleration"].as_f64().expect("a number") > 10.0, "{check}");
    }
}

#[test]
fn people_read_the_answer_and_what_it_rests_on() {
    let told = text("--coding 8+4 --disks 12 --disk-size 20TB --nodes 12 --racks 4 --afr 4%");
    for part in [
        "8+4 on 12 disks of 20 TB in 12 nodes and 4 racks, 70 % full; 4 % of the disks fail",
        "target of 11: MISSED",
        "(1 group of disks)",
        "4 disks, or 4 nodes, or 1 rack",
        "rebuild of a disk         77.8 h after 10 min to detection",
        "10 shards stored",
        "  * 8+4        1.50            4/4/1",
        "one lost, one more disk may fail",
        "upper bound",
        "No node is lost for good",
    ] {
        let part = part.replace("one lost", "with one rack lost");
        assert!(told.contains(&part), "{part:?} is not in\n{told}");
    }
    let bare = text("--disks 6 --disk-size 1TB --silent-rate 0");
    for part in [
        "4+2 on 6 disks of 1 TB, 70 %",
        "survives                  2 disks\n",
        "weren't told",
        "left out",
    ] {
        assert!(bare.contains(part), "{part:?} is not in\n{bare}");
    }
    let crowded = text("--coding 4+2 --disks 6 --disk-size 1TB --nodes 2");
    assert!(crowded.contains("one lost node is data lost"), "{crowded}");
}

#[test]
fn bad_flags_are_refused_with_what_is_wrong() {
    for (line, reason) in [
        ("--disks 6 --disk-size 4", "such as 4TB, 4TiB"),
        ("--disks 6 --disk-size 4TB --afr 1.57", "write 1.57%"),
        ("--disks 6 --disk-size 4TB --coding 42", "such as 4+2"),
        ("--disks 6 --disk-size 4TB --detect 10", "such as 30s"),
        ("--disks 6 --disk-size 4TB --rebuild-rate fast", "such as 50MB/s"),
        ("--disks 6 --disk-size 4TB --scrub-days 0", "above 0"),
        ("--disks 0 --disk-size 4TB", "0 is not in 1..="),
        ("--disk-size 4TB", "--disks"),
        ("--disks 6 --disk-size 4TB --racks 2", "--nodes"),
        ("--disks 6 --disk-size 4TB --node-afr 1%", "--nodes"),
        ("--disks 6 --disk-size 4TB --seed 2", "--simulate"),
    ] {
        let error = parse(line).expect_err(line).to_string();
        assert!(error.contains(reason), "{line}: {error}");
    }
    for (line, reason) in [
        ("--disks 5 --disk-size 4TB --coding 4+2", "coding 4+2 needs 6 disks"),
        ("--disks 6 --disk-size 4TB --nodes 7", "7 nodes need at least as many disks"),
        ("--disks 6 --disk-size 4TB --nodes 2 --racks 3", "3 racks need at least as many nodes"),
        ("--disks 6 --disk-size 4TB --afr 0", "failure rate of disks must be above 0 %"),
        ("--disks 6 --disk-size 4TB --fill 0%", "bytes on a disk must be above 0"),
    ] {
        let arguments = parse(line).expect("good flags");
        let error = Report::new(&arguments).map(|_| ()).expect_err(line).to_string();
        assert!(error.contains(reason), "{line}: {error}");
    }
}
