//! The detector, by a clock that the tests set.

use super::*;

const STEP: Duration = Duration::from_millis(100);

struct World {
    detector: Detector,
    now: Duration,
}

impl World {
    fn new() -> Self {
        Self { detector: Detector::default(), now: Duration::from_secs(100) }
    }

    /// Every disk answers so many times; the milliseconds that each takes.
    fn answers(&mut self, times: usize, millis: &[u64]) -> Vec<(u32, bool)> {
        let mut verdicts = Vec::new();
        for _ in 0..times {
            for (disk, millis) in (0..).zip(millis) {
                let took = Duration::from_millis(*millis);
                self.detector.record(DiskId(disk), SlowKind::Writes, took, self.now);
            }
            verdicts.extend(self.judge());
            self.now += STEP;
        }
        verdicts
    }

    fn judge(&mut self) -> Vec<(u32, bool)> {
        let verdicts = self.detector.judge(self.now);
        verdicts.iter().map(|verdict| (verdict.disk.0, verdict.is_slow)).collect()
    }

    fn slow(&self) -> Vec<u32> {
        self.detector.slow(SlowKind::Writes).into_iter().map(|disk| disk.0).collect()
    }
}

#[test]
fn one_among_its_peers_is_slow_after_a_few_answers() {
    let mut world = World::new();
    assert_eq!(world.answers(SAMPLES_MIN - 1, &[2, 3, 500, 2]), []);
    assert_eq!(world.answers(1, &[2, 3, 500, 2]), [(2, true)]);
    assert_eq!(world.slow(), [2]);
    let told = world.detector.worst(world.now + Duration::from_secs(5));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].typical, Duration::from_millis(500));
    assert_eq!(told[0].peers, Duration::from_millis(2));
    assert_eq!(told[0].lasting, Duration::from_secs(5) + STEP);
    // And of the other kind nothing is known.
    assert_eq!(world.detector.slow(SlowKind::Reads), []);
}

#[test]
fn a_disk_that_was_well_is_found_out_within_its_next_answers() {
    let mut world = World::new();
    assert_eq!(world.answers(50, &[2, 3, 2, 2]), []);
    assert_eq!(world.answers(TYPICAL_SAMPLES / 2 - 1, &[2, 3, 2, 500]), []);
    assert_eq!(world.answers(1, &[2, 3, 2, 500]), [(3, true)]);
}

#[test]
fn where_all_are_slow_alike_none_is() {
    let mut world = World::new();
    assert_eq!(world.answers(40, &[400, 500, 450, 600]), []);
    // Nor where one is only a few times slower, or fast enough for anybody.
    let mut world = World::new();
    assert_eq!(world.answers(40, &[20, 20, 20, 150]), []);
    let mut world = World::new();
    assert_eq!(world.answers(40, &[1, 1, 1, 49]), []);
}

#[test]
fn two_of_six_are_slow_and_the_slower_comes_first() {
    let mut world = World::new();
    let verdicts = world.answers(40, &[2, 300, 2, 2, 700, 2]);
    assert_eq!(verdicts, [(1, true), (4, true)]);
    assert_eq!(world.slow(), [4, 1]);
    // A gateway is near its own disk, and far from two others; of three, one may be slow.
    let mut world = World::new();
    assert_eq!(world.answers(40, &[2, 400, 410]), []);
    assert_eq!(world.answers(40, &[2, 400, 3]), [(1, true)]);
    // Of two that differ nobody knows which is the usual one, and three of four are the usual.
    let mut world = World::new();
    assert_eq!(world.answers(40, &[2, 700]), []);
    assert_eq!(world.answers(40, &[2, 700, 700, 700]), []);
}

#[test]
fn a_few_hiccups_say_nothing() {
    let mut world = World::new();
    for _ in 0..20 {
        assert_eq!(world.answers(2, &[2, 2, 2, 800]), []);
        assert_eq!(world.answers(6, &[2, 2, 2, 2]), []);
    }
    // Nor do answers of long ago.
    let mut world = World::new();
    world.answers(5, &[2, 2, 2, 800]);
    world.now += WINDOW + STEP;
    assert_eq!(world.answers(5, &[2, 2, 2, 800]), []);
    assert_eq!(world.answers(1, &[2, 2, 2, 800]), [(3, true)]);
}

#[test]
fn it_comes_back_when_it_is_well_and_not_before() {
    let mut world = World::new();
    world.answers(20, &[2, 2, 2, 500]);
    // Half of what makes slow is still too much, and one good answer too little.
    assert_eq!(world.answers(30, &[2, 2, 2, 40]), []);
    assert_eq!(world.answers(HEALING_SAMPLES - 1, &[2, 2, 2, 3]), []);
    assert_eq!(world.answers(1, &[2, 2, 2, 3]), [(3, false)]);
    assert_eq!(world.slow(), [0u32; 0]);
}

#[test]
fn it_comes_back_on_an_idle_cluster_too() {
    let mut world = World::new();
    world.answers(20, &[2, 2, 2, 500]);
    // Only the slow one is measured, every few seconds; the peers are long silent.
    world.now += Duration::from_secs(50);
    let began = world.now;
    let mut back = None;
    for _ in 0..20 {
        world.now += Duration::from_secs(3);
        let took = Duration::from_millis(3);
        world.detector.record(DiskId(3), SlowKind::Writes, took, world.now);
        if world.judge() == [(3, false)] {
            back = Some(world.now.saturating_sub(began));
            break;
        }
    }
    assert_eq!(back, Some(Duration::from_secs(18)));
}

#[test]
fn one_that_relapses_has_to_be_well_for_longer() {
    let mut world = World::new();
    let mut last = 0;
    for expected in [6, 12, 24, 24] {
        world.answers(20, &[2, 2, 2, 500]);
        assert_eq!(world.slow(), [3]);
        last = 0;
        while world.slow() == [3] {
            world.answers(1, &[2, 2, 2, 2]);
            last += 1;
        }
        assert_eq!(last, expected);
    }
    assert_eq!(last, SAMPLES_KEPT);
    // That is forgotten after a while.
    world.now += RELAPSE_WITHIN + STEP;
    world.answers(20, &[2, 2, 2, 500]);
    assert_eq!(world.slow(), [3]);
    world.answers(HEALING_SAMPLES, &[2, 2, 2, 2]);
    assert_eq!(world.slow(), [0u32; 0]);
}

#[test]
fn one_that_nothing_is_heard_of_is_forgotten() {
    let mut world = World::new();
    world.answers(20, &[2, 2, 2, 500]);
    world.now += SILENT_AFTER.saturating_sub(STEP);
    assert_eq!(world.judge(), []);
    world.now += STEP;
    assert_eq!(world.judge(), [(3, false)]);
    let forgotten = world.detector.keep(|disk| disk != DiskId(3));
    assert_eq!(forgotten, [(DiskId(3), SlowKind::Writes)]);
    assert_eq!(world.detector.tracks.len(), 3);
}
