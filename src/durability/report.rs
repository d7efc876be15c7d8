//! What `drystone durability` finds out: the estimate of the coding asked for, others beside it,
//! what scrubs are worth, and what all of it rests on.

use anyhow::{Context, Result};
use model::coding::Coding;
use model::durability::simulation::{Simulation, accelerate};
use model::durability::{
    Estimate, Inputs, Silent, Spread, Topology, chain, codings_to_compare, estimate,
};
use model::placement::tolerance::{Tolerance, Unit};
use model::placement::{Level, default_coding};
use serde::Serialize;

use super::DurabilityArguments;
use super::quantity::show_share;

/// Scrub intervals that are set beside each other, in days.
const SCRUB_DAYS: [f64; 6] = [1.0, 7.0, 14.0, 30.0, 90.0, 365.25];

/// Stretches of the simulation and losses that each should see.
const STRETCHES: u32 = 200;
const LOSSES_PER_STRETCH: f64 = 20.0;

/// Standard errors on both sides of a mean that hold it in 95 of 100 cases.
const STANDARD_ERRORS_95: f64 = 1.96;

/// Everything that is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub cluster: Cluster,
    /// Where no coding was asked for.
    pub coding_chosen_because: Option<String>,
    pub result: Row,
    pub comparison: Vec<Row>,
    pub scrub: Vec<ScrubRow>,
    pub simulation: Option<Check>,
    pub assumptions: Vec<String>,
}

/// The cluster as it was described.
#[derive(Debug, Serialize)]
pub(super) struct Cluster {
    pub disks: u32,
    pub disk_bytes: f64,
    pub nodes: Option<u32>,
    pub racks: Option<u32>,
    pub disk_afr: f64,
    pub node_afr: f64,
    pub fill: f64,
    pub rebuild_bytes_per_second_per_disk: f64,
    pub detect_hours: f64,
    pub silent_rate: f64,
    pub silent_share: f64,
    pub scrub_days: f64,
    pub target_nines: f64,
}

/// One coding.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub coding: String,
    pub is_asked_for: bool,
    pub overhead: f64,
    pub usable_bytes: f64,
    pub disks_tolerated: u32,
    /// `None` where it wasn't said how many there are, or there is but one.
    pub nodes_tolerated: Option<u32>,
    pub racks_tolerated: Option<u32>,
    pub shards_per_node_max: Option<u8>,
    pub shards_per_rack_max: Option<u8>,
    pub nines: f64,
    pub meets_target: bool,
    pub probability_of_loss_per_year: f64,
    pub probability_of_any_loss_per_year_max: f64,
    pub groups: u64,
    pub years_to_loss: f64,
    pub rebuild_hours: f64,
    pub repair_hours: f64,
    pub rebuild_hours_max_for_target: Option<f64>,
    pub repair_bytes_per_year: f64,
    pub write_quorum: u8,
    pub degraded_write_nines: f64,
}

/// What a scrub interval is worth.
#[derive(Debug, Serialize)]
pub(super) struct ScrubRow {
    pub scrub_days: f64,
    pub nines: f64,
    /// When a silent failure damages all shards of its disk.
    pub nines_worst_case: f64,
}

/// The simulation's word on the model.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub seed: u64,
    /// How many times the failure rates were raised.
    pub acceleration: f64,
    pub groups: usize,
    pub losses: u64,
    pub losses_per_group_hour: f64,
    /// Half the width of the 95 % confidence interval.
    pub error: f64,
    pub model_losses_per_group_hour: f64,
    pub deviation_standard_errors: f64,
}

