// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two guests run the default selection of xtest on one OP-TEE at the same time.

use anyhow::{Result, ensure};
use postern_qemu::guest::{Severity, kernel_severity};
use postern_qemu::prepare::Flavour;
use postern_qemu::run::{RunPlan, run};
use postern_qemu::selection::{Baseline, Selection};
use postern_tests::Lab;

#[test]
fn two_guests_share_one_optee() -> Result<()> {
    let lab = Lab::new("two-guests")?;
    let (machine, versions) = lab.parts(&lab.system("two.toml")?, Flavour::Shared)?;
    let baseline = Baseline::load(&versions, &lab.paths.run("native").join("report.json"))?;
    ensure!(
        baseline.is_some(),
        "there is no native run of xtest {} to compare with",
        versions.xtest
    );
    let plan = RunPlan {
        machine,
        versions,
        system: "two.toml".into(),
        selection: Selection::Default,
        baseline,
        folder: lab.folder.clone(),
    };
    let report = run(&plan)?;
    ensure!(report.passed(), "{:#?}", report.why);
    // The verdict has compared every case with the bare machine's; these checks are additional.
    let [a, b] = &report.guests[..] else {
        anyhow::bail!("{} guests", report.guests.len())
    };
    for guest in [a, b] {
        let Some(stats) = &guest.stats else {
            anyhow::bail!("{}: no counters", guest.name)
        };
        ensure!(
            stats.denied == 0,
            "{}: requests of an honest guest were denied: {stats:?}",
            guest.name
        );
        // A busy host makes things slow; the kernel must not report anything else.
        let complaints = guest
            .warnings
            .iter()
            .filter(|line| kernel_severity(line) != Some(Severity::Slow));
        let complaints: Vec<&String> = complaints.collect();
        ensure!(complaints.is_empty(), "{}: {complaints:#?}", guest.name);
    }
    Ok(())
}
