//! Which replicas should vote: a pure planner. What it says is carried out by the keeper of the
//! process that holds the leader.
//!
//! In: where the cluster map places replicas, and what the leader knows of each. Out: one step, or
//! none when everything is as it should be. What always holds: only a replica whose log is nearly
//! complete becomes a voter; a voter that is there and placed loses its vote only to a replica on
//! another node, where too many share one; a replica that isn't placed any more loses it as soon as
//! the others can go on without it; no set of voters is wanted of which no majority is ready.
//!
//! Once three nodes keep replicas, one of each votes, up to [`VOTERS_MAX`], an odd number. What is
//! more waits as a learner, with all the data, to take a lost voter's place.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::NodeId;

/// More voters than this cost writes without making loss less likely in practice.
pub const VOTERS_MAX: usize = 5;

/// With so many nodes, the loss of one needn't cost the quorum: then no node has two votes.
const NODES_TO_SPREAD: usize = 3;

/// Everything that the decision depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The leader.
    pub leader: u64,
    /// Whether a membership change is half done.
    pub is_joint: bool,
    /// Those that vote.
    pub voters: BTreeSet<u64>,
    /// Those that follow without a vote.
    pub learners: BTreeSet<u64>,
    /// Where the cluster map has replicas.
    pub placed: BTreeMap<u64, NodeId>,
    /// Members that answered lately and lack little of the log; the leader among them.
    pub ready: BTreeSet<u64>,
    /// Voters that haven't answered for long.
    pub silent: BTreeSet<u64>,
    /// Placed replicas that are no members yet and answer.
    pub waiting: BTreeSet<u64>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finish the change that is half done.
    Finish,
    /// Let a replica follow.
    AddLearner(u64),
    /// Let exactly these vote.
    SetVoters(BTreeSet<u64>),
    /// Give the lead to this voter: the leader is to lose its vote.
    HandOver(u64),
    /// Let a replica without a vote go.
    RemoveLearner(u64),
    /// Take a replica out of the cluster map: its node has a voter.
    Forget(u64),
}

/// The next step; `None` when there is nothing to do.
pub fn plan(now: &Situation) -> Option<Step> {
    // Before the map says where replicas are, it is no reason to change anything.
    if now.placed.is_empty() || !now.voters.iter().any(|id| now.placed.contains_key(id)) {
        return None;
    }
    if now.is_joint {
        return Some(Step::Finish);
    }
    if let Some(id) = now.waiting.first() {
        return Some(Step::AddLearner(*id));
    }
    let target = choose_voters(now);
    let is_settled = target == now.voters;
    if !is_settled && let Some(step) = towards(now, target) {
        return Some(step);
    }
    if let Some(id) = now.learners.iter().find(|id| !now.placed.contains_key(id)) {
        return Some(Step::RemoveLearner(*id));
    }
    // What isn't settled may need every replica that there is.
    surplus(now).filter(|_| is_settled).map(Step::Forget)
}

/// How many of so many may vote: an even number tolerates no more losses than the odd one below.
pub fn odd(count: usize) -> usize {
    let count = count.min(VOTERS_MAX);
    count - usize::from(count > 0 && count.is_multiple_of(2))
}

/// The leader gives up its own vote last, when somebody else leads. `None` when the others must
/// catch up first: without a ready majority, the new voters could commit nothing.
fn towards(now: &Situation, target: BTreeSet<u64>) -> Option<Step> {
    if !now.is_able(&target) {
        // Votes may be added nevertheless, if that leaves a majority ready.
        return set_voters(now, &target | &now.voters);
    }
    if target.contains(&now.leader) {
        return Some(Step::SetVoters(target));
    }
    let is_heir = |id: &&u64| now.voters.contains(id) && now.ready.contains(id);
    if let Some(heir) = target.iter().find(is_heir) {
        return Some(Step::HandOver(*heir));
    }
    let mut target = target;
    target.insert(now.leader);
    set_voters(now, target)
}