impl Report {
    pub(super) fn new(arguments: &DurabilityArguments) -> Result<Self> {
        let topology = arguments.topology()?;
        let (wanted, why) = match arguments.coding {
            Some(coding) => (coding, None),
            None => chosen(topology)?,
        };
        let inputs = arguments.inputs(topology, wanted);
        let found = estimate(&inputs)?;
        let row = |inputs: &Inputs, found: &Estimate| Row {
            is_asked_for: inputs.coding == wanted,
            ..Row::new(arguments, topology, inputs, found)
        };
        let result = row(&inputs, &found);
        let comparison = codings_to_compare(wanted, topology.disks)
            .into_iter()
            .map(|coding| {
                let inputs = arguments.inputs(topology, coding);
                Ok(row(&inputs, &estimate(&inputs)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            cluster: Cluster::new(arguments),
            coding_chosen_because: why,
            scrub: scrub_rows(&inputs)?,
            simulation: arguments.simulate.then(|| Check::new(topology, &inputs, arguments.seed)),
            assumptions: assumptions(arguments, &inputs),
            result,
            comparison,
        })
    }
}

/// The coding that a new cluster gets, and why.
fn chosen(topology: Topology) -> Result<(Coding, Option<String>)> {
    let disks = topology.map(Coding::new(1, 0)?).disks;
    let (coding, why) = default_coding(&disks).context("there is no coding for so many disks")?;
    Ok((coding, Some(why)))
}

impl Cluster {
    fn new(arguments: &DurabilityArguments) -> Self {
        Self {
            disks: arguments.disks,
            disk_bytes: arguments.disk_size,
            nodes: arguments.nodes,
            racks: arguments.racks,
            disk_afr: arguments.afr,
            node_afr: arguments.node_afr,
            fill: arguments.fill,
            rebuild_bytes_per_second_per_disk: arguments.rebuild_rate,
            detect_hours: arguments.detect,
            silent_rate: arguments.silent_rate,
            silent_share: arguments.silent_share,
            scrub_days: arguments.scrub_days,
            target_nines: arguments.target,
        }
    }
}

impl Row {
    fn new(
        arguments: &DurabilityArguments,
        topology: Topology,
        inputs: &Inputs,
        found: &Estimate,
    ) -> Self {
        let coding = inputs.coding;
        let Spread { shards_per_node, shards_per_rack, .. } = inputs.spread;
        let tolerance = Tolerance::with(&topology.placed(coding), |_| true);
        let tolerated = |level| tolerance.survives(Unit::Domain(level));
        let (nodes, racks) = (arguments.nodes.is_some(), arguments.racks.is_some());
        Self {
            coding: coding.to_string(),
            is_asked_for: false,
            overhead: found.overhead,
            usable_bytes: arguments.disk_size * f64::from(inputs.disks) / found.overhead,
            disks_tolerated: u32::from(coding.parity()),
            nodes_tolerated: tolerated(Level::Node).filter(|_| nodes),
            racks_tolerated: tolerated(Level::Rack).filter(|_| racks),
            shards_per_node_max: nodes.then_some(shards_per_node),
            shards_per_rack_max: racks.then_some(shards_per_rack),
            nines: found.nines,
            meets_target: found.nines >= inputs.target_nines,
            probability_of_loss_per_year: found.probability_of_loss_per_year,
            probability_of_any_loss_per_year_max: found.probability_of_any_loss_per_year,
            groups: found.groups,
            years_to_loss: found.hours_to_loss / chain::HOURS_PER_YEAR,
            rebuild_hours: found.rebuild_hours,
            repair_hours: found.repair_hours,
            rebuild_hours_max_for_target: found.rebuild_hours_max,
            repair_bytes_per_year: found.repair_bytes_per_year,
            write_quorum: coding.write_quorum(coding.data()),
            degraded_write_nines: found.degraded_write_nines,
        }
    }
}

/// The nines by scrub interval; none when silent failures are left out.
fn scrub_rows(inputs: &Inputs) -> Result<Vec<ScrubRow>> {
    let Some(silent) = inputs.silent else {
        return Ok(Vec::new());
    };
    let nines = |scrub_days: f64, share: f64| -> Result<f64> {
        let silent = Some(Silent { share, scrub_days, ..silent });
        Ok(estimate(&Inputs { silent, ..*inputs })?.nines)
    };
    SCRUB_DAYS
        .into_iter()
        .map(|scrub_days| {
            Ok(ScrubRow {
                scrub_days,
                nines: nines(scrub_days, silent.share)?,
                nines_worst_case: nines(scrub_days, 1.0)?,
            })
        })
        .collect()
}

impl Check {
    fn new(topology: Topology, inputs: &Inputs, seed: u64) -> Self {
        let (acceleration, rates) = accelerate(&inputs.rates(inputs.repair_hours()));
        let map = topology.placed(inputs.coding);
        let node = chain::per_hour(inputs.node_afr) * acceleration;
        let simulation = Simulation::new(&map, inputs.coding, &rates, node);
        let seen = simulation.run(simulation.watch(STRETCHES, LOSSES_PER_STRETCH), seed);
        let expected = 1.0 / rates.hours_to_loss();
        Self {
            seed,
            acceleration,
            groups: seen.groups,
            losses: seen.losses,
            losses_per_group_hour: seen.losses_per_hour,
            error: STANDARD_ERRORS_95 * seen.standard_error,
            model_losses_per_group_hour: expected,
            deviation_standard_errors: seen.deviation(expected),
        }
    }
}

/// What the numbers rest on, in sentences.
fn assumptions(arguments: &DurabilityArguments, inputs: &Inputs) -> Vec<String> {
    let mut lines = vec![
        "Failures are independent of each other. Power, fire, a bad lot of disks, operators and bugs \
         don't enter: these nines are an upper bound."
            .to_owned(),
        domains(arguments, inputs),
        "An object above 256 MiB lies in several groups of disks and is lost as soon as one of them \
         is: its risk is that of one group, times their number."
            .to_owned(),
        "Rebuilds of a stripe go one after another, each at the given rate from the first minute to \
         the last; 'any loss' takes groups that share disks for independent, which is cautious."
            .to_owned(),
    ];
    lines.push(match inputs.silent {
        None => "Silent failures (bit rot, bad sectors) are left out.".to_owned(),
        Some(silent) => format!(
            "Silently, {} of the disks damage {} of their shards in a year; a scrub every {} days \
             finds that.",
            show_share(silent.rate),
            show_share(silent.share),
            silent.scrub_days
        ),
    });
    if arguments.nodes.is_some() && inputs.node_afr <= 0.0 {
        lines.push("No node is lost for good (--node-afr 0).".to_owned());
    }
    lines
}

/// What becomes of the data when a rack or node is away.
fn domains(arguments: &DurabilityArguments, inputs: &Inputs) -> String {
    let coding = inputs.coding;
    let (name, shards) = match (arguments.nodes, arguments.racks) {
        (_, Some(_)) => ("rack", inputs.spread.shards_per_rack),
        (Some(_), None) => ("node", inputs.spread.shards_per_node),
        (None, None) => {
            return "Nodes and racks weren't told (--nodes, --racks): what a lost one takes with it \
                    doesn't enter."
                .to_owned();
        }
    };
    match coding.parity().checked_sub(shards) {
        Some(left) => format!(
            "A {name} keeps at most {shards} of the {} shards of a stripe: with one {name} lost, {} \
             may fail before data is lost.",
            coding.width(),
            match left {
                0 => "no disk".to_owned(),
                1 => "one more disk".to_owned(),
                more => format!("{more} more disks"),
            }
        ),
        None => format!(
            "A {name} keeps up to {shards} of the {} shards of a stripe, and {coding} has {} to \
             spare: one lost {name} is data lost, one down {name} is data out of reach.",
            coding.width(),
            coding.parity()
        ),
    }
}
