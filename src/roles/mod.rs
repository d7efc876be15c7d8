//! The roles, each as far as it is the same in a process of its own and in `drystone server`.

pub mod backups;
pub mod disks;
pub mod gateway;
pub mod metadata;
