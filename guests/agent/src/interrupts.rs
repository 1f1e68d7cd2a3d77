// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the interrupt counts of Linux's `/proc/interrupts`.
//!
//! ```text
//!            CPU0       CPU1
//!  11:       2345       1234     GICv3  27 Level     arch_timer
//!  14:         12          0     GICv3  35 Level     virtio0
//! IPI0:        52         61       Rescheduling interrupts
//! ```

use std::collections::BTreeMap;

/// Returns how often each interrupt of a device was taken, by the name of its handlers, over all
/// CPUs. Interrupts between CPUs are not among them.
pub fn counts(text: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines();
    let cpus = lines
        .next()
        .map_or(0, |head| head.split_whitespace().count());
    let mut counts = BTreeMap::new();
    for line in lines {
        let Some((number, rest)) = line.split_once(':') else {
            continue;
        };
        if number.trim().parse::<u32>().is_err() {
            continue;
        }
        let mut words = rest.split_whitespace();
        let count: u64 = words
            .by_ref()
            .take(cpus)
            .filter_map(|word| word.parse::<u64>().ok())
            .sum();
        // Chip, its number, and for most chips the trigger; then the handlers' names.
        let described: Vec<&str> = words.collect();
        let name = match described
            .iter()
            .position(|word| matches!(*word, "Level" | "Edge"))
        {
            Some(trigger) => described[trigger + 1..].join(" "),
            None => described.last().copied().unwrap_or_default().to_owned(),
        };
        *counts.entry(name).or_default() += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn counts_are_summed_over_cpus_by_handler() {
        // Printed by Debian's 6.12 in a guest.
        let text = "\
           CPU0       CPU1       
 11:       2345       1234     GICv3  27 Level     arch_timer
 14:         12          1     GICv3  35 Level     virtio0, virtio2
 15:          0          0     GICv3  23 Level     arm-pmu
 16:          3          0     GICv3  48 Edge      virtio1
 17:          1          0  9030000.pl061   3 Edge      ACPI:Event
IPI0:        52         61       Rescheduling interrupts
IPI1:       500        400       Function call interrupts
Err:          0
";
        let counts = counts(text);
        let list: Vec<(&str, u64)> = counts.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        assert_eq!(
            list,
            [
                ("ACPI:Event", 1),
                ("arch_timer", 3579),
                ("arm-pmu", 0),
                ("virtio0, virtio2", 13),
                ("virtio1", 3),
            ]
        );
        assert!(super::counts("").is_empty());
    }
}
