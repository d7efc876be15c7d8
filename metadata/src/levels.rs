//! Commands that the cluster's feature level doesn't allow yet are kept out of the log.
//!
//! In: commands, and the level of the cluster. Out: those that may be proposed; then, from their
//! outcomes, an outcome for each of all. What always holds: the order stays; a command of a higher
//! level is refused and never sent to where an older release would have to read it.

use model::command::{CommandEnvelope, Outcome, Refusal};

/// Whether the cluster's nodes know all of these.
pub(crate) fn are_within(commands: &[CommandEnvelope], level: u32) -> bool {
    commands.iter().all(|envelope| envelope.command.level() <= level)
}

/// Takes out the commands that the cluster doesn't know yet; for each of all, whether it stayed.
pub(crate) fn sift(commands: &mut Vec<CommandEnvelope>, level: u32) -> Vec<bool> {
    let is_within = |envelope: &CommandEnvelope| envelope.command.level() <= level;
    let stayed = commands.iter().map(is_within).collect();
    commands.retain(is_within);
    stayed
}

/// An outcome for each of all commands, from those of the ones that stayed; `None` where they are
/// too few.
pub(crate) fn join(stayed: &[bool], outcomes: Vec<Outcome>) -> Option<Vec<Outcome>> {
    let mut outcomes = outcomes.into_iter();
    let refused = || Some(Outcome::Refused(Refusal::LevelTooLow));
    stayed.iter().map(|stayed| if *stayed { outcomes.next() } else { refused() }).collect()
}

#[cfg(test)]
mod tests {
    use model::command::{Command, CommandId};
    use model::ids::NodeId;
    use model::time::Timestamp;

    use super::*;

    #[test]
    fn refusals_stand_where_their_commands_stood() {
        let envelope = |command| CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: Timestamp(0),
            command,
        };
        let founding = || envelope(Command::RemoveNode { node: NodeId(1) });
        let commands =
            || vec![founding(), envelope(Command::AllocateReplica), founding(), founding()];
        assert!(are_within(&commands(), 1));
        assert!(!are_within(&commands(), 0));
        let mut allowed = commands();
        let stayed = sift(&mut allowed, 0);
        assert_eq!(allowed, [founding(), founding(), founding()]);
        let refused = |refusal| Outcome::Refused(refusal);
        let answered =
            vec![Outcome::Done, refused(Refusal::NoSuchNode), refused(Refusal::NodeInUse)];
        let expected = vec![
            Outcome::Done,
            refused(Refusal::LevelTooLow),
            refused(Refusal::NoSuchNode),
            refused(Refusal::NodeInUse),
        ];
        assert_eq!(join(&stayed, answered), Some(expected));
        assert_eq!(join(&stayed, vec![Outcome::Done]), None);
    }
}
