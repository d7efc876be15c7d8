//! The report as an operator reads it.

use std::fmt::{self, Display, Formatter};

use super::quantity::{show_bytes, show_hours, show_number, show_probability, show_share};
use super::report::{Check, Cluster, Report, Row};

/// Prints a [`Report`] for people.
pub(super) struct Text<'a>(pub &'a Report);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report {
            cluster,
            coding_chosen_because,
            result,
            comparison,
            scrub,
            simulation,
            assumptions,
        } = self.0;
        head(f, cluster, result)?;
        if let Some(why) = coding_chosen_because {
            writeln!(f, "  (as a new cluster chooses: {why})\n")?;
        }
        answer(f, cluster, result)?;
        writeln!(
            f,
            "\nCodings on the same disks (* asked for; longest rebuild for {} nines)",
            show_number(cluster.target_nines)
        )?;
        table(f, comparison)?;
        if !scrub.is_empty() {
            writeln!(
                f,
                "\nScrub interval and nines (in brackets: a silent failure damages the whole disk)"
            )?;
            for row in scrub {
                writeln!(
                    f,
                    "  {:>5.0} d {:>6} ({})",
                    row.scrub_days,
                    nines(row.nines),
                    nines(row.nines_worst_case)
                )?;
            }
        }
        if let Some(check) = simulation {
            simulated(f, check)?;
        }
        writeln!(f, "\nAssumptions")?;
        assumptions.iter().try_for_each(|line| writeln!(f, "  - {line}"))
    }
}

fn head(f: &mut Formatter<'_>, cluster: &Cluster, result: &Row) -> fmt::Result {
    let Cluster { disks, disk_bytes, disk_afr, fill, .. } = cluster;
    write!(f, "{} on {disks} disks of {}", result.coding, show_bytes(*disk_bytes))?;
    if let Some(nodes) = cluster.nodes {
        write!(f, " in {nodes} {}", if nodes == 1 { "node" } else { "nodes" })?;
    }
    if let Some(racks) = cluster.racks {
        write!(f, " and {racks} {}", if racks == 1 { "rack" } else { "racks" })?;
    }
    write!(f, ", {} full; {} of the disks", show_share(*fill), show_share(*disk_afr))?;
    if cluster.node_afr > 0.0 {
        write!(f, " and {} of the nodes", show_share(cluster.node_afr))?;
    }
    writeln!(f, " fail in a year\n")
}

fn answer(f: &mut Formatter<'_>, cluster: &Cluster, result: &Row) -> fmt::Result {
    let target = show_number(cluster.target_nines);
    let verdict = if result.meets_target { "met" } else { "MISSED" };
    let mut line = |name: &str, value: String| writeln!(f, "  {name:<26}{value}");
    line(
        "an object, a year",
        format!(
            "{} nines (lost with {}); target of {target}: {verdict}",
            nines(result.nines),
            show_probability(result.probability_of_loss_per_year)
        ),
    )?;
    line(
        "anything, a year",
        format!(
            "lost with at most {} ({} {} of disks)",
            show_probability(result.probability_of_any_loss_per_year_max),
            result.groups,
            if result.groups == 1 { "group" } else { "groups" }
        ),
    )?;
    line("survives", tolerance(result))?;
    line(
        "space",
        format!(
            "{} usable, {:.2} stored per byte",
            show_bytes(result.usable_bytes),
            result.overhead
        ),
    )?;
    line(
        "rebuild of a disk",
        format!(
            "{} after {} to detection; {}",
            show_hours(result.rebuild_hours),
            show_hours(cluster.detect_hours),
            match result.rebuild_hours_max_for_target {
                Some(hours) => format!("at most {} meets {target} nines", show_hours(hours)),
                None => format!("none is fast enough for {target} nines"),
            }
        ),
    )?;
    line("repair traffic", format!("{} a year", show_bytes(result.repair_bytes_per_year)))?;
    line(
        "least acknowledged write",
        format!(
            "{} shards stored: {} nines until the rest is there",
            result.write_quorum,
            nines(result.degraded_write_nines)
        ),
    )
}

fn tolerance(row: &Row) -> String {
    let mut parts = vec![(row.disks_tolerated, "disk")];
    parts.extend(row.nodes_tolerated.map(|nodes| (nodes, "node")));
    parts.extend(row.racks_tolerated.map(|racks| (racks, "rack")));
    let told: Vec<String> = parts
        .into_iter()
        .map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
        .collect();
    told.join(", or ")
}

fn table(f: &mut Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let domains = |row: &Row| {
        let count =
            |tolerated: Option<u32>| tolerated.map_or("-".to_owned(), |count| count.to_string());
        format!(
            "{}/{}/{}",
            row.disks_tolerated,
            count(row.nodes_tolerated),
            count(row.racks_tolerated)
        )
    };
    writeln!(
        f,
        "    {:<7}{:>8}  {:>15}{:>7}{:>13}{:>9}{:>9}{:>13}",
        "coding",
        "overhead",
        "disk/node/rack",
        "nines",
        "any loss/yr",
        "rebuild",
        "longest",
        "traffic/yr"
    )?;
    for row in rows {
        writeln!(
            f,
            "  {} {:<7}{:>8.2}  {:>15}{:>7}{:>13}{:>9}{:>9}{:>13}",
            if row.is_asked_for { '*' } else { ' ' },
            row.coding,
            row.overhead,
            domains(row),
            nines(row.nines),
            show_probability(row.probability_of_any_loss_per_year_max),
            show_hours(row.rebuild_hours),
            row.rebuild_hours_max_for_target.map_or("-".to_owned(), show_hours),
            show_bytes(row.repair_bytes_per_year)
        )?;
    }
    Ok(())
}

fn simulated(f: &mut Formatter<'_>, check: &Check) -> fmt::Result {
    writeln!(
        f,
        "\nSimulation (seed {}), failure rates raised {:.3e} times",
        check.seed, check.acceleration
    )?;
    writeln!(
        f,
        "  {} losses over {} groups: {:.3e} ± {:.1e} per group and hour (95 %); the model says {:.3e}, {:.1} standard errors away",
        check.losses,
        check.groups,
        check.losses_per_group_hour,
        check.error,
        check.model_losses_per_group_hour,
        check.deviation_standard_errors.abs()
    )
}

/// Nines as printed: rounded down, so that nothing looks better than it is.
fn nines(nines: f64) -> String {
    format!("{:.1}", (nines * 10.0).floor() / 10.0)
}