fn set_voters(now: &Situation, target: BTreeSet<u64>) -> Option<Step> {
    (target != now.voters && now.is_able(&target)).then_some(Step::SetVoters(target))
}

fn choose_voters(now: &Situation) -> BTreeSet<u64> {
    let is_placed = |id: &&u64| now.placed.contains_key(id);
    let kept: BTreeSet<u64> = now.voters.iter().filter(is_placed).copied().collect();
    let candidates: Vec<u64> = now
        .learners
        .iter()
        .filter(is_placed)
        .filter(|id| now.ready.contains(id))
        .copied()
        .collect();
    let nodes = now.nodes(kept.iter().chain(&candidates));
    let is_spread = nodes.len() >= NODES_TO_SPREAD;
    let mut chosen = if is_spread { one_per_node(now, &kept) } else { kept.clone() };
    let wanted = if is_spread { odd(nodes.len()) } else { odd(kept.len() + candidates.len()) };
    let mut spares = candidates.into_iter();
    let mut next_spare = |chosen: &BTreeSet<u64>| {
        let taken = now.nodes(chosen);
        spares.find(|id| !is_spread || now.placed.get(id).is_none_or(|node| !taken.contains(node)))
    };
    let lost: Vec<u64> =
        chosen.iter().filter(|id| now.silent.contains(id) && **id != now.leader).copied().collect();
    while chosen.len() < wanted {
        let Some(spare) = next_spare(&chosen) else { break };
        chosen.insert(spare);
    }
    for id in lost {
        let Some(spare) = next_spare(&chosen) else { break };
        chosen.remove(&id);
        chosen.insert(spare);
    }
    chosen
}

/// Of several voters on a node: the leader, else one that is ready, else the oldest.
fn one_per_node(now: &Situation, kept: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut best: BTreeMap<NodeId, u64> = BTreeMap::new();
    let rank = |id: u64| (id != now.leader, !now.ready.contains(&id), id);
    for id in kept {
        let Some(node) = now.placed.get(id) else { continue };
        let known = best.entry(*node).or_insert(*id);
        if rank(*id) < rank(*known) {
            *known = *id;
        }
    }
    best.into_values().collect()
}

/// A replica without a vote on a node that has a voter, once votes are spread.
fn surplus(now: &Situation) -> Option<u64> {
    let voting = now.nodes(&now.voters);
    let is_surplus = |id: &u64, node: &NodeId| !now.voters.contains(id) && voting.contains(node);
    let mut surplus = now.placed.iter().filter(|(id, node)| is_surplus(id, node));
    let first = surplus.next().map(|(id, _)| *id);
    first.filter(|_| voting.len() >= NODES_TO_SPREAD)
}

impl Situation {
    /// Whether these, if they voted, could commit now.
    fn is_able(&self, voters: &BTreeSet<u64>) -> bool {
        voters.intersection(&self.ready).count() * 2 > voters.len()
    }

