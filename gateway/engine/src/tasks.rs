//! The tasks that an engine owns: what each gateway does by itself, and the jobs that one gateway at a time
//! does for the whole cluster.
//!
//! What always holds: they end with the last handle of their engine, or before, when they are told to.

use std::sync::{Arc, Mutex, PoisonError};

use model::node::Job;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::BoxFuture;
use wire::clock::timeout;

use crate::shared::Shared;
use crate::{
    collect, discard, lease, outstanding, reach, rebalance, recode, reconcile, repair,
    repair_report, slow, usage,
};

/// The engine's own tasks; told to stop when the last handle is gone.
pub(crate) struct Tasks {
    stop: watch::Sender<bool>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Tasks {
    /// Starts all of them; must be called in a tokio runtime.
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut handles = vec![
            tokio::spawn(keep_map(Arc::clone(shared), stopping.clone())),
            tokio::spawn(usage::keep(Arc::clone(shared), stopping.clone())),
            tokio::spawn(reach::watch(Arc::clone(shared), stopping.clone())),
            tokio::spawn(slow::watch(Arc::clone(shared), stopping.clone())),
            tokio::spawn(discard::run(Arc::clone(shared), stopping.clone())),
            tokio::spawn(repair_report::run(Arc::clone(shared), stopping.clone())),
            tokio::spawn(outstanding::keep(Arc::clone(shared), stopping.clone())),
        ];
        handles.extend(cluster_jobs(shared, &stopping));
        // After the jobs, so that it takes all of their leases in its first round.
        handles.push(tokio::spawn(lease::keep(Arc::clone(shared), stopping)));
        Self { stop, handles: Mutex::new(handles) }
    }

    /// Ends them; `shutdown_patience` is how long they may take for what they have begun.
    pub(crate) async fn shut_down(&self, shared: &Shared) {
        self.stop.send_replace(true);
        let handles = {
            let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *handles)
        };
        let aborts: Vec<_> = handles.iter().map(JoinHandle::abort_handle).collect();
        let patience = shared.options.shutdown_patience;
        let all = futures_util::future::join_all(handles);
        if timeout(&*shared.clock, patience, all).await.is_err() {
            for task in aborts {
                task.abort();
            }
        }
    }
}

/// Starts the jobs that one gateway at a time does for the whole cluster.
fn cluster_jobs(shared: &Arc<Shared>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let start = |job, work: Box<dyn Fn(watch::Receiver<bool>) -> BoxFuture<'static, ()> + Send>| {
        let lease = shared.leases.want(job);
        tokio::spawn(lease::work_while_held(lease, stopping.clone(), work))
    };
    let collector = Arc::clone(shared);
    let mut handles = vec![start(
        Job::Collect,
        Box::new(move |stop| Box::pin(collect::run(Arc::clone(&collector), stop))),
    )];
    if let Some(interval) = shared.options.repair_interval {
        let (repairer, finder) = (Arc::clone(shared), Arc::clone(shared));
        handles.push(start(
            Job::Repair,
            Box::new(move |stop| Box::pin(repair::run(Arc::clone(&repairer), interval, stop))),
        ));
        handles.push(start(
            Job::Repair,
            Box::new(move |stop| Box::pin(reconcile::run_damage(Arc::clone(&finder), stop))),
        ));
    }
    if let Some(interval) = shared.options.move_interval {
        let mover = Arc::clone(shared);
        handles.push(start(
            Job::Move,
            Box::new(move |stop| Box::pin(rebalance::steer(Arc::clone(&mover), interval, stop))),
        ));
        handles.push(tokio::spawn(rebalance::carry(
            Arc::clone(shared),
            interval,
            stopping.clone(),
        )));
    }
    if let Some(interval) = shared.options.recode_interval {
        let recoder = Arc::clone(shared);
        handles.push(start(
            Job::Recode,
            Box::new(move |stop| Box::pin(recode::run(Arc::clone(&recoder), interval, stop))),
        ));
    }
    if let Some(interval) = shared.options.reconcile_interval {
        let reconciler = Arc::clone(shared);
        handles.push(start(
            Job::Reconcile,
            Box::new(move |stop| Box::pin(reconcile::run(Arc::clone(&reconciler), interval, stop))),
        ));
    }
    handles
}

/// Keeps the cluster map up to date.
async fn keep_map(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            asked = shared.map.probe() => if let Err(error) = asked {
                tracing::debug!(%error, "the cluster map can't be asked for");
            },
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(shared.options.map_interval) => continue,
            () = shared.map.nudged() => {}
        }
        // The metadata hears of it from the disk's node, which takes a moment too.
        shared.clock.sleep(shared.options.map_interval / 10).await;
    }
}
