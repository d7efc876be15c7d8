//! What the components cost, each by itself: `cargo bench --bench components [-- NAME…]`.
//!
//! Prints one JSON line a measurement: the name, operations, wall time and this process' CPU time
//! for each, and MiB/s where bytes are moved. Without names all but `durability`, `index_scale`,
//! `interference` and `metadata_scale` are measured, in a few seconds each, on a temporary
//! directory.

mod coding;
mod durability;
mod hashing;
mod index_scale;
mod interference;
mod metadata_commands;
mod metadata_scale;
mod meter;
mod placement;
mod raw;
mod redundancy;
mod rpc;
mod shards;
mod signatures;

/// The argument that appends and reads so many small shards: `shards_repeat=APPENDS,READS`.
const REPEAT: &str = "shards_repeat=";

fn main() -> anyhow::Result<()> {
    let names: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [first, rest @ ..] = names.as_slice()
        && let Some(phase) = first.strip_prefix(index_scale::PHASE)
    {
        return index_scale::run_phase(phase, rest.concat().as_ref());
    }
    let wanted =
        |name: &str| names.is_empty() || names.iter().any(|one| name.contains(one.as_str()));
    let named = |name: &str| names.iter().any(|one| one == name);
    if wanted("coding") {
        coding::measure()?;
    }
    if wanted("hashing") {
        hashing::measure();
    }
    if wanted("signatures") {
        signatures::measure()?;
    }
    if wanted("placement") {
        placement::measure()?;
    }
    if wanted("redundancy") {
        redundancy::measure()?;
    }
    if named("durability") {
        durability::measure()?;
    }
    if named("index_scale") {
        index_scale::measure()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if wanted("shards") {
        runtime.block_on(shards::measure())?;
    }
    if named("interference") {
        runtime.block_on(interference::measure())?;
    }
    for counts in names.iter().filter_map(|name| name.strip_prefix(REPEAT)) {
        let (appends, reads) = counts.split_once(',').unwrap_or((counts, "0"));
        runtime.block_on(shards::repeat(appends.parse()?, reads.parse()?))?;
    }
    if wanted("rpc") {
        runtime.block_on(rpc::measure())?;
    }
    if wanted("metadata") {
        runtime.block_on(metadata_commands::measure())?;
    }
    if named("metadata_scale") {
        runtime.block_on(metadata_scale::measure(metadata_scale::VERSIONS))?;
    }
    for versions in names.iter().filter_map(|name| name.strip_prefix(metadata_scale::SIZED)) {
        runtime.block_on(metadata_scale::measure(versions.parse()?))?;
    }
    Ok(())
}
