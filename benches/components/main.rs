//! What the components cost, each by itself: `cargo bench --bench components [-- NAME…]`.
//!
//! Prints one JSON line a measurement: the name, operations, wall time and this process' CPU time
//! for each, and MiB/s where bytes are moved. Without names all are measured, in a few seconds
//! each, on a temporary directory.

mod coding;
mod metadata_commands;
mod meter;
mod shards;
mod signatures;

fn main() -> anyhow::Result<()> {
    let names: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted =
        |name: &str| names.is_empty() || names.iter().any(|one| name.contains(one.as_str()));
    if wanted("coding") {
        coding::measure()?;
    }
    if wanted("signatures") {
        signatures::measure()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if wanted("shards") {
        runtime.block_on(shards::measure())?;
    }
    if wanted("metadata") {
        runtime.block_on(metadata_commands::measure())?;
    }
    Ok(())
}