    fn nodes<'a>(&self, ids: impl IntoIterator<Item = &'a u64>) -> BTreeSet<NodeId> {
        ids.into_iter().filter_map(|id| self.placed.get(id)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `voters`, `learners` and `waiting` are "replica@node" lists; a trailing `!` means silent,
    /// `?` not ready, `-` not placed.
    fn situation(leader: u64, voters: &str, learners: &str, waiting: &str) -> Situation {
        let mut now = Situation { leader, ..Situation::default() };
        let mut read = |text: &str| -> BTreeSet<u64> {
            text.split_whitespace()
                .map(|word| {
                    let plain = word.trim_end_matches(['!', '?', '-']);
                    let (id, node) = plain.split_once('@').expect("replica@node");
                    let id: u64 = id.parse().expect("a number");
                    if !word.contains('-') {
                        now.placed.insert(id, NodeId(node.parse().expect("a number")));
                    }
                    if word.contains('!') {
                        now.silent.insert(id);
                    } else if !word.contains('?') {
                        now.ready.insert(id);
                    }
                    id
                })
                .collect()
        };
        let (voters, learners, waiting) = (read(voters), read(learners), read(waiting));
        Situation { voters, learners, waiting, ..now }
    }

    fn voters(ids: &[u64]) -> Step {
        Step::SetVoters(ids.iter().copied().collect())
    }

    #[test]
    fn nothing_is_done_without_cause() {
        for (all, spares) in [
            ("1@1", ""),
            ("1@1 2@1 3@1 4@1 5@1", ""),
            ("1@1 2@2 3@3", ""),
            // A dead voter without a successor stays: so does the quorum's size.
            ("1@1 2@2 3@3!", ""),
            // A fourth is kept as a spare.
            ("1@1 2@2 3@3", "4@4"),
            ("1@1", "2@2"),
            ("1@1 2@1 3@1 4@1 5@1", "6@2"),
            ("1@1 2@2 3@3", "4@4? 5@5?"),
        ] {
            assert_eq!(plan(&situation(1, all, spares, "")), None, "{all} {spares}");
        }
        // A map that doesn't know replicas yet says nothing of them.
        assert_eq!(plan(&situation(1, "1@1- 2@1- 3@1-", "", "")), None);
    }

    #[test]
    fn a_new_replica_follows_and_votes_when_the_number_is_odd_again() {
        assert_eq!(plan(&situation(1, "1@1", "", "2@2")), Some(Step::AddLearner(2)));
        assert_eq!(plan(&situation(1, "1@1", "2@2", "3@3")), Some(Step::AddLearner(3)));
        assert_eq!(plan(&situation(1, "1@1", "2@2 3@3?", "")), None);
        assert_eq!(plan(&situation(1, "1@1", "2@2 3@3", "")), Some(voters(&[1, 2, 3])));
        assert_eq!(plan(&situation(1, "1@1 2@2", "3@3", "")), Some(voters(&[1, 2, 3])));
        assert_eq!(
            plan(&situation(1, "1@1 2@2 3@3", "4@4 5@5", "")),
            Some(voters(&[1, 2, 3, 4, 5]))
        );
        assert_eq!(plan(&situation(1, "1@1 2@2 3@3 4@4 5@5", "6@6 7@7", "")), None);
    }

    #[test]
    fn a_crowded_node_hands_votes_to_others_and_then_forgets() {
        let crowded = "1@1 2@1 3@1 4@1 5@1";
        assert_eq!(plan(&situation(3, crowded, "6@2 7@3?", "")), None);
        assert_eq!(plan(&situation(3, crowded, "6@2 7@3", "")), Some(voters(&[3, 6, 7])));
        let spread = situation(3, "3@1 6@2 7@3", "1@1 2@1 4@1 5@1", "");
        assert_eq!(plan(&spread), Some(Step::Forget(1)));
        let forgotten = situation(3, "3@1 6@2 7@3", "1@1- 2@1", "");
        assert_eq!(plan(&forgotten), Some(Step::RemoveLearner(1)));
    }

    #[test]
    fn what_isnt_placed_loses_its_vote() {
        assert_eq!(plan(&situation(1, "1@1 2@2 3@3-", "", "")), Some(voters(&[1, 2])));
        assert_eq!(plan(&situation(1, "1@1 2@2 3@3-", "4@3", "")), Some(voters(&[1, 2, 4])));
        assert_eq!(plan(&situation(1, "1@1- 2@2 3@3", "", "")), Some(Step::HandOver(2)));
        assert_eq!(plan(&situation(1, "1@1- 2@2? 3@3", "4@4", "")), Some(Step::HandOver(3)));
        // The only voter is to go: its successor votes beside it first.
        assert_eq!(plan(&situation(2, "1@1 2@2-", "", "")), Some(Step::HandOver(1)));
    }

    #[test]
    fn no_vote_is_taken_before_a_majority_of_the_rest_is_ready() {
        for (leader, all, spares) in [
            (1, "1@1 2@2? 3@3-", ""),
            (1, "1@1 2@2! 3@3-", "4@4?"),
            (1, "1@1- 2@2? 3@3", ""),
            (1, "1@1- 2@2? 3@3?", ""),
            (1, "1@1- 2@2!", ""),
            (1, "1@1 2@2? 3@3? 4@4- 5@5-", ""),
            // Several votes on a node hold the majority until the others have caught up.
            (1, "1@1 2@1 3@1 6@2? 7@3?", ""),
        ] {
            assert_eq!(plan(&situation(leader, all, spares, "")), None, "{all} {spares}");
        }
        let with_a_spare = situation(1, "1@1 2@2? 3@3-", "4@4", "");
        assert_eq!(plan(&with_a_spare), Some(voters(&[1, 2, 4])));
    }

    #[test]
    fn a_silent_voter_makes_room_for_a_spare() {
        assert_eq!(plan(&situation(1, "1@1 2@2 3@3!", "4@4", "")), Some(voters(&[1, 2, 4])));
        assert_eq!(plan(&situation(1, "1@1 2@2 3@3!", "4@4?", "")), None);
        // It comes back as a spare.
        assert_eq!(plan(&situation(1, "1@1 2@2 4@4", "3@3", "")), None);
    }

    #[test]
    fn a_half_done_change_is_finished_first() {
        let now = Situation { is_joint: true, ..situation(1, "1@1 2@2 3@3-", "", "4@4") };
        assert_eq!(plan(&now), Some(Step::Finish));
    }

    #[test]
    fn every_situation_settles_with_a_safe_set_of_voters() {
        use wire::entropy::{Entropy, SeededEntropy};
        for seed in 0..3000 {
            let entropy = SeededEntropy::new(seed);
            let mut now = Situation { leader: 1, ..Situation::default() };
            let nodes = entropy.below(6) + 1;
            for id in 1..=entropy.below(9) + 1 {
                let kind = if id == 1 { 0 } else { entropy.below(3) };
                [&mut now.voters, &mut now.learners, &mut now.waiting][kind as usize].insert(id);
                if id == 1 || entropy.below(6) > 0 {
                    now.placed.insert(id, NodeId(entropy.below(nodes) as u32 + 1));
                }
                if id == 1 || entropy.below(4) > 0 {
                    now.ready.insert(id);
                }
            }
            let mut steps = 0;
            loop {
                let Some(step) = plan(&now) else {
                    let members: BTreeSet<u64> = &now.voters | &now.learners;
                    if members.is_subset(&now.ready) {
                        break;
                    }
                    // It waited for these.
                    now.ready.extend(members);
                    continue;
                };
                steps += 1;
                assert!(steps < 100, "seed {seed} never settles: {now:?}");
                match step {
                    Step::Finish => now.is_joint = false,
                    Step::AddLearner(id) => {
                        assert!(now.waiting.remove(&id) && now.learners.insert(id));
                    }
                    Step::SetVoters(ids) => {
                        assert!(!ids.is_empty() && ids.contains(&now.leader));
                        let added: Vec<u64> = ids.difference(&now.voters).copied().collect();
                        assert!(added.iter().all(|id| now.ready.contains(id)), "seed {seed}");
                        let ready = ids.intersection(&now.ready).count();
                        assert!(ready * 2 > ids.len(), "seed {seed}: {ids:?} of {now:?}");
                        now.learners.extend(now.voters.iter().copied());
                        now.learners.retain(|id| !ids.contains(id));
                        now.voters = ids;
                    }
                    Step::HandOver(id) => {
                        let target = choose_voters(&now);
                        let ready = target.intersection(&now.ready).count();
                        assert!(ready * 2 > target.len(), "seed {seed}: {now:?}");
                        assert!(now.ready.contains(&id), "seed {seed}");
                        now.leader = id;
                    }
                    Step::RemoveLearner(id) => assert!(now.learners.remove(&id)),
                    Step::Forget(id) => {
                        assert!(!now.voters.contains(&id), "seed {seed}");
                        now.placed.remove(&id);
                        now.waiting.remove(&id);
                    }
                }
            }
            assert!(now.voters.iter().all(|id| now.placed.contains_key(id)), "seed {seed}");
        }
    }
}
