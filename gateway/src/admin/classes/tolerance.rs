//! What may be lost before objects of a coding are. Pure.
//!
//! In: the cluster map. Out: a sentence without its full stop. What always holds: it is of the groups
//! that there are for this coding, so that a class which suits the cluster worse than the others is found
//! out before anything is put into it.

use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::ids::PgId;
use model::placement::tolerance::Tolerance;

/// What the groups of a coding survive.
pub(super) fn tolerance_of(map: &ClusterMap, coding: Coding) -> String {
    let others = map.pgs.iter().filter(|pg| pg.coding != coding);
    let others: Vec<PgId> = others.map(|pg| pg.id).collect();
    Tolerance::new(&map.without_pgs(&others)).to_string()
}

#[cfg(test)]
mod tests {
    use model::placement::pgs_to_add;

    use super::*;
    use crate::admin::upkeep::small_cluster::cluster;

    #[test]
    fn a_class_that_no_node_may_be_lost_of_is_told() {
        let mut map = cluster(3, 4, "4+2");
        let wide = Coding::parse("8+2").expect("valid");
        let standard = std::mem::replace(&mut map.coding, wide);
        let groups = pgs_to_add(&map);
        map.coding = standard;
        map.pgs.extend(groups);
        let of_standard = tolerance_of(&map, standard);
        assert!(of_standard.starts_with("survives any 2 disks, 1 node, 1 rack"), "{of_standard}");
        let of_wide = tolerance_of(&map, wide);
        assert!(of_wide.starts_with("survives any 2 disks; not"), "{of_wide}");
        let none = Coding::parse("1+1").expect("valid");
        assert_eq!(tolerance_of(&map, none), "there are no placement groups yet");
    }
}
