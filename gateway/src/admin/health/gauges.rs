//! The health as gauges, for `/metrics`: the same codes that `/health` and `/status` tell.
//!
//! A code that is gone goes back to 0, so that alarms end.

use metrics::gauge;

use super::{Code, Colour, Reason};

/// Sets the gauges of all codes.
pub fn set(colour: Colour, reasons: &[Reason]) {
    gauge!("drystone_health_status").set(match colour {
        Colour::Green => 0.0,
        Colour::Yellow => 1.0,
        Colour::Red => 2.0,
    });
    for code in Code::ALL {
        let word = code.as_str();
        let of_code = || reasons.iter().filter(|reason| reason.code == word);
        let is_heard = of_code().any(|reason| !reason.is_muted());
        let is_muted = of_code().any(Reason::is_muted);
        gauge!("drystone_health", "code" => word).set(f64::from(u8::from(is_heard)));
        gauge!("drystone_health_muted", "code" => word).set(f64::from(u8::from(is_muted)));
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_code_is_1_while_it_is_told_and_0_after() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let has = |line: &str| {
            let text = recorder.handle().render();
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        };
        metrics::with_local_recorder(&recorder, || {
            let down = Reason::warning(Code::DiskDown, String::new());
            let muted = Reason { muted_until: Some("then".to_owned()), ..down.clone() };
            set(Colour::Yellow, &[down]);
            has("drystone_health_status 1");
            has("drystone_health{code=\"DISK_DOWN\"} 1");
            has("drystone_health{code=\"META_NO_QUORUM\"} 0");
            set(Colour::Green, &[muted]);
            has("drystone_health_status 0");
            has("drystone_health{code=\"DISK_DOWN\"} 0");
            has("drystone_health_muted{code=\"DISK_DOWN\"} 1");
            set(Colour::Red, &[]);
            has("drystone_health_status 2");
            has("drystone_health_muted{code=\"DISK_DOWN\"} 0");
        });
    }
}
