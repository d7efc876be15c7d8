//! Metrics: one recorder for the process, read by the admin listener.

use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of latency histograms in seconds: from a cached read to a stalled disk.
const LATENCY_BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Samples are folded into the histograms this often, so that they don't pile up unread.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Installs the recorder; must be called in a tokio runtime.
pub fn start() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BOUNDS)
        .context("the histogram bounds are not valid")?
        .install_recorder()
        .context("the metrics recorder can't be installed")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
